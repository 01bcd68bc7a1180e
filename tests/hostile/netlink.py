"""Network namespaces of our own: made, wired and addressed through the kernel's rtnetlink, without any program.

A namespace lives as long as this process holds its file. So nothing is left behind, however the process ends. The
calling thread alone changes its namespace; what it starts meanwhile stays there.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
REPLY_BYTES = 65_536

NEW_LINK, NEW_ADDRESS, NEW_ROUTE = 16, 20, 24
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_ERROR = 2
_IFF_UP = 1
_IFLA_NAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_NO_DAD = 1, 2, 8, 2
_RTA_DESTINATION, _RTA_OUT, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _TABLE_LOCAL, _BY_BOOT, _UNICAST, _LOCAL = 254, 255, 3, 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """This system does not let us make network namespaces; `str()` says why."""


def _call(function: str, *arguments: int) -> None:
    if getattr(_libc, function)(*arguments):
        number = ctypes.get_errno()
        raise NamespaceError(f"{function}: {os.strerror(number)}")


def become_root_inside() -> None:
    """Enter a user namespace, and a network of it, in which this process may make more networks.

    For a process with one thread only. Raises NamespaceError where the system forbids it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise NamespaceError(f"user namespace: {error.strerror}") from error


class Namespace:
    """A network of its own, empty but for a loopback that is up."""

    def __init__(self) -> None:
        """Raises NamespaceError where the system forbids it."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", CLONE_NEWNET)
            try:
                self.file = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                set_up("lo")
            finally:
                _call("setns", own, CLONE_NEWNET)
        finally:
            os.close(own)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, inside the namespace for the length of a block."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self.file, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", own, CLONE_NEWNET)
        finally:
            os.close(own)

    def close(self) -> None:
        """Let go. It ends with the last process inside."""
        os.close(self.file)


# --- what is done inside the namespace of the calling thread


def set_up(name: str, *, master: str | None = None) -> None:
    """Switch an interface on, as a port of the bridge `master` if one is named."""
    attributes = b"" if master is None else _attribute(_IFLA_MASTER, struct.pack("=I", socket.if_nametoindex(master)))
    _ask(NEW_LINK, _link(socket.if_nametoindex(name), _IFF_UP) + attributes)


def add_bridge(name: str) -> None:
    """A switch."""
    info = _attribute(_INFO_KIND, b"bridge")
    _ask(NEW_LINK, _link() + _name(name) + _attribute(_IFLA_LINKINFO, info), create=True)


def add_cable(name: str, other_name: str, other: Namespace) -> None:
    """A pair of interfaces: one here, one in another namespace."""
    peer = _link() + _name(other_name) + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", other.file))
    info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, peer))
    _ask(NEW_LINK, _link() + _name(name) + _attribute(_IFLA_LINKINFO, info), create=True)


def add_address(name: str, host: str, bits: int | None = None) -> None:
    """An address of one host, or of one in a network whose prefix has so many bits."""
    family, packed = _packed(host)
    head = struct.pack("=BBBBI", family, 8 * len(packed) if bits is None else bits, 0, 0, socket.if_nametoindex(name))
    flags = _attribute(_IFA_FLAGS, struct.pack("=I", _IFA_NO_DAD)) if family == socket.AF_INET6 else b""
    _ask(NEW_ADDRESS, head + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed) + flags, create=True)


def add_route(name: str, host: str, bits: int, *, gateway: str | None = None, local: bool = False) -> None:
    """A route to a prefix: over an interface, by a gateway if one is named. `local`: the prefix is this machine."""
    family, packed = _packed(host)
    table, kind = (_TABLE_LOCAL, _LOCAL) if local else (_TABLE_MAIN, _UNICAST)
    scope = 254 if local else 0 if gateway or family == socket.AF_INET6 else 253
    body = struct.pack("=BBBBBBBBI", family, bits, 0, 0, table, _BY_BOOT, scope, kind, 0)
    if bits:
        body += _attribute(_RTA_DESTINATION, packed)
    if gateway:
        body += _attribute(_RTA_GATEWAY, _packed(gateway)[1])
    body += _attribute(_RTA_OUT, struct.pack("=I", socket.if_nametoindex(name)))
    _ask(NEW_ROUTE, body, create=True)


def _packed(host: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.inet_pton(family, host)


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, flags)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_NAME, name.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _ask(kind: int, body: bytes, *, create: bool = False) -> None:
    """One request to the kernel. Raises NamespaceError when it refuses."""
    flags = _REQUEST | _ACKNOWLEDGE | (_CREATE | _EXCLUSIVE if create else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        reply = kernel.recv(REPLY_BYTES)
    (reply_kind,) = struct.unpack_from("=H", reply, 4)
    (code,) = struct.unpack_from("=i", reply, 16)
    if reply_kind != _ERROR or code:
        raise NamespaceError(f"rtnetlink request {kind}: {os.strerror(-code)}")
