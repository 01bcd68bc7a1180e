"""Two machines and a cable, made of network namespaces: real daemons find each other without any address given."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hostile.netlink import Namespace, NamespaceError, add_address, add_cable, set_up

from kit.fleet import plain_environment
from shoal.node import Home, Network, NetworkParameters, NodeSettings, init_node

FOUND_WITHIN_S = 5.0
NETWORK = Network(NetworkParameters("cable", 0, True))
CASES = {"ipv4": ("10.71.0.1", "10.71.0.2", 24), "ipv6": ("fd71::1", "fd71::2", 64)}


@pytest.fixture(params=sorted(CASES))
def machines(request: pytest.FixtureRequest) -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines at a cable, with addresses of one family."""
    with ExitStack() as stack:
        try:
            one, other = (stack.enter_context(closing(Namespace())) for _ in range(2))
            first, second, bits = CASES[request.param]
            with one.entered():
                add_cable("lan0", "lan0", other)
            for machine, host in ((one, first), (other, second)):
                with machine.entered():
                    add_address("lan0", host, bits)
                    set_up("lan0")
        except NamespaceError as error:
            pytest.skip(f"LEFT OUT: no network namespaces here ({error}). test_lan.py tries the same in memory.")
        yield one, other


class Daemon:
    """`shoal node run` on one machine, which knows the rules of the network and no address."""

    def __init__(self, machine: Namespace, folder: Path) -> None:
        init_node(Home.at(folder), NodeSettings(), NETWORK)
        with machine.entered():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shoal.cli", "--json", "node", "run", "--stop-on-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=plain_environment() | {"SHOAL_HOME": str(folder)},
                text=True,
            )

    def wait_for(self, *events: str) -> str:
        """The first of these events, and nothing that the node says before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line).get("event")
            if event in events:
                return str(event)
        raise AssertionError(f"the node ended with {self.process.wait()} before it said any of {events}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_two_machines_at_a_cable_find_each_other(machines: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    daemons = [Daemon(machine, tmp_path / str(number)) for number, machine in enumerate(machines)]
    try:
        for daemon in daemons:
            daemon.wait_for("listening")
        begun = time.monotonic()
        assert [daemon.wait_for("first", "joined") for daemon in daemons] == ["joined", "joined"]
        assert time.monotonic() - begun < FOUND_WITHIN_S
    finally:
        for daemon in daemons:
            daemon.end()
