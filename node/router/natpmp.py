"""NAT-PMP (RFC 6886), sans I/O: the bytes of requests, and what answers mean."""

import ipaddress
import struct

from shoal.node.router.transports import Transport
from shoal.node.router.values import OtherVersion, RouterError, RouterRefused
from shoal.values import dataclass

VERSION = 0
_IS_ANSWER = 0x80
_OUTER_ADDRESS = 0
_OPCODES = {Transport.UDP: 1, Transport.TCP: 2}

_REQUEST = struct.Struct("!BBHHHI")  # version, opcode, reserved, inner port, wished outer port, lease
_HEAD_BYTES = 8  # version, opcode, result, and for how long the router has had its memory
_PORTS = struct.Struct("!HHI")  # inner port, outer port, lease

_RESULTS = {
    1: "it speaks another version of the protocol",
    2: "port mapping is switched off in it",
    3: "it has no address of its own yet",
    4: "it has no room for another mapping",
    5: "it does not map ports",
}


@dataclass(frozen=True, slots=True)
class MappedPort:
    """An outer port that leads to `inner` for `lease_s` seconds."""

    inner: int
    outer: int
    lease_s: int


def ask_address() -> bytes:
    """The request for the router's address outside."""
    return bytes([VERSION, _OUTER_ADDRESS])


def ask_port(transport: Transport, inner: int, outer: int, lease_s: int) -> bytes:
    """The request for a port, or for its end where `lease_s` is 0."""
    return _REQUEST.pack(VERSION, _OPCODES[transport], 0, inner, outer if lease_s else 0, lease_s)


def read_address(answer: bytes) -> str:
    """The router's address outside, as it says.

    :raises RouterRefused: the router says no.
    :raises RouterError: it is no answer to this request.
    """
    _check_head(answer, _OUTER_ADDRESS, _HEAD_BYTES + 4)
    return str(ipaddress.IPv4Address(answer[_HEAD_BYTES:]))


def read_port(answer: bytes, transport: Transport, inner: int) -> MappedPort:
    """What an answer says.

    :raises RouterRefused: the router says no.
    :raises RouterError: it is no answer to this request.
    """
    _check_head(answer, _OPCODES[transport], _HEAD_BYTES + _PORTS.size)
    got_inner, outer, lease_s = _PORTS.unpack_from(answer, _HEAD_BYTES)
    if got_inner != inner:
        raise RouterError("it answered something else")
    return MappedPort(inner, outer, lease_s)


def _check_head(answer: bytes, opcode: int, size: int) -> None:
    """Raise for what is no answer, or a refusal. That may be short, and need not have the number of the request."""
    if len(answer) < 4:
        raise RouterError("it sent an answer that is too short")
    version, got, result = struct.unpack_from("!BBH", answer)
    if version != VERSION or not got & _IS_ANSWER:
        raise RouterError("it sent something that is no answer")
    if result == 1:
        raise OtherVersion(_RESULTS[1])
    if got != _IS_ANSWER | opcode:
        raise RouterError("it answered something else")
    if result:
        raise RouterRefused(_RESULTS.get(result, f"it gives the reason {result}"))
    if len(answer) != size:
        raise RouterError(f"it sent {len(answer)} bytes where {size} belong")
