"""Queries: small questions of the layer above, by datagram."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from kit.virtual_dht import Lab
from shoal.dht import Address, Contact, DhtService, NetworkParameters, NoReplyError, UnsupportedError
from shoal.dht.endpoint import MAX_WORK, MAX_WORK_OF_PLACE
from shoal.dht.messages import MAX_QUERY_BYTES

TOPIC = 7


@pytest.fixture
def lab(make_lab: Callable[..., Lab], params: NetworkParameters) -> Lab:
    return make_lab(params)


@pytest.fixture
async def pair(lab: Lab) -> tuple[DhtService, DhtService, Contact]:
    """The node that asks, the node that answers, and the latter's contact."""
    asking, answering = await lab.grid(2)
    return asking, answering, contact_of(asking, answering)


def contact_of(asking: DhtService, answering: DhtService) -> Contact:
    (contact,) = [each for each in asking.contacts() if each.node_id == answering.identity.node_id]
    return contact


async def ask_in_vain(asking: DhtService, contact: Contact) -> None:
    with pytest.raises(NoReplyError):
        await asking.query(contact, TOPIC, b"?")


@asynccontextmanager
async def flooded(asking: DhtService, contact: Contact, count: int) -> AsyncIterator[None]:
    """So many queries at once, none of which gets an answer. The block begins when all are under way."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask_in_vain, asking, contact)
        await trio.sleep(0.1)
        yield


async def test_the_asker_is_known_and_the_answer_comes_back(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact]
) -> None:
    asking, answering, contact = pair
    heard = []

    async def handler(asker: Contact, payload: bytes) -> bytes:
        heard.append(asker.node_id)
        await trio.sleep(0.1)
        return payload[::-1]

    answering.serve(TOPIC, handler)
    assert await asking.query(contact, TOPIC, b"abc") == b"cba"
    assert set(heard) == {asking.identity.node_id}
    assert await asking.query(contact, TOPIC, b"") == b""
    longest = bytes(range(256)) * 4
    assert len(longest) == MAX_QUERY_BYTES
    assert await asking.query(contact, TOPIC, longest) == longest[::-1]
    with pytest.raises(ValueError, match="over the limit"):
        await asking.query(contact, TOPIC, longest + b"x")


async def test_a_long_answer_is_asked_for_again_with_the_cookie(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact], lab: Lab
) -> None:
    asking, answering, contact = pair

    async def handler(asker: Contact, payload: bytes) -> bytes:
        return bytes(1_000)

    answering.serve(TOPIC, handler)
    await trio.sleep(1_000)  # cookies are good for minutes
    before = len(lab.network.sent)
    assert await asking.query(contact, TOPIC, b"short") == bytes(1_000)
    exchanged = [
        size for source, destination, size in lab.network.sent[before:] if contact.address in (source, destination)
    ]
    assert exchanged[0] == 192
    assert exchanged[1] <= exchanged[0]
    assert exchanged[3] > 1_000
    assert len(exchanged) == 4


@pytest.mark.parametrize("answer", [None, bytes(MAX_QUERY_BYTES + 1)])
async def test_what_is_not_understood_or_not_served_is_said_so(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact], answer: bytes | None
) -> None:
    asking, answering, contact = pair

    async def handler(asker: Contact, payload: bytes) -> bytes | None:
        return answer

    answering.serve(TOPIC, handler)
    for topic in (TOPIC, TOPIC + 1):
        with pytest.raises(UnsupportedError):
            await asking.query(contact, topic, b"?")


async def test_work_is_bounded_in_number_and_in_time(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact]
) -> None:
    """A handler that hangs holds up nobody else, and no more than so many of its kind."""
    asking, answering, contact = pair
    begun = 0

    async def handler(asker: Contact, payload: bytes) -> None:
        nonlocal begun
        begun += 1
        await trio.sleep(3_600)

    answering.serve(TOPIC, handler)

    async with flooded(asking, contact, 2 * MAX_WORK_OF_PLACE):
        assert begun == MAX_WORK_OF_PLACE
        assert await asking.find_closest(bytes(32)) != []
    assert answering.statistics().dropped["busy"] >= MAX_WORK_OF_PLACE
    await trio.sleep(20)
    begun = 0
    await ask_in_vain(asking, contact)
    assert begun == 3


async def test_one_place_leaves_room_for_others(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    flooding, asking, answering = await lab.grid(3)
    contact = contact_of(asking, answering)

    async def handler(asker: Contact, payload: bytes) -> bytes:
        if asker.node_id == flooding.identity.node_id:
            await trio.sleep(3_600)
        return b"here"

    answering.serve(TOPIC, handler)

    async with flooded(flooding, contact, 2 * MAX_WORK):
        begun = trio.current_time()
        assert await asking.query(contact, TOPIC, b"?") == b"here"
        assert trio.current_time() - begun < 0.5


async def test_what_the_gate_refuses_comes_again_with_a_cookie(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact]
) -> None:
    asking, answering, contact = pair
    admitted: list[Address | None] = []

    async def handler(asker: Contact, payload: bytes) -> bytes:
        return payload

    def only_proven(source: Address | None, size: int, now: float) -> bool:
        admitted.append(source)
        return source is not None and size < 3

    answering.serve(TOPIC, handler, only_proven)
    await trio.sleep(3_600)  # cookies are good for minutes
    assert await asking.query(contact, TOPIC, b"ab") == b"ab"
    assert [source and source.host for source in admitted] == [None, asking.addresses[0].host]
    with pytest.raises(UnsupportedError):
        await asking.query(contact, TOPIC, b"abc")


async def test_a_handler_that_fails_is_counted_and_ends_nothing(
    autojump_clock: trio.testing.MockClock,
    pair: tuple[DhtService, DhtService, Contact],
    caplog: pytest.LogCaptureFixture,
) -> None:
    asking, answering, contact = pair

    async def handler(asker: Contact, payload: bytes) -> None:
        raise RuntimeError("a bug")

    answering.serve(TOPIC, handler)
    await ask_in_vain(asking, contact)
    assert answering.statistics().dropped["bug"] == 3
    assert "failed on a bug" in caplog.text
    assert await asking.find_closest(bytes(32)) != []


async def test_a_node_that_ends_while_it_works_leaves_nothing(
    autojump_clock: trio.testing.MockClock, pair: tuple[DhtService, DhtService, Contact], lab: Lab
) -> None:
    asking, answering, contact = pair

    async def handler(asker: Contact, payload: bytes) -> Any:
        await trio.sleep(1)
        return b"too late"

    answering.serve(TOPIC, handler)
    async with flooded(asking, contact, 1):
        lab.stop(answering)
