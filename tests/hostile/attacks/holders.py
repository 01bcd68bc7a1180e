"""Attacks by holders: named as one with a certificate that cannot be, or real ones whose answers are bent."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import trio

from hostile.means import Means
from kit.certificates import certificates_with
from shoal.dht import Address, DhtService, Identity, NodeId, Reach, UdpNetwork
from shoal.dht.announcer import Announcement
from shoal.dht.records import RecordKey
from shoal.erasure import BLOCK_BYTES, MAX_MANIFEST_BYTES, FileId
from shoal.node import Home, NodeSettings, init_node, open_node
from shoal.node.channel import (
    AnyRequest,
    Blocks,
    Buffer,
    Caller,
    GetHeld,
    GetHolders,
    GetManifest,
    HeldShares,
    HolderList,
    ManifestBytes,
    PeerError,
    Read,
    Reply,
    RequestError,
    Status,
    Survey,
    Surveyed,
    TellHolders,
)
from shoal.node.channel.sockets import accepted_sockets, close_socket, listening_socket
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.announcers import CLASSES, class_key, pack_announcement
from shoal.node.holders.statements import make_statement, pack_statements
from shoal.node.volunteer.handlers import Handler, Handlers

VERSIONS = (1, 3, 5, 127)  # of X.509; only 0 and 2 are ever seen
TELL_S = 2.0
SHOW_S = 5.0
STALL_S = 600.0
CHANGE_S = 1.0  # between two habits of the bent holder


async def certificates(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Named holders whose certificates claim X.509 versions that do not exist. Notes the calls that they got."""
    means.notes["calls"] = 0
    async with trio.open_nursery() as nursery:
        for version in VERSIONS:
            identity = means.identity()
            listener = listening_socket(Address(means.brief.host, 0))
            address = Address.of(*listener.getsockname()[:2])
            nursery.start_soon(_show, means, listener, certificates_with(identity, version))
            nursery.start_soon(_tell_of, means, identity, address)
            await nursery.start(_announce, means, identity, address)
        task_status.started()


async def _show(means: Means, listener: socket.socket, context: ssl.SSLContext) -> None:
    """Answer calls with the certificate."""
    try:
        async with trio.open_nursery() as nursery:
            async for sock, _ in accepted_sockets(listener):
                means.notes["calls"] += 1
                nursery.start_soon(_answer, sock, context)
    finally:
        close_socket(listener)


async def _answer(sock: socket.socket, context: ssl.SSLContext) -> None:
    plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    stream = trio.SSLStream(plain, context, server_side=True)
    with trio.move_on_after(SHOW_S), suppress(trio.BrokenResourceError):
        await stream.do_handshake()
        await stream.receive_some()
    await trio.aclose_forcefully(stream)


async def _tell_of(means: Means, identity: Identity, address: Address) -> None:
    """Tell every volunteer that `identity` holds shares of the files."""
    while True:
        for victim in means.victims:
            for file_id in means.file_ids:
                try:
                    await _tell(means, victim, _statements(means, identity, address, file_id), file_id)
                except PeerError:
                    await trio.sleep(0.01)
        await trio.sleep(TELL_S)


def _statements(means: Means, identity: Identity, address: Address, file_id: FileId) -> bytes:
    now = time.time()
    lease_end = int(now) + MAX_LEASE_S
    return pack_statements(
        make_statement(identity, means.params.network_id, file_id, share, Reach.of(address), lease_end, now).signed
        for share in range(8)
    )


async def _tell(means: Means, victim: tuple[Address, NodeId], payload: bytes, file_id: FileId) -> None:
    async with means.talk(victim) as connection:
        await connection.request(TellHolders(file_id), payload=[payload], timeout_s=5)


async def _announce(
    means: Means,
    identity: Identity,
    address: Address,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Announce the holder in the DHT, as a node that serves there."""
    dht = DhtService(means.params, identity, UdpNetwork(), listen=[address])
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        await dht.bootstrap([Address.parse(each.address) for each in means.brief.victims])
        payload = pack_announcement(list(range(8)), [])
        items = [
            Announcement(RecordKey(class_key(file_id, number)), payload)
            for file_id in means.file_ids
            for number in range(CLASSES)
        ]
        dht.keep_announced(items)
        task_status.started()


# --- a real node, bent


async def bent_holder(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """A volunteer like others, which is given shares, and answers everything wrongly: each second in another way."""
    home = Home.at(Path(means.brief.folder) / f"bent-{time.monotonic_ns()}")
    settings = NodeSettings(listen=(Address(means.brief.host, 0),), reserve_bytes=0)
    init_node(home, settings, means.params)
    async with open_node(home, network=means.network, serve=True) as node:
        await node.wait_joined()
        assert node.serving is not None, "it was opened to serve"
        handlers = node.serving.handlers
        honest = dict(handlers)
        task_status.started()
        for habit in cycle((_spoils, _denies, _lies_at_length, _stalls, _forgets)):
            handlers.update(honest)
            habit(means, handlers)
            await trio.sleep(CHANGE_S)
            status = await node.status()
            means.meter.sent, means.meter.received = status["sent_bytes"], status["received_bytes"]


Habit = Callable[[Means, Handlers], None]


def _spoils(means: Means, handlers: Handlers) -> None:
    """Every block with a flipped bit."""
    honest = handlers[Read]

    async def read(caller: Caller, request: Read, payload: Buffer) -> Reply:
        reply = await honest(caller, request, payload)
        assert isinstance(reply, Blocks), "a read is answered with blocks"
        spoilt = bytearray(reply.payload)
        if spoilt:
            spoilt[means.rng.randrange(len(spoilt))] ^= 1
        return Blocks(reply.share_proof, reply.data_leaves, reply.data_proof, bytes(spoilt))

    handlers[Read] = read


def _denies(means: Means, handlers: Handlers) -> None:
    """It says that it has nothing."""
    for kind in (Read, GetManifest, GetHolders, GetHeld, Survey):
        handlers[kind] = _failing(Status.NOT_FOUND)


def _stalls(means: Means, handlers: Handlers) -> None:
    """It never answers."""

    async def stall(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        await trio.sleep(STALL_S)
        raise RequestError(Status.BUSY)

    for kind in (Read, GetManifest, GetHolders, Survey):
        handlers[kind] = stall


def _forgets(means: Means, handlers: Handlers) -> None:
    """It claims all shares and has none."""

    async def held(caller: Caller, request: GetHeld, payload: Buffer) -> Reply:
        return HeldShares(tuple((share, int(time.time()) + MAX_LEASE_S) for share in range(256)))

    handlers[GetHeld] = held
    handlers[Read] = _failing(Status.INTERNAL)


def _lies_at_length(means: Means, handlers: Handlers) -> None:
    """Answers as long as they may be, of junk."""
    rng = means.rng

    async def manifest(caller: Caller, request: GetManifest, payload: Buffer) -> Reply:
        return ManifestBytes(rng.randbytes(MAX_MANIFEST_BYTES))

    async def holders(caller: Caller, request: GetHolders, payload: Buffer) -> Reply:
        return HolderList(rng.randbytes(2**20))

    async def survey(caller: Caller, request: Survey, payload: Buffer) -> Reply:
        return Surveyed(2**53, rng.randbytes(2**20))

    async def read(caller: Caller, request: Read, payload: Buffer) -> Reply:
        return Blocks(rng.randbytes(96), rng.randbytes(32), b"", rng.randbytes(request.count * BLOCK_BYTES))

    handlers.update({GetManifest: manifest, GetHolders: holders, Survey: survey, Read: read})


def _failing(status: Status) -> Handler:
    async def fail(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        raise RequestError(status)

    return fail
