"""A small peer server to talk to, on a real or a virtual network."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from shoal.dht import Address, Identity, NetworkParameters
from shoal.erasure import BLOCK_BYTES
from shoal.node.channel import (
    AnyRequest,
    Blocks,
    Buffer,
    Caller,
    Done,
    GetHeld,
    GetStatus,
    HeldShares,
    PeerServer,
    Read,
    Reason,
    Reply,
    RequestError,
    Role,
    Status,
    StatusReport,
    StreamNetwork,
    Write,
    Written,
)

SERVER_HOST = "10.0.0.1"


async def answer(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
    """What the test server does; the first byte of the file id of a GetHeld chooses a misfortune."""
    match request:
        case GetHeld(file_id):
            return await _held(file_id[0])
        case Write():
            return Written(-(-len(payload) // BLOCK_BYTES), 0)
        case Read(share_number=number, count=count):
            return Blocks(b"", b"", b"", bytes([number]) * (count * BLOCK_BYTES))
        case GetStatus():
            if caller.role is not Role.ADMIN:
                raise RequestError(Status.FORBIDDEN, Reason.NOT_ADMINISTRATOR, "for the administrator")
            return StatusReport(b"fine")
        case _:
            return Done()


async def _held(misfortune: int) -> Reply:
    if misfortune == 1:
        raise RequestError(Status.NOT_FOUND, text="no such file")
    if misfortune == 2:
        raise LookupError("a bug of ours")
    if misfortune == 3:
        raise RequestError(Status.FULL, Reason.CAPACITY, "no room", 7)
    if misfortune == 4:
        await trio.sleep(5)
    return HeldShares(((1, 99),))


@dataclass
class Served:
    """A server under test."""

    server: PeerServer
    address: Address
    network: StreamNetwork  # as a caller sees it
    identity: Identity

    async def wait_for_connections(self, count: int) -> None:
        """Until the server has noticed that only so many are left."""
        with trio.fail_after(10):
            while self.server.statistics().connections != count:  # noqa: ASYNC110 - the server has no event for this
                await trio.sleep(0.01)


Serve = Callable[..., Awaitable[Served]]


def make_server(identity: Identity, params: NetworkParameters, **options: object) -> PeerServer:
    dispatch = options.pop("dispatch", answer)
    return PeerServer(identity, params, dispatch, entropy=os.urandom, **options)  # type: ignore[arg-type]
