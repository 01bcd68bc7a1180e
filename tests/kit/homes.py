"""Machines on an internet of our own, some behind home routers: network namespaces, wired by rtnetlink, with nftables.

    machine, or router ── 5.N.0.2 ── 5.N.0.1 · internet         N: a number for each, so that each is another place
    home 192.168.1.2 ── 192.168.1.1 · router ── 5.N.0.2          a router of one of the kinds below
    home ── router ── 100.64.0.2 ── 100.64.0.1 · carrier's router ── 5.N.0.2

Nothing of it is seen by the machine that it runs on. What runs on a machine is a process of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import trio
from hostile.netlink import Namespace, NamespaceError, add_address, add_cable, add_route, set_up

Say = Callable[[Any], None]

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

    def run(self, life: Callable[[Say], Awaitable[None]]) -> "Life":
        """Start `life` on this machine, as a process of its own. What it says comes out of `Life.hear`."""
        return Life(self.namespace, life)

    async def ask(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run `work` on this machine, and give what it gives: something that JSON can carry."""

        async def life(say: Say) -> None:
            say(await work())

        running = self.run(life)
        try:
            return await running.hear()
        finally:
            running.kill()


class Life:
    """A process on a machine. It has modules and memory of its own, as real machines have, and starts at once."""

    def __init__(self, namespace: Namespace, life: Callable[[Say], Awaitable[None]]) -> None:
        reading, writing = os.pipe()
        self.pid = _fork(namespace, reading, writing, life)
        os.close(writing)
        self._said = trio.lowlevel.FdStream(reading)
        self._rest = b""

    async def hear(self) -> Any:
        """The next thing that it says. Raises EOFError where it has ended instead; what it died of is on stderr."""
        while b"\n" not in self._rest:
            piece = await self._said.receive_some()
            if not piece:
                raise EOFError("the process has ended")
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def kill(self) -> None:
        """End it with kill -9. Doing so twice is fine."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def _fork(namespace: Namespace, reading: int, writing: int, life: Callable[[Say], Awaitable[None]]) -> int:
    """In a thread of its own, since trio may run in this one: the child has that thread alone."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_fork_here, namespace, reading, writing, life).result()


def _fork_here(namespace: Namespace, reading: int, writing: int, life: Callable[[Say], Awaitable[None]]) -> int:
    with namespace.entered():
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.close(reading)
            signal.set_wakeup_fd(-1)  # the parent's trio has one

            def say(what: Any) -> None:
                os.write(writing, json.dumps(what).encode() + b"\n")

            trio.run(life, say)
            code = 0
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)


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
