"""Addresses: an IP and a port in one canonical form, and the prefixes by which they are counted.

Host names never appear here: the caller resolves them first. IPv6 scope ids are refused, because they mean something on
one machine only. An IPv4-mapped IPv6 address is the IPv4 address.
"""

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from shoal.dht.errors import AddressError

PACKED_V4_BYTES = 6  # 4 of address, 2 of port
PACKED_V6_BYTES = 18  # 16 of address, 2 of port
MAX_PORT = 65_535
MAX_TEXT_CHARS = 64  # the longest text form, "[8 groups]:65535", has 47 characters

_CACHE_ENTRIES = 4_096  # addresses met again and again: peers, mostly. Bounds the memory a stranger can take.

# IPv6 ranges that carry an IPv4 address inside. They would be a way round the test for public addresses.
_TUNNELS = tuple(ipaddress.IPv6Network(text) for text in ("2002::/16", "2001::/32", "64:ff9b::/96"))

# IPv6 ranges whose first 48 bits anybody may choose: unique local, link-local and loopback addresses.
_OWN_RANGES = tuple(ipaddress.IPv6Network(text) for text in ("fc00::/7", "fe80::/10", "::1/128"))


class Address(NamedTuple):
    """Where a UDP socket (and, with the same port, a TCP one) can be reached.

    host: canonical text of an IPv4 or IPv6 address, never IPv4-mapped.    port: 0..65535; 0 only for binding.
    Build one from foreign text or bytes with `parse`, `of` or `unpack`, which canonicalise and check.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, host: str, port: int) -> "Address":
        """Bring `host` into canonical form. Raises AddressError for anything but an IP address and a port in range."""
        if not 0 <= port <= MAX_PORT:
            raise AddressError(f"port {port} is not between 0 and {MAX_PORT}")
        return cls(_canonical_host(host), port)

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read "1.2.3.4:80" or "[::1]:80". Raises AddressError."""
        stripped = text.strip()
        host, separator, port = stripped.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        shaped = separator and bracketed == (":" in host) and port.isascii() and port.isdigit()
        if not shaped or len(stripped) > MAX_TEXT_CHARS:
            raise AddressError(f"{stripped[:MAX_TEXT_CHARS]!r} is not of the form 1.2.3.4:80 or [::1]:80")
        return cls.of(host[1:-1] if bracketed else host, int(port))

    @classmethod
    def unpack(cls, data: bytes) -> "Address":
        """Read what `pack` wrote. Raises AddressError when the bytes are no address, or one in IPv4-mapped form."""
        if len(data) not in (PACKED_V4_BYTES, PACKED_V6_BYTES):
            raise AddressError(f"a packed address has {PACKED_V4_BYTES} or {PACKED_V6_BYTES} bytes, not {len(data)}")
        return cls(_host_from_packed(data[:-2]), int.from_bytes(data[-2:], "big"))

    def pack(self) -> bytes:
        """6 bytes (IPv4) or 18 bytes (IPv6): the address, then the port, both big-endian."""
        return _packed_host(self.host) + self.port.to_bytes(2, "big")

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def is_wildcard(self) -> bool:
        """Whether this is the address a socket binds to when it listens on all interfaces."""
        return not any(_packed_host(self.host))

    @property
    def is_loopback(self) -> bool:
        """Whether it names the machine itself."""
        return self.host == "::1" or self.host.startswith("127.")

    @property
    def is_public(self) -> bool:
        """Whether a stranger on the internet could have this address. Port 0 is nobody's."""
        return self.port != 0 and _is_public_host(self.host)

    @property
    def is_usable(self) -> bool:
        """Whether a datagram can go there in any network: not port 0, all zeros, broadcast or multicast."""
        return self.port != 0 and _is_unicast_host(self.host)

    def prefix(self) -> bytes:
        """The /24 (IPv4) or /48 (IPv6) this address is in, as a key for counting."""
        packed = _packed_host(self.host)
        return packed[:3] if len(packed) == 4 else packed[:6]

    def wide_prefix(self) -> bytes:
        """The /16 (IPv4) or /32 (IPv6). Two bytes against four, so that the families never collide."""
        packed = _packed_host(self.host)
        return packed[:2] if len(packed) == 4 else packed[:4]

    def host_key(self) -> bytes:
        """What counts as one host: the IPv4 address, or the IPv6 /64."""
        packed = _packed_host(self.host)
        return packed if len(packed) == 4 else packed[:8]

    def place(self, *, private: bool) -> bytes:
        """What tables that share something among strangers count as one: the /24 or /48 in a public network.

        In a private network all nodes may be in one prefix. So a place is a host there, and still a /48 of the
        internet's, since whoever has one has 65,536 hosts in it.
        """
        if private and (not self.is_ipv6 or _is_in_own_range(self.host)):
            return self.host_key()
        return self.prefix()


@lru_cache(maxsize=_CACHE_ENTRIES)
def _canonical_host(host: str) -> str:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError as error:
        raise AddressError(f"{host[:MAX_TEXT_CHARS]!r} is not an IP address") from error
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            raise AddressError(f"{host[:MAX_TEXT_CHARS]!r}: scope ids are not supported")
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
    return str(parsed)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _packed_host(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


@lru_cache(maxsize=_CACHE_ENTRIES)
def _host_from_packed(packed: bytes) -> str:
    parsed = ipaddress.ip_address(packed)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        raise AddressError("an IPv4 address packed as IPv6")
    return str(parsed)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _is_public_host(host: str) -> bool:
    parsed = ipaddress.ip_address(host)
    if isinstance(parsed, ipaddress.IPv6Address) and any(parsed in tunnel for tunnel in _TUNNELS):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


@lru_cache(maxsize=_CACHE_ENTRIES)
def _is_in_own_range(host: str) -> bool:
    parsed = ipaddress.IPv6Address(host)
    return any(parsed in each for each in _OWN_RANGES)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _is_unicast_host(host: str) -> bool:
    parsed = ipaddress.ip_address(host)
    return not (parsed.is_multicast or parsed.is_unspecified or host == "255.255.255.255")
