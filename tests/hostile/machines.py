"""The machines of a grid: eight volunteers, an honest client, a bystander and one attacker, each at its own address."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from hostile.netlink import Namespace, add_address, add_bridge, add_cable, add_route, set_up
from kit.fleet import DAEMONS, POLL_S, Daemon, free_ports
from shoal.dht import Address

START_LIMIT_S = 120.0  # for eight interpreters on a machine that is busy with other tests
DOORS = 2  # volunteers that the network file names: a newcomer has to get in through these
POW_BITS = 8  # of the public network: an id costs the attacker a millisecond, as if it had made them beforehand
PUBLIC_PORT = 4750
ATTACKER_BITS = 48  # of the public attacker's prefix


@dataclass(frozen=True, slots=True)
class Machine:
    """Where one party stands. `host6` is empty where there is no IPv6; without a namespace it is on loopback."""

    host: str
    host6: str = ""
    namespace: Namespace | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, on that machine."""
        if self.namespace is None:
            yield
            return
        with self.namespace.entered():
            yield


@dataclass(frozen=True, slots=True)
class Victim:
    """A volunteer as the attacker knows it. `address6` is empty where it has none."""

    node_id: str
    address: str
    address6: str


@dataclass(frozen=True, slots=True)
class Brief:
    """What the attacker is told."""

    network_file: str
    folder: str
    host: str
    host6: str
    bystander: str
    victims: tuple[Victim, ...]
    file_ids: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Brief":
        """What `as_json` gave."""
        victims = tuple(Victim(**each) for each in told["victims"])
        return cls(**{**told, "victims": victims, "file_ids": tuple(told["file_ids"])})


class Grid:
    """The daemons of one network, and where everybody stands. `public`: in network namespaces of our own.

    Raises NamespaceError where the system allows none.
    """

    def __init__(self, folder: Path, *, public: bool, epoch_s: float) -> None:
        self.public = public
        self._epoch_s = epoch_s
        self.folder = folder
        self.network_file = folder / "network.toml"
        places = _wired() if public else _on_loopback()
        *self._volunteers, self.client, self.bystander, self.attacker = places
        port = PUBLIC_PORT if public else free_ports(1)[0]
        self._write_network_file([Address(machine.host, port) for machine in self._volunteers[:DOORS]])
        listen = (Address("0.0.0.0", port), Address("::", port)) if public else ()
        self.daemons = [
            Daemon(number, folder / f"daemon-{number}", self.network_file, Address(machine.host, port), *listen)
            for number, machine in enumerate(self._volunteers)
        ]

    def _write_network_file(self, doors: list[Address]) -> None:
        lines = [
            f'network = "{"public" if self.public else "private"} under attack"',
            f"pow_bits = {POW_BITS if self.public else 0}",
            f"private = {str(not self.public).lower()}",
            f'epoch = "{self._epoch_s:g}s"',
            *(f'[[peer]]\naddress = "{door}"' for door in doors),
        ]
        self.network_file.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start all daemons and wait until they know each other."""
        begun = []
        for daemon, machine in zip(self.daemons, self._volunteers, strict=True):
            with machine.entered():
                begun.append(daemon.start())
        for daemon, machine, at in zip(self.daemons, self._volunteers, begun, strict=True):
            with machine.entered():
                trio.run(daemon.wait_up, at, START_LIMIT_S)
                trio.run(_wait_for_peers, daemon)

    def status(self, number: int) -> dict[str, object]:
        """What a daemon tells its administrator."""
        with self._volunteers[number].entered():
            return trio.run(self.daemons[number].status)

    def kill(self) -> None:
        """End all daemons."""
        for daemon in self.daemons:
            daemon.kill()

    def brief(self, file_ids: tuple[str, ...]) -> Brief:
        """What the attacker is told: all volunteers, and the ids of some files."""
        victims = []
        for daemon, machine in zip(self.daemons, self._volunteers, strict=True):
            address6 = str(Address(machine.host6, daemon.address.port)) if machine.host6 else ""
            victims.append(Victim(daemon.node_id.hex(), str(daemon.address), address6))
        return Brief(
            str(self.network_file),
            str(self.folder / "attacker"),
            self.attacker.host,
            self.attacker.host6,
            self.bystander.host,
            tuple(victims),
            file_ids,
        )


async def _wait_for_peers(daemon: Daemon) -> None:
    with trio.fail_after(START_LIMIT_S):
        while int(str((await daemon.status())["peers"])) < DAEMONS - 1:  # noqa: ASYNC110 - it is another process
            await trio.sleep(POLL_S)


def _on_loopback() -> list[Machine]:
    """Each volunteer has an address of its own; the honest client is where all calls on loopback come from."""
    return [
        *(Machine(f"127.0.1.{number + 1}") for number in range(DAEMONS)),
        Machine("127.0.0.1"),
        Machine("127.0.0.9"),
        Machine("127.0.0.2"),
    ]


def _wired() -> list[Machine]:
    """One namespace each, all on one switch. Each machine has a prefix of its own; the attacker's is a whole /48."""
    numbers = [*range(1, DAEMONS + 1), 50, 77, 66]
    hub = Namespace()
    with hub.entered():
        add_bridge("hub")
        set_up("hub")
    machines = []
    for number in numbers:
        host6 = f"2a01:{number}::1" if socket.has_ipv6 else ""
        machine = Machine(f"5.{number}.0.1", host6, Namespace())
        _wire(machine, number, hub)
        machines.append(machine)
    attacker = machines[-1]
    if attacker.host6:
        for machine in machines:
            _know_way_to(attacker, machine)
    return machines


def _wire(machine: Machine, number: int, hub: Namespace) -> None:
    assert machine.namespace is not None, "made just now"
    with hub.entered():
        add_cable(f"port{number}", "eth0", machine.namespace)
        set_up(f"port{number}", master="hub")
    with machine.entered():
        set_up("eth0")
        add_address("eth0", machine.host)
        add_route("eth0", "0.0.0.0", 0)
        if machine.host6:
            add_address("eth0", machine.host6)
            add_route("eth0", "::", 0)


def _know_way_to(attacker: Machine, machine: Machine) -> None:
    """Every address of the attacker's prefix leads to its one interface."""
    prefix = attacker.host6.removesuffix("1")
    with machine.entered():
        if machine is attacker:
            add_route("lo", prefix, ATTACKER_BITS, local=True)
        else:
            add_route("eth0", prefix, ATTACKER_BITS, gateway=attacker.host6)
