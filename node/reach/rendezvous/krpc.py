"""The two questions that a rendezvous needs of the Mainline DHT (BEP 5, BEP 32): bytes and what they mean. No I/O.

`get_peers` brings nodes nearer to the key and the addresses announced under it, `announce_peer` leaves one of ours. We
say that we answer nothing (BEP 43), so that nobody puts us into a table.
"""

from shoal.dht import Address, AddressError
from shoal.node.reach.rendezvous.bencode import BadBencode, Value, decode, encode
from shoal.values import dataclass

ID_BYTES = 20
MAX_TOKEN_BYTES = 64
MAX_NODES = 16  # that are read from one answer; nodes send eight
MAX_VALUES = 100  # addresses that are read from one answer; as many as a datagram has room for, of IPv4

_COMPACT_BYTES = {False: 6, True: 18}
_NODES = {False: b"nodes", True: b"nodes6"}


@dataclass(frozen=True, slots=True)
class MainlineAnswer:
    """An answer: who gave it, to which question, and what is in it.

    :ivar token: what has to be shown to announce there; empty where none was given.
    :ivar nodes: nodes nearer to the key, each with its id.
    :ivar values: the addresses announced under the key.
    """

    number: bytes
    node_id: bytes
    token: bytes
    nodes: tuple[tuple[bytes, Address], ...]
    values: tuple[Address, ...]


def get_peers(number: bytes, own_id: bytes, key: bytes) -> bytes:
    """Ask for what is announced under a key."""
    return _query(number, b"get_peers", {b"id": own_id, b"info_hash": key})


def announce_peer(number: bytes, own_id: bytes, key: bytes, port: int, token: bytes) -> bytes:
    """Announce the address that this comes from, with another port, under a key."""
    return _query(number, b"announce_peer", {b"id": own_id, b"info_hash": key, b"port": port, b"token": token})


def _query(number: bytes, name: bytes, arguments: dict[bytes, Value]) -> bytes:
    return encode({b"a": arguments, b"q": name, b"ro": 1, b"t": number, b"y": b"q"})


def read_answer(data: bytes, *, ipv6: bool) -> MainlineAnswer | None:
    """The answer in a datagram; None for anything else, errors and questions included."""
    try:
        message = decode(data)
    except BadBencode:
        return None
    if not isinstance(message, dict) or message.get(b"y") != b"r":
        return None
    number, fields = message.get(b"t"), message.get(b"r")
    if not isinstance(number, bytes) or not isinstance(fields, dict):
        return None
    node_id, token = fields.get(b"id"), fields.get(b"token", b"")
    if not isinstance(node_id, bytes) or len(node_id) != ID_BYTES:
        return None
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN_BYTES:
        token = b""
    return MainlineAnswer(
        number, node_id, token, _nodes(fields.get(_NODES[ipv6]), ipv6), _values(fields.get(b"values"), ipv6)
    )


def _nodes(packed: Value | None, ipv6: bool) -> tuple[tuple[bytes, Address], ...]:
    length = ID_BYTES + _COMPACT_BYTES[ipv6]
    if not isinstance(packed, bytes) or len(packed) % length:
        return ()
    pieces = [packed[at : at + length] for at in range(0, len(packed), length)][:MAX_NODES]
    found = [(piece[:ID_BYTES], _address(piece[ID_BYTES:])) for piece in pieces]
    return tuple((node_id, address) for node_id, address in found if address is not None)


def _values(listed: Value | None, ipv6: bool) -> tuple[Address, ...]:
    if not isinstance(listed, list):
        return ()
    length = _COMPACT_BYTES[ipv6]
    found = [_address(each) for each in listed[:MAX_VALUES] if isinstance(each, bytes) and len(each) == length]
    return tuple(address for address in found if address is not None)


def _address(packed: bytes) -> Address | None:
    try:
        return Address.unpack(packed)
    except AddressError:
        return None
