"""Which handler answers which request, and who hears of it."""

from typing import Any

import pytest
import trio

from shoal.dht import Address
from shoal.node.channel import (
    Abort,
    AnyRequest,
    Buffer,
    Caller,
    Done,
    GetManifest,
    ManifestBytes,
    Reply,
    RequestError,
    Status,
)
from shoal.node.volunteer.handlers import Handlers

SOMEBODY = Caller(Address("10.0.0.1", 1))
ABORT = Abort(bytes(16))
MANIFEST = GetManifest(bytes(32))


async def done(caller: Caller, request: Any, payload: Buffer) -> Done:
    return Done()


async def missing(caller: Caller, request: Any, payload: Buffer) -> Reply:
    raise RequestError(Status.NOT_FOUND)


def answer(handlers: Handlers, request: AnyRequest, payload: bytes = b"") -> Reply:
    return trio.run(handlers.answer, SOMEBODY, request, payload)


def status(handlers: Handlers, request: AnyRequest) -> Status:
    with pytest.raises(RequestError) as caught:
        answer(handlers, request)
    return caught.value.failure.status


def test_a_node_that_is_starting_is_busy() -> None:
    assert status(Handlers(), ABORT) is Status.BUSY


def test_a_request_goes_to_the_handler_of_its_type() -> None:
    handlers = Handlers()
    handlers[Abort] = done
    assert answer(handlers, ABORT) == Done()
    assert status(handlers, MANIFEST) is Status.UNSUPPORTED


def test_a_handler_can_be_replaced_by_one_that_asks_the_first() -> None:
    handlers = Handlers()
    handlers.update({Abort: done, GetManifest: missing})
    honest = handlers[Abort]

    async def liar(caller: Caller, request: Any, payload: Buffer) -> Reply:
        assert await honest(caller, request, payload) == Done()
        return ManifestBytes(b"a lie")

    handlers[Abort] = liar
    assert answer(handlers, ABORT) == ManifestBytes(b"a lie")
    assert status(handlers, MANIFEST) is Status.NOT_FOUND


def test_hooks_hear_of_what_was_answered_well_and_of_nothing_else() -> None:
    handlers = Handlers()
    handlers.update({Abort: done, GetManifest: missing})
    heard: list[tuple[Caller, AnyRequest, bytes]] = []

    def hear(caller: Caller, request: Any, payload: Buffer) -> None:
        heard.append((caller, request, bytes(payload)))

    handlers.after(Abort, hear)
    handlers.after(GetManifest, hear)
    answer(handlers, ABORT, b"payload")
    status(handlers, MANIFEST)
    assert heard == [(SOMEBODY, ABORT, b"payload")]
    handlers[Abort] = missing  # the hook stays with the type of request, whichever handler answers
    status(handlers, ABORT)
    handlers[Abort] = done
    answer(handlers, ABORT)
    assert len(heard) == 2
