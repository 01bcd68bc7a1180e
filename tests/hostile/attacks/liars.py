"""Attacks by nodes that answer, and lie: about the asker's address, about who else there is, about a bystander."""

import socket

import trio

from hostile.means import Means, Mouth
from shoal.dht import Address, Contact, Identity, NodeId
from shoal.dht.errors import ProtocolError
from shoal.dht.messages import (
    Answered,
    FindNode,
    Frame,
    GetRecords,
    Nodes,
    Ping,
    Pong,
    Query,
    QueryStatus,
    Records,
    Reply,
    ReplyHead,
    Store,
    Stored,
    StoreStatus,
    decode_request,
    encode_reply,
)
from shoal.dht.wire import seal
from shoal.node.channel import GetHolders, PeerError
from shoal.node.holders.statements import unchecked_statement, unpack_statements

LIARS = 40
NAMED = 20
GREET_S = 2.0  # between two calls by which a liar makes itself known
SPACE = 40  # of a liar's disk: it would like to be asked to keep something
BYSTANDER_PORTS = 600
PORTS_FROM = 12_000  # neither of those that the system hands out by itself, nor of the daemons (`kit.fleet`)


async def dictators(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """40 ids that tell every node that it is at the bystander's address. Notes who signs statements with it."""
    claimed = Address(means.brief.bystander, 4_750)
    means.notes["nodes that adopted it"] = 0
    means.nursery.start_soon(_count_adopters, means, claimed)
    await _lie(means, task_status, observed=claimed)


async def _count_adopters(means: Means, claimed: Address) -> None:
    while True:
        adopters = 0
        for victim in means.victims:
            adopters += await _adopted(means, victim, claimed)
        means.notes["nodes that adopted it"] = max(means.notes["nodes that adopted it"], adopters)
        await trio.sleep(GREET_S)


async def _adopted(means: Means, victim: tuple[Address, NodeId], claimed: Address) -> bool:
    """Whether a victim's own statements name the address that we dictated."""
    try:
        async with means.talk(victim) as connection:
            reply = await connection.request(GetHolders(means.file_ids[0]), timeout_s=5)
    except PeerError:
        return False
    statements = [unchecked_statement(each) for each in unpack_statements(bytes(reply.payload))]
    return any(each.node_id == victim[1] and each.address.host == claimed.host for each in statements)


async def pointers(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """20 ids that name ever other ports of a bystander as nodes. Notes what the bystander gets of that."""
    ports = range(PORTS_FROM, PORTS_FROM + BYSTANDER_PORTS)
    await _lie(means, task_status, named=[Address(means.brief.bystander, port) for port in ports], count=20)


async def _lie(
    means: Means,
    task_status: trio.TaskStatus[None],
    *,
    observed: Address | None = None,
    named: list[Address] | None = None,
    count: int = LIARS,
) -> None:
    mouths = [means.mouth(number) for number in range(count)]
    identities = [means.identity() for _ in range(count)]
    league = [Contact(each.node_id, mouth.address) for each, mouth in zip(identities, mouths, strict=True)]
    async with trio.open_nursery() as nursery:
        for identity, mouth in zip(identities, mouths, strict=True):
            liar = _LyingNode(means, identity, mouth, league, observed, named)
            nursery.start_soon(liar.answer)
            nursery.start_soon(liar.greet)
        task_status.started()


class _LyingNode:
    """A node of the DHT that answers every request, wrongly."""

    def __init__(
        self,
        means: Means,
        identity: Identity,
        mouth: Mouth,
        league: list[Contact],
        observed: Address | None,
        named: list[Address] | None,
    ) -> None:
        self._means = means
        self._identity = identity
        self._mouth = mouth
        self._league = league
        self._observed = observed
        self._named = named
        self._cookies: dict[Address, bytes] = {}

    async def greet(self) -> None:
        """Ask every victim something, as a node that serves: so it gets to know us."""
        while True:
            for address, node_id in self._means.victims:
                message = FindNode(self._means.rng.randbytes(32)) if address in self._cookies else Ping()
                cookie = self._cookies.get(address, b"")
                self._mouth.send(self._means.request(self._identity, node_id, message, cookie, serving=True), address)
                await trio.sleep(0.01)
            await trio.sleep(GREET_S)

    async def answer(self) -> None:
        """Answer whatever comes."""
        while True:
            data, source = await self._mouth.receive()
            found = self._means.read(data)
            if found is None:
                continue
            envelope, frame = found
            if frame.is_reply:
                self._cookies[source] = frame.cookie
                continue
            reply = self._reply(frame)
            if reply is not None:
                head = ReplyHead(bytes(16), True, self._observed or source, SPACE)
                body = encode_reply(reply, frame.request_id, head)
                params = self._means.params
                self._mouth.send(seal(body, envelope.node_id, params.network_id, self._identity), source)

    def _reply(self, frame: Frame) -> Reply | None:
        try:
            request = decode_request(frame)
        except ProtocolError:
            return None
        match request:
            case Ping():
                return Pong()
            case FindNode(target):
                return Nodes(self._nodes(target))
            case GetRecords(key=key):
                return Records(self._nodes(key), (), 0)
            case Store(records):
                return Stored((int(StoreStatus.STORED),) * len(records))
            case Query():
                return Answered(int(QueryStatus.NOT_SERVED), b"")
            case _:
                return None

    def _nodes(self, target: bytes) -> tuple[Contact, ...]:
        """Others of the league; or ids close to what is looked for, at addresses of the bystander."""
        rng = self._means.rng
        if self._named is None:
            return tuple(rng.sample(self._league, min(NAMED, len(self._league))))
        close = (NodeId(target[:20] + rng.randbytes(12)) for _ in range(NAMED))
        if self._means.params.pow_bits:
            close = (self._means.identity().node_id for _ in range(NAMED))
        return tuple(Contact(node_id, rng.choice(self._named)) for node_id in close)


class Bystander:
    """Somebody who has nothing to do with any of this, and counts what it is sent."""

    def __init__(self, host: str) -> None:
        self._sockets = []
        for port in range(PORTS_FROM, PORTS_FROM + BYSTANDER_PORTS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind((host, port))
            self._sockets.append(sock)
        self.datagrams = 0
        self.bytes_count = 0

    def look(self) -> None:
        """Count what has come."""
        for sock in self._sockets:
            while True:
                try:
                    data = sock.recv(2048)
                except BlockingIOError:
                    break
                self.datagrams += 1
                self.bytes_count += len(data)

    def close(self) -> None:
        """Close."""
        for sock in self._sockets:
            sock.close()
