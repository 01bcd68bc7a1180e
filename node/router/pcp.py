"""PCP (RFC 6887), sans I/O: the one request that maps a port, and what its answer means."""

import ipaddress
import struct

from shoal.node.router.transports import Transport
from shoal.node.router.values import OtherVersion, RouterError, RouterRefused
from shoal.values import dataclass

VERSION = 2
NONCE_BYTES = 12
MAX_BYTES = 1100  # of a message, options and all
_MAP = 1
_IS_ANSWER = 0x80

_HEAD = struct.Struct("!BBHI16s")  # version, opcode, reserved, lease, our address
_ANSWER_HEAD = struct.Struct("!BBBBI16x")  # version, opcode, reserved, result, lease, the rest
_PORTS = struct.Struct("!12sB3xHH16s")  # nonce, transport, inner port, outer port, outer address

_RESULTS = {
    1: "it speaks another version of the protocol",
    2: "it does not allow this machine to map ports",
    3: "it did not understand the request",
    4: "it does not map ports",
    5: "it did not understand the request",
    6: "it did not understand the request",
    7: "its network is out of order",
    8: "it has no room for another mapping",
    9: "it cannot map this kind of port",
    10: "this machine has too many mappings",
    11: "it cannot give the outer port that was asked for",
    12: "something between this machine and it changes addresses",
    13: "it did not understand the request",
}


@dataclass(frozen=True, slots=True)
class PcpMapping:
    """An outer address and port that lead to `inner` for `lease_s` seconds."""

    inner: int
    outer: int
    host: str
    lease_s: int


def ask_port(nonce: bytes, client: str, transport: Transport, inner: int, outer: int, lease_s: int) -> bytes:
    """The request for a port, or for its end where `lease_s` is 0. `client`: this machine's address, IPv4 or IPv6."""
    packed = _packed(client)
    nowhere = bytes(16) if ":" in client else _packed("0.0.0.0")
    head = _HEAD.pack(VERSION, _MAP, 0, lease_s, packed)
    return head + _PORTS.pack(nonce, transport.value, inner, outer, nowhere)


def read_port(answer: bytes, nonce: bytes, transport: Transport, inner: int) -> PcpMapping:
    """What an answer says.

    :raises OtherVersion: the router speaks NAT-PMP, or a later version.
    :raises RouterRefused: the router says no.
    :raises RouterError: it is no answer to this request.
    """
    if not 4 <= len(answer) <= MAX_BYTES:
        raise RouterError(f"it sent an answer of {len(answer)} bytes")
    version, opcode, _, result = struct.unpack_from("!BBBB", answer)
    if not opcode & _IS_ANSWER:
        raise RouterError("it sent something that is no answer")
    if version != VERSION:
        raise OtherVersion(_RESULTS[1])
    if result == 1:
        raise OtherVersion(_RESULTS[1])
    if opcode != _IS_ANSWER | _MAP:
        raise RouterError("it answered something else")
    if len(answer) < _ANSWER_HEAD.size + _PORTS.size:
        raise RouterError(f"it sent an answer of {len(answer)} bytes")
    _, _, _, _, lease_s = _ANSWER_HEAD.unpack_from(answer)
    got_nonce, protocol, got_inner, outer, packed = _PORTS.unpack_from(answer, _ANSWER_HEAD.size)
    if (got_nonce, protocol, got_inner) != (nonce, transport.value, inner):
        raise RouterError("it answered something else")
    if result:
        raise RouterRefused(_RESULTS.get(result, f"it gives the reason {result}"))
    return PcpMapping(got_inner, outer, _host(packed), lease_s)


def _packed(host: str) -> bytes:
    parsed = ipaddress.ip_address(host)
    return parsed.packed if isinstance(parsed, ipaddress.IPv6Address) else bytes(10) + b"\xff\xff" + parsed.packed


def _host(packed: bytes) -> str:
    parsed = ipaddress.IPv6Address(packed)
    return str(parsed.ipv4_mapped or parsed)
