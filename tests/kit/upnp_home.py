"""A home behind a real router: namespaces, nftables, and Debian's miniupnpd, as many routers have it.

    outside 5.5.5.9 ── wan 5.5.5.1 · router · 192.168.77.1 ── home 192.168.77.20

By IPv6 the router changes no address, and lets nobody in.

Nothing of it is seen by the machine that it runs on.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from hostile.netlink import Namespace, add_address, add_cable, add_route, set_up

from kit import homes

ROUTER_HOST, HOME_HOST = "192.168.77.1", "192.168.77.20"
WAN_HOST, OUTSIDE_HOST = "5.5.5.1", "5.5.5.9"
ROUTER_HOST6, HOME_HOST6 = "2a05:5:6::1", "2a05:5:6::20"
WAN_HOST6, OUTSIDE_HOST6 = "2a05:5:5::1", "2a05:5:5::9"
START_S, END_S = 10.0, 5.0
READY = {True: b"Listening for NAT-PMP/PCP", False: b"HTTP listening on port"}  # said last, with PCP and without

RULES = """
    table inet filter {
        chain forward {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            iifname "lan" accept
            jump miniupnpd
        }
        chain miniupnpd { }
        chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
        chain postrouting {
            type nat hook postrouting priority 100;
            jump postrouting_miniupnpd
            oifname "wan" masquerade
        }
        chain prerouting_miniupnpd { }
        chain postrouting_miniupnpd { }
    }
"""


def missing() -> str:
    """Why no such home can be made here; empty where one can."""
    if shutil.which("miniupnpd") is None:
        return "not installed: miniupnpd (Debian: miniupnpd-nftables)"
    if not Path("/proc/sys/net/ipv6").exists():
        return "no IPv6 here"
    return homes.missing()


@dataclass
class UpnpHome:
    """The three namespaces and the router's daemon."""

    folder: Path
    outside: Namespace = field(default_factory=Namespace)
    router: Namespace = field(default_factory=Namespace)
    home: Namespace = field(default_factory=Namespace)
    wan_host: str = WAN_HOST
    _daemon: "subprocess.Popen[bytes] | None" = None

    def wire(self) -> None:
        """Lay the cables, and have the router change addresses."""
        with self.router.entered():
            add_cable("wan", "eth0", self.outside)
            add_cable("lan", "eth0", self.home)
            for name, host, host6 in (("wan", self.wan_host, WAN_HOST6), ("lan", ROUTER_HOST, ROUTER_HOST6)):
                add_address(name, host, 24)
                add_address(name, host6, 64)
                set_up(name)
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
            subprocess.run(["nft", "-f", "-"], input=RULES.encode(), check=True)
        with self.outside.entered():
            add_address("eth0", OUTSIDE_HOST, 24)
            add_address("eth0", OUTSIDE_HOST6, 64)
            set_up("eth0")
            add_route("eth0", HOME_HOST6.removesuffix("20"), 64, gateway=WAN_HOST6)
        with self.home.entered():
            add_address("eth0", HOME_HOST, 24)
            add_address("eth0", HOME_HOST6, 64)
            set_up("eth0")
            add_route("eth0", "0.0.0.0", 0, gateway=ROUTER_HOST)
            add_route("eth0", "::", 0, gateway=ROUTER_HOST6)

    def start_router(self, *, upnp: bool = True, pmp: bool = True) -> None:
        """Switch the router's daemon on. Its rules of before are gone, as after a loss of power."""
        words = {True: "yes", False: "no"}
        (self.folder / "router.conf").write_text(
            dedent(f"""\
            ext_ifname=wan
            listening_ip=lan
            ext_ifname6=wan
            upnp_forward_chain=miniupnpd
            upnp_nat_chain=prerouting_miniupnpd
            upnp_nat_postrouting_chain=postrouting_miniupnpd
            enable_upnp={words[upnp]}
            enable_natpmp={words[pmp]}
            secure_mode=yes
            system_uptime=no
            upnp_table_name=filter
            upnp_nat_table_name=filter
            allow 1024-65535 192.168.77.0/24 1024-65535
            deny 0-65535 0.0.0.0/0 0-65535
            """)
        )
        command = ["miniupnpd", "-d", "-f", str(self.folder / "router.conf"), "-P", str(self.folder / "router.pid")]
        with self.router.entered(), (self.folder / "router.log").open("ab") as log:
            subprocess.run(["nft", "flush ruleset"], check=True)
            subprocess.run(["nft", "-f", "-"], input=RULES.encode(), check=True)
            begun = log.tell()
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_ready(begun, READY[pmp])

    def _wait_ready(self, begun: int, words: bytes) -> None:
        deadline = time.monotonic() + START_S
        while words not in (self.folder / "router.log").read_bytes()[begun:]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"miniupnpd did not start: {(self.folder / 'router.log').read_text()}")
            time.sleep(0.01)

    def stop_router(self) -> None:
        """Switch the router's daemon off, without a goodbye."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait(END_S)
            self._daemon = None

    def rules(self, chain: str = "prerouting_miniupnpd") -> str:
        """What the router maps now, in nftables' words. The chain "miniupnpd" has the holes in its firewall."""
        with self.router.entered():
            listed = ["nft", "list", "chain", "inet", "filter", chain]
            return subprocess.run(listed, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """End it all."""
        self.stop_router()
        for namespace in (self.outside, self.router, self.home):
            namespace.close()


@contextmanager
def upnp_home(folder: Path, wan_host: str = WAN_HOST) -> Iterator[UpnpHome]:
    """A home whose router is still switched off."""
    home = UpnpHome(folder, wan_host=wan_host)
    try:
        home.wire()
        yield home
    finally:
        home.close()
