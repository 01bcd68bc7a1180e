"""An invite: a network's rules and a few ways into it, as a line of text that can be sent to anybody.

`shoal-net:` and base32 of: version ‖ proof bits ‖ flags ‖ epoch ‖ name ‖ peers ‖ checksum (7). docs/format.md has every
byte. It is no secret of one person: everybody who has it can join the network.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence

from shoal.dht import Address, AddressError, Contact, NetworkParameters, NodeId, labelled_hash
from shoal.erasure import unwrapped
from shoal.node.errors import UsageError
from shoal.node.home.network import (
    MAINLINE_ROUTERS,
    MAX_EPOCH_S,
    MAX_POW_BITS,
    MAX_ROUTER_BYTES,
    MAX_ROUTERS,
    MIN_EPOCH_S,
    Network,
    Peer,
    split_host_port,
)

SCHEME = "shoal-net:"
VERSION = 1
CHECKSUM_BYTES = 7  # a typing error passes once in 2^56
ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")
MAX_PEERS = 8  # in an invite; any one that is alive is enough
MAX_HOST_CHARS = 100  # of a peer's address where it is a name
MAX_TEXT_CHARS = 8192  # the longest invite has 3,230, and mail may wrap it; nothing longer is looked at
MAX_WRAPPING = 64  # characters that text may wrap around its beginning
PEERS_CHOSEN = 3  # of an invite that we make: some 64 characters each

_PRIVATE_FLAG = 1
_MAINLINE_FLAG = 2  # the network is found through the Mainline DHT, too; its routers follow the peers
_HAS_ID = 0x80  # in the form of a peer; the rest of it says what its address is
_NAME, _IPV4, _IPV6 = 0, 4, 6
_ADDRESS_BYTES = {_IPV4: 6, _IPV6: 18}

_checksum = labelled_hash("network invite checksum")


def is_invite(text: str) -> bool:
    """Whether a text is meant as an invite."""
    return unwrapped(text[: len(SCHEME) + MAX_WRAPPING]).lower().startswith(SCHEME)


def invite_to(network: Network) -> str:
    """The invite to a network, with the first peers that its list has.

    :raises UsageError: the network has rules that no invite can carry.
    """
    parameters = network.parameters
    name = parameters.name.encode()
    epoch_ms = round(parameters.epoch_s * 1000)
    if epoch_ms / 1000 != parameters.epoch_s:
        raise UsageError("An invite counts the epoch in milliseconds, and that of this network has a part of one.")
    peers = [packed for packed in map(_packed, network.peers) if packed][:MAX_PEERS]
    body = b"".join(
        (
            bytes([VERSION, parameters.pow_bits, _flags(network)]),
            epoch_ms.to_bytes(4, "big"),
            bytes([len(name)]) + name,
            bytes([len(peers)]),
            *peers,
            *_packed_routers(network),
        )
    )
    data = body + _checksum(body)[:CHECKSUM_BYTES]
    return SCHEME + base64.b32encode(data).decode().rstrip("=").lower()


def parse_invite(text: str) -> Network:
    """The network that an invite leads to, however the text was wrapped on its way.

    :raises UsageError: it is no invite, mistyped, or of a newer version.
    """
    part = unwrapped(text[: MAX_TEXT_CHARS + 1]).removeprefix(SCHEME)
    if len(text) > MAX_TEXT_CHARS or not is_invite(text) or not part:
        raise UsageError(f"This is not an invite (they start with {SCHEME}). Make one with: shoal invite")
    if not set(part) <= ALPHABET:
        raise UsageError("The invite has a character that is not a-z or 2-7. Copy all of it again.")
    try:
        data = base64.b32decode(part.upper() + "=" * (-len(part) % 8))
    except ValueError:
        raise UsageError("The invite is not whole. Copy all of it again.") from None
    body, check = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if not body or _checksum(body)[:CHECKSUM_BYTES] != check:
        raise UsageError("The invite is mistyped or not whole: its checksum is wrong. Copy all of it again.")
    if body[0] != VERSION:
        raise UsageError("This invite needs a newer version of Shoal.")
    network = _Reader(body[1:]).network()
    if invite_to(network) != SCHEME + part:
        raise UsageError("This invite was not made by Shoal: there is another way to write the same.")
    return network


def _flags(network: Network) -> int:
    private = _PRIVATE_FLAG if network.parameters.private else 0
    return private | (0 if network.rendezvous is None else _MAINLINE_FLAG)


def _packed_routers(network: Network) -> Iterator[bytes]:
    """The routers of the Mainline DHT; the usual ones are not written out."""
    if network.rendezvous is not None:
        routers = () if network.rendezvous == MAINLINE_ROUTERS else network.rendezvous
        yield bytes([len(routers)])
        yield from (bytes([len(each)]) + each for each in map(str.encode, routers))


def _packed(peer: Peer) -> bytes:
    """A peer as it stands in an invite; nothing for one whose name is too long for it."""
    has_id, node_id = (0, b"") if peer.node_id is None else (_HAS_ID, bytes(peer.node_id))
    try:
        address = Address.parse(peer.address)
    except AddressError:
        host = peer.address.encode()
        return bytes([_NAME | has_id]) + node_id + bytes([len(host)]) + host if len(host) <= MAX_HOST_CHARS else b""
    return bytes([(_IPV6 if address.is_ipv6 else _IPV4) | has_id]) + node_id + address.pack()


class _Reader:
    """Takes an invite's body apart, each length checked against what is there. UsageError for anything else."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _take(self, count: int) -> bytes:
        if count > len(self._data):
            raise UsageError("The invite ends in the middle.")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def _byte(self, most: int, what: str) -> int:
        value = self._take(1)[0]
        if value > most:
            raise UsageError(f"This invite has an impossible {what}, or it needs a newer version of Shoal.")
        return value

    def _text(self, most: int, what: str) -> str:
        try:
            return self._take(self._byte(most, what)).decode()
        except UnicodeDecodeError:
            raise UsageError(f"This invite has a {what} that is no text.") from None

    def network(self) -> Network:
        """All of it."""
        pow_bits = self._byte(MAX_POW_BITS, "proof of work")
        flags = self._byte(_PRIVATE_FLAG | _MAINLINE_FLAG, "set of rules")
        epoch_s = int.from_bytes(self._take(4), "big") / 1000
        if not MIN_EPOCH_S <= epoch_s <= MAX_EPOCH_S:
            raise UsageError("This invite has an impossible epoch.")
        name = self._text(64, "name")
        if not name:
            raise UsageError("This invite names no network.")
        parameters = NetworkParameters(name, pow_bits, bool(flags & _PRIVATE_FLAG), epoch_s)
        peers = tuple(self._peer() for _ in range(self._byte(MAX_PEERS, "number of peers")))
        rendezvous = self._routers() if flags & _MAINLINE_FLAG else None
        if self._data:
            raise UsageError("This invite goes on behind its end.")
        return Network(parameters, peers, rendezvous)

    def _routers(self) -> tuple[str, ...]:
        routers = tuple(
            self._text(MAX_ROUTER_BYTES, "router") for _ in range(self._byte(MAX_ROUTERS, "number of routers"))
        )
        for router in routers:
            split_host_port(router)
        return routers or MAINLINE_ROUTERS

    def _peer(self) -> Peer:
        form = self._byte(0xFF, "peer")
        node_id = NodeId(self._take(32)) if form & _HAS_ID else None
        kind = form & ~_HAS_ID
        if kind == _NAME:
            address = self._text(MAX_HOST_CHARS, "address")
            split_host_port(address)
        elif kind in _ADDRESS_BYTES:
            address = self._address(_ADDRESS_BYTES[kind])
        else:
            raise UsageError("This invite has a kind of peer that needs a newer version of Shoal.")
        return Peer(address, node_id)

    def _address(self, length: int) -> str:
        try:
            address = Address.unpack(self._take(length))
        except AddressError:
            raise UsageError("This invite has an impossible address.") from None
        if not address.is_usable:
            raise UsageError(f"This invite has an address that nobody can have: {address}.")
        return str(address)


# -- which peers to name -------------------------------------------------------------------------------


def chosen_peers(
    found: Sequence[Contact], listed: Sequence[Peer], *, private: bool, most: int = PEERS_CHOSEN
) -> tuple[Peer, ...]:
    """The peers that an invite names: those that answer, the best first, then those of the network file.

    Peers of distinct places come before a second one of any. What only this machine can call is named where there is
    nothing else.
    """
    outside = [contact for contact in found if not contact.address.is_loopback]
    contacts = [Peer(str(each.address), each.node_id) for each in _spread(outside or found, private=private)]
    known = {peer.address for peer in contacts}
    usable = [peer for peer in listed if peer.address not in known and not (outside and _is_loopback(peer))]
    return tuple([*contacts, *usable][:most])


def _spread(contacts: Iterable[Contact], *, private: bool) -> Iterator[Contact]:
    """The first of every place, then the others."""
    seen: set[bytes] = set()
    later: list[Contact] = []
    for contact in contacts:
        place = contact.address.place(private=private)
        if place in seen:
            later.append(contact)
        else:
            seen.add(place)
            yield contact
    yield from later


def _is_loopback(peer: Peer) -> bool:
    try:
        return Address.parse(peer.address).is_loopback
    except AddressError:
        return False


def is_local_only(network: Network) -> bool:
    """Whether all its peers can be called from this machine alone."""
    return bool(network.peers) and all(map(_is_loopback, network.peers))
