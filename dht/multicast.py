"""Local networks of this machine, and datagrams to all nodes in one of them: multicast, over IPv4 and IPv6."""

import errno
import ipaddress
import socket
import struct
import sys
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import trio

from shoal.dht.address import Address
from shoal.dht.errors import AddressError, ListenError
from shoal.dht.transport import DatagramSocket, UdpNetwork, UdpSocket
from shoal.values import dataclass

LAN_PORT = 4749  # one below the port of nodes
GROUP_V4 = "239.255.71.71"  # of the range for one organisation (RFC 2365)
GROUP_V6 = "ff12::5348:4f41:4c"  # link-local, not assigned by anybody (RFC 4291, 2.7)
MAX_LINKS = 8  # a machine with more interfaces, of containers mostly, calls on eight

_HOPS = 1  # no router passes it on
_LOOPBACK = {False: ("127.0.0.1", "127.0.0.0/8"), True: ("::1", "::1/128")}

# Linux: netdevice(7), ip(7), ipv6(7).
_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
_UP, _IS_LOOPBACK, _POINT_TO_POINT, _MULTICAST = 0x1, 0x8, 0x10, 0x1000
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
_IF_INET6 = Path("/proc/net/if_inet6")
_UNUSABLE = 0x40 | 0x20 | 0x08  # an IPv6 address that is tentative, deprecated, or taken by somebody else
_NAME_BYTES = 40  # of `struct ifreq`


@dataclass(frozen=True, slots=True)
class LanLink:
    """A local network that this machine is in.

    :ivar host: this machine's address there.
    :ivar index: the number of the interface; 0 where the system does not say.
    :ivar networks: the prefixes of which the addresses are on this link.
    """

    host: str
    index: int
    networks: tuple[str, ...]

    @property
    def is_ipv6(self) -> bool:
        """Which family it is of. A machine has one link for each family and interface."""
        return ":" in self.host

    def has(self, address: Address) -> bool:
        """Whether an address is of this local network."""
        host = ipaddress.ip_address(address.host)
        return any(host in _network(network) for network in self.networks)


@lru_cache(maxsize=64)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


class LanNetwork(Protocol):
    """Where calls to a local network go out and come in."""

    @property
    def group(self) -> dict[bool, Address]:
        """Where calls are sent, by family (True: IPv6)."""
        ...

    def links(self) -> tuple[LanLink, ...]:
        """The local networks that this machine is in now, `MAX_LINKS` at most."""
        ...

    async def caller(self, link: LanLink) -> DatagramSocket:
        """A socket for calls to a link and for their answers. Raises ListenError."""
        ...

    async def listener(self, link: LanLink) -> DatagramSocket:
        """A socket that hears what is called out on a link. Raises ListenError."""
        ...


class UdpLan:
    """The machine's own local networks. `loopback`: the machine itself is the only one."""

    def __init__(self, *, port: int = LAN_PORT, loopback: bool = False) -> None:
        self.group = {False: Address(GROUP_V4, port), True: Address(GROUP_V6, port)}
        self._port = port
        self._loopback = loopback

    def links(self) -> tuple[LanLink, ...]:
        """See LanNetwork."""
        if self._loopback:
            return (LanLink(_LOOPBACK[False][0], socket.if_nametoindex("lo"), (_LOOPBACK[False][1],)),)
        try:
            found = _links_of_linux() if sys.platform == "linux" else _links_by_route()
        except OSError:  # no file descriptor is left, say; the next look is soon
            return ()
        return tuple(found[:MAX_LINKS])

    async def caller(self, link: LanLink) -> DatagramSocket:
        """See LanNetwork."""
        return await self._bound(link, link.host, 0)

    async def listener(self, link: LanLink) -> DatagramSocket:
        """See LanNetwork. Bound to the group alone where that can be."""
        return await self._bound(link, "::" if link.is_ipv6 else GROUP_V4, self._port)

    async def _bound(self, link: LanLink, host: str, port: int) -> DatagramSocket:
        try:
            sock = trio.socket.socket(socket.AF_INET6 if link.is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise ListenError(f"cannot open a socket for {link.host}: {error.strerror}") from error
        try:
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            (_prepare_v6 if link.is_ipv6 else _prepare_v4)(sock, link, hears=bool(port))
            await sock.bind((host, port))
            return UdpSocket(sock)
        except (OSError, AddressError) as error:
            sock.close()
            raise ListenError(f"cannot use the local network of {link.host}: {error}") from error
        except BaseException:  # cancelled meanwhile
            sock.close()
            raise


def _prepare_v4(sock: trio.socket.SocketType, link: LanLink, *, hears: bool) -> None:
    host = socket.inet_aton(link.host)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, host)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # for the other nodes of this machine
    if hears:
        _one_link_only(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP_V4) + host)


def _prepare_v6(sock: trio.socket.SocketType, link: LanLink, *, hears: bool) -> None:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    if hears:
        _one_link_only(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)
        member = socket.inet_pton(socket.AF_INET6, GROUP_V6) + struct.pack("=I", link.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)


def _one_link_only(sock: trio.socket.SocketType, level: int, option: int) -> None:
    """Hear what came in on our own link, and not what other sockets of this machine have joined for."""
    if sys.platform == "linux":
        try:
            sock.setsockopt(level, option, 0)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:  # before Linux 4.20 for IPv6: then we answer twice at times
                raise


def _links_of_linux() -> list[LanLink]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for index, name in socket.if_nameindex():
            try:
                flags = struct.unpack_from("=h", _asked(sock, _SIOCGIFFLAGS, name), 16)[0]
                is_lan = flags & _UP and flags & _MULTICAST and not flags & (_IS_LOOPBACK | _POINT_TO_POINT)
            except OSError:
                continue
            if not is_lan:
                continue
            found += [each for each in (_ipv4_link(sock, index, name), _ipv6_link(index)) if each is not None]
    return found


def _asked(sock: socket.socket, request: int, name: str) -> bytes:
    """What the system says of an interface: a `struct ifreq`."""
    import fcntl

    return fcntl.ioctl(sock, request, name.encode().ljust(_NAME_BYTES, b"\0"))


def _ipv4_link(sock: socket.socket, index: int, name: str) -> LanLink | None:
    try:
        host, mask = (
            socket.inet_ntoa(_asked(sock, request, name)[20:24]) for request in (_SIOCGIFADDR, _SIOCGIFNETMASK)
        )
    except OSError:  # it has no address
        return None
    return LanLink(host, index, (str(ipaddress.ip_network(f"{host}/{mask}", strict=False)),))


def _ipv6_link(index: int) -> LanLink | None:
    """The addresses of an interface that others can call without a scope; unique local ones first."""
    hosts = []
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:  # no IPv6 here
        return None
    for line in lines:
        packed, number, bits, _, flags, _ = line.split()
        host = ipaddress.IPv6Address(int(packed, 16))
        if int(number, 16) == index and not host.is_link_local and not int(flags, 16) & _UNUSABLE:
            hosts.append((host, int(bits, 16)))
    if not hosts:
        return None
    hosts.sort(key=lambda each: (not each[0].is_private, each[0]))
    networks = dict.fromkeys(str(ipaddress.ip_network((host, bits), strict=False)) for host, bits in hosts)
    return LanLink(str(hosts[0][0]), index, tuple(networks))


def _links_by_route() -> list[LanLink]:
    """Where the system cannot be asked for its interfaces: the way to the internet, and the usual width of a home."""
    found = []
    for ipv6, bits in ((False, 24), (True, 64)):
        host = UdpNetwork().local_host(ipv6=ipv6)
        if host is not None and not ipaddress.ip_address(host).is_link_local:
            found.append(LanLink(host, 0, (str(ipaddress.ip_network(f"{host}/{bits}", strict=False)),)))
    return found
