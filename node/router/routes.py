"""The default gateways, as Linux tells them."""

import ipaddress
from pathlib import Path

ROUTES = Path("/proc/thread-self/net/route")
IPV6_ROUTES = Path("/proc/thread-self/net/ipv6_route")
MAX_BYTES = 65_536  # the first routes; the default ones stand there
_GATEWAY = 0x0002  # RTF_GATEWAY
_UP = 0x0001  # RTF_UP


def default_gateways(text: str | None = None) -> list[str]:
    """The IPv4 addresses of the routers to the internet, the best first. None where the system does not tell."""
    if text is None:
        text = _read(ROUTES)
    found: list[tuple[int, str]] = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        try:
            to, gateway, flags, metric, mask = (columns[at] for at in (1, 2, 3, 6, 7))
            if int(to, 16) or int(mask, 16) or int(flags, 16) & (_UP | _GATEWAY) != _UP | _GATEWAY:
                continue
            host = str(ipaddress.IPv4Address(bytes.fromhex(gateway)[::-1]))
            found.append((int(metric), host))
        except (IndexError, ValueError):
            continue
    return list(dict.fromkeys(host for _, host in sorted(found)))


def default_ipv6_gateways(text: str | None = None) -> list[str]:
    """The IPv6 addresses of the routers to the internet, the best first, with the interface where they need one."""
    if text is None:
        text = _read(IPV6_ROUTES)
    found: list[tuple[int, str]] = []
    for line in text.splitlines():
        columns = line.split()
        try:
            to, bits, gateway, metric, flags, interface = (columns[at] for at in (0, 1, 4, 5, 8, 9))
            if int(to, 16) or int(bits, 16) or int(flags, 16) & (_UP | _GATEWAY) != _UP | _GATEWAY:
                continue
            host = ipaddress.IPv6Address(bytes.fromhex(gateway))
            found.append((int(metric, 16), f"{host}%{interface}" if host.is_link_local else str(host)))
        except (IndexError, ValueError):
            continue
    return list(dict.fromkeys(host for _, host in sorted(found)))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
