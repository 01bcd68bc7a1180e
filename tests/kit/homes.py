"""Machines on an internet of our own, some behind home routers: network namespaces, wired by rtnetlink, with nftables.

    machine, or router ── 5.N.0.2 ── 5.N.0.1 · internet         N: a number for each, so that each is another place
    home 192.168.1.2 ── 192.168.1.1 · router ── 5.N.0.2          a router of one of the kinds below
    home ── router ── 100.64.0.2 ── 100.64.0.1 · carrier's router ── 5.N.0.2

Nothing of it is seen by the machine that it runs on. A namespace belongs to a thread: `inside` runs trio in one.
"""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar, cast

import trio
from hostile.netlink import Namespace, NamespaceError, add_address, add_cable, add_route, set_up

T = TypeVar("T")

HOME_HOST = "192.168.1.2"
PORT = 4750  # which a full cone leads to its home

_MASQUERADE = {
    "plain": "masquerade",
    "random": "masquerade random,fully-random",
}
_RULES = """
    table ip home {{
        chain forward {{
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            iifname "lan" accept
            {open}
        }}
        chain input {{
            type filter hook input priority 0; policy drop;
            ct state established,related accept
            iifname "lan" accept
        }}
        chain before {{ type nat hook prerouting priority -100; {forwarded}; }}
        chain behind {{ type nat hook postrouting priority 100; oifname "wan" {masquerade}; }}
    }}
"""


class RouterKind(Enum):
    """What stands between a machine and the internet. None of them opens a port when asked."""

    NONE = "none"
    FULL_CONE = "full cone"  # whoever calls its port gets through to the home
    RESTRICTED = "port restricted"  # one port for all that are called, and only they get back in
    SYMMETRIC = "symmetric"  # another port for each that is called
    CARRIER = "carrier"  # the provider has one as well (CGNAT): two that are port restricted


def missing() -> str:
    """Why no homes can be made here; empty where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("nft") is None:
        return "not installed: nft (Debian: nftables)"
    try:
        Namespace().close()
    except NamespaceError as error:
        return f"no network namespaces here: {error}"
    return ""


@dataclass(frozen=True)
class Machine:
    """One machine: its network, what stands before it, and the address that the internet sees."""

    namespace: Namespace
    kind: RouterKind
    outer_host: str

    @property
    def host(self) -> str:
        """Its own address."""
        return self.outer_host if self.kind is RouterKind.NONE else HOME_HOST

    async def inside(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` on this machine: trio in a thread of its own. A cancellation outside ends it."""
        scope, begun = trio.CancelScope(), trio.Event()
        token: list[trio.lowlevel.TrioToken] = []

        async def live() -> T | None:
            token.append(trio.lowlevel.current_trio_token())
            outside.run_sync_soon(begun.set)
            with scope:
                return await work()
            return None

        def run() -> T | None:
            with self.namespace.entered():
                return trio.run(live)

        async def watch() -> None:
            await begun.wait()
            try:
                await trio.sleep_forever()
            finally:
                with suppress(trio.RunFinishedError):
                    token[0].run_sync_soon(scope.cancel)

        outside = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            result = await trio.to_thread.run_sync(run)
            nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()
        return cast(T, result)  # only one that was cancelled has none


class Internet:
    """All machines."""

    def __init__(self) -> None:
        self._middle = Namespace()
        self._all = [self._middle]
        self._count = 0
        with self._middle.entered():
            _forward()

    def machine(self, kind: RouterKind = RouterKind.NONE) -> Machine:
        """One more machine, behind a router of that kind."""
        self._count += 1
        number = self._count
        outer = self._namespace()
        with self._middle.entered():
            add_cable(f"to{number}", "wan", outer)
            add_address(f"to{number}", f"5.{number}.0.1", 24)
            set_up(f"to{number}")
        with outer.entered():
            _join("wan", f"5.{number}.0.2", f"5.{number}.0.1")
        machine = outer
        if kind is RouterKind.CARRIER:
            machine = self._behind(machine, "100.64.0", RouterKind.RESTRICTED)
        if kind is not RouterKind.NONE:
            inner = RouterKind.RESTRICTED if kind is RouterKind.CARRIER else kind
            machine = self._behind(machine, "192.168.1", inner)
        return Machine(machine, kind, f"5.{number}.0.2")

    def _behind(self, router: Namespace, network: str, kind: RouterKind) -> Namespace:
        """A machine behind one that becomes a router."""
        inner = self._namespace()
        with router.entered():
            _forward()
            add_cable("lan", "wan", inner)
            add_address("lan", f"{network}.1", 24)
            set_up("lan")
            is_open = kind is RouterKind.FULL_CONE
            dnat = f'iifname "wan" meta l4proto {{ tcp, udp }} th dport {PORT} dnat to {network}.2'
            rules = _RULES.format(
                open="ct status dnat accept" if is_open else "",
                forwarded=dnat if is_open else "",
                masquerade=_MASQUERADE["random" if kind is RouterKind.SYMMETRIC else "plain"],
            )
            subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
        with inner.entered():
            _join("wan", f"{network}.2", f"{network}.1")
        return inner

    def _namespace(self) -> Namespace:
        self._all.append(Namespace())
        return self._all[-1]

    def close(self) -> None:
        """End it all."""
        for each in self._all:
            each.close()


@contextmanager
def internet() -> Iterator[Internet]:
    """An internet for the length of a block."""
    made = Internet()
    try:
        yield made
    finally:
        made.close()


def _join(name: str, host: str, gateway: str) -> None:
    add_address(name, host, 24)
    set_up(name)
    add_route(name, "0.0.0.0", 0, gateway=gateway)


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
