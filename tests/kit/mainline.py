"""A small Mainline DHT in memory: nodes that know all others, answer as BEP 5 says, and keep what is announced."""

from collections.abc import Callable
from random import Random

from shoal.dht import Address
from shoal.node.reach.rendezvous.bencode import Value, decode, encode

Answer = Callable[["MainlineNode", dict[bytes, Value]], dict[bytes, Value]]


class MainlineNode:
    """One node. `answer` may be replaced by that of a liar."""

    def __init__(self, world: "MainlineWorld", address: Address, node_id: bytes) -> None:
        self.world = world
        self.address = address
        self.node_id = node_id
        self.kept: dict[bytes, set[Address]] = {}
        self.queries = 0
        self.answer: Answer = honest

    def on_datagram(self, data: bytes, source: Address) -> bytes:
        """The answer to a query."""
        query = decode(data)
        assert isinstance(query, dict)
        assert query[b"ro"] == 1
        arguments = query[b"a"]
        assert isinstance(arguments, dict)
        self.queries += 1
        fields: dict[bytes, Value] = {b"id": self.node_id}
        if query[b"q"] == b"get_peers":
            fields |= self.answer(self, arguments)
        elif query[b"q"] == b"announce_peer" and arguments[b"token"] == self.token:
            port, key = arguments[b"port"], arguments[b"info_hash"]
            assert isinstance(port, int)
            assert isinstance(key, bytes)
            self.kept.setdefault(key, set()).add(Address(source.host, port))
        return encode({b"r": fields, b"t": query[b"t"], b"y": b"r"})

    @property
    def token(self) -> bytes:
        return b"token" + self.node_id[:4]


def honest(node: MainlineNode, arguments: dict[bytes, Value]) -> dict[bytes, Value]:
    """The nodes nearest to the key, what is announced under it, and a token."""
    key = arguments[b"info_hash"]
    assert isinstance(key, bytes)
    values: list[Value] = [address.pack() for address in sorted(node.kept.get(key, ()))]
    nearest = node.world.nearest(key)
    answer: dict[bytes, Value] = {
        b"nodes": b"".join(each.node_id + each.address.pack() for each in nearest),
        b"token": node.token,
    }
    return answer | ({b"values": values} if values else {})


class MainlineWorld:
    """All nodes, at public addresses unless another host is given."""

    def __init__(self, rng: Random, count: int, host: str | None = None) -> None:
        self.nodes: dict[Address, MainlineNode] = {}
        for number in range(count):
            address = Address(host or f"5.{number // 200}.{number % 200}.1", 6000 + number)
            self.nodes[address] = MainlineNode(self, address, rng.randbytes(20))

    def nearest(self, key: bytes) -> list[MainlineNode]:
        """The eight nodes nearest to a key."""

        def distance(node: MainlineNode) -> int:
            return int.from_bytes(node.node_id, "big") ^ int.from_bytes(key, "big")

        return sorted(self.nodes.values(), key=distance)[:8]
