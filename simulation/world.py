"""Many whole nodes in one process: the real code on virtual networks and disks, under a clock that jumps.

    async def story(world: World) -> None:
        for number in range(30):
            await world.start(f"node-{number}")
        async with world.client("anna") as anna:
            published = await anna.publish(...)
        await world.crash("node-3")

    run_world(seed, folder, story)

One seed decides everything: keys, delays, losses, what a crash tears, and the order in which trio runs its tasks.
"""

import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import trio

from shoal.dht import Address, NetworkParameters, SignatureScheme
from shoal.node.environment import Environment, InlineCompute
from shoal.node.home.home import Home
from shoal.node.home.network import Network
from shoal.node.home.settings import NodeSettings, init_node
from shoal.node.node import Node
from shoal.node.opening import open_node
from shoal.node.volunteer.serving import Serving
from shoal.simulation.courier import Courier
from shoal.simulation.datagrams import Separated, VirtualDatagramNetwork, VirtualDatagrams, Weather
from shoal.simulation.disk import SimDisk
from shoal.simulation.nat import Nat
from shoal.simulation.scheduler import run_seeded
from shoal.simulation.signatures import FastSignatures
from shoal.simulation.streams import VirtualStreamNetwork, VirtualStreams
from shoal.values import dataclass

T = TypeVar("T")

PORT = 4750
EPOCH_START = 1_800_000_000.0  # the wall clock when a simulation begins; any time after 2020 would do
STOP_TIMEOUT_S = 30.0  # of virtual time: a node that does not stop is a bug
CAPACITY_BYTES = 10**9
ANY_HOST = "0.0.0.0"


OnStart: TypeAlias = Callable[[Callable[[], None]], None]
"""Is given a function that ends what starts."""


@dataclass(slots=True)
class Clock:
    """A machine's wall clock: so many seconds ahead when the simulation begins, and so many more each second.

    It can be put right or wrong while its node runs.
    """

    ahead_s: float = 0.0
    drift: float = 0.0

    def read(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        now = trio.current_time()
        return EPOCH_START + self.ahead_s + now * (1.0 + self.drift)


@dataclass
class Machine:
    """One volunteer's machine: it keeps its address, home and disk while its node comes and goes."""

    name: str
    host: str
    home: Home
    settings: NodeSettings
    environment: Environment
    disk: SimDisk
    clock: Clock = field(default_factory=Clock)
    port: int = PORT
    node: Node | None = None
    scope: trio.CancelScope | None = None
    stopped: trio.Event = field(default_factory=trio.Event)

    @property
    def running(self) -> bool:
        """Whether its node runs."""
        return self.node is not None

    @property
    def serving(self) -> Serving:
        """The volunteer's half of its running node."""
        serving = self.node.serving if self.node is not None else None
        assert serving is not None, "only a running machine serves"
        return serving

    @property
    def network(self) -> VirtualDatagramNetwork:
        """Its door to the datagrams of the world."""
        network = self.environment.datagrams
        assert isinstance(network, VirtualDatagramNetwork), "a simulated machine has a simulated network"
        return network

    @property
    def streams(self) -> VirtualStreamNetwork:
        """Its door to the streams of the world."""
        streams = self.environment.streams
        assert isinstance(streams, VirtualStreamNetwork), "a simulated machine has a simulated network"
        return streams

    @property
    def address(self) -> Address:
        """Where others reach its node."""
        return Address(self.host, self.port)


class World:
    """Machines, the networks between them, and the means to hurt them. Made by `run_world`."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        nursery: trio.Nursery,
        *,
        weather: Weather | None = None,
        scheme: SignatureScheme | None = None,
        private: bool = True,
        epoch_s: float = 86400.0,
        grain_s: float = 0.0,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} world")
        courier = Courier(grain_s)
        self.datagrams = VirtualDatagrams(random.Random(f"{seed} datagrams"), weather, courier)
        self.streams = VirtualStreams(random.Random(f"{seed} streams"), courier=courier)
        self.network = Network(NetworkParameters("simulation", pow_bits=0, private=private, epoch_s=epoch_s))
        self.machines: dict[str, Machine] = {}
        self._folder = folder
        self._nursery = nursery
        self._scheme = scheme or FastSignatures()
        self._hosts = 0
        self._asleep: set[str] = set()  # the hosts of suspended machines

    # --- machines

    def machine(
        self,
        name: str,
        *,
        capacity_bytes: int = CAPACITY_BYTES,
        clock: Clock | None = None,
        everywhere: bool = False,
        nat: Nat | None = None,
    ) -> Machine:
        """The machine of that name; set up with a fresh volunteer's identity when there is none yet.

        everywhere: it listens on all its addresses, as volunteers do, so that its address may change while it runs.
        nat: the kind of home router that it stands behind. Then it listens everywhere, too.
        """
        everywhere = everywhere or nat is not None
        if name not in self.machines:
            clock = clock or Clock()
            environment, host = self._environment(name, clock)
            settings = NodeSettings(capacity_bytes, 0, listen=(Address(ANY_HOST if everywhere else host, PORT),))
            if nat is not None:
                self.datagrams.routers.kinds[host] = self.streams.nats[host] = nat
            home = Home.at(self._folder / name)
            init_node(home, settings, self.network.parameters, scheme=self._scheme, entropy=environment.entropy)
            disk = environment.disk
            assert isinstance(disk, SimDisk), "a simulated machine has a simulated disk"
            self.machines[name] = Machine(name, host, home, settings, environment, disk, clock)
        return self.machines[name]

    def _environment(self, name: str, clock: Clock) -> tuple[Environment, str]:
        rng = random.Random(f"{self.seed} {name}")
        host = self._new_host()
        environment = Environment(
            datagrams=self.datagrams.at(host),
            streams=self.streams.at(host),
            disk=SimDisk(),
            compute=InlineCompute(),
            scheme=self._scheme,
            wall=clock.read,
            entropy=rng.randbytes,
            rng=random.Random(f"{self.seed} {name} choices"),
        )
        return environment, host

    def _new_host(self) -> str:
        """An address of its own: in a public network one that is public, and far from the others."""
        self._hosts += 1
        low, middle, high = self._hosts & 255, self._hosts >> 8 & 255, self._hosts >> 16
        if self.network.parameters.private:
            return f"{10 + high}.{middle}.{low}.1"
        return f"{44 + high}.{low}.{middle}.1"

    def move(self, machine: Machine, *, to: str | None = None) -> None:
        """Give a stopped machine another address, as home lines do; everything else on it stays.

        to: an address that nobody has any more; by default a new one.
        """
        machine.host = self._new_host() if to is None else to
        machine.settings = replace(machine.settings, listen=(machine.address,))
        machine.environment = replace(
            machine.environment, datagrams=self.datagrams.at(machine.host), streams=self.streams.at(machine.host)
        )

    def readdress(self, machine: Machine, *, unnoticed: bool = False) -> None:
        """Give a running machine that listens everywhere another address.

        unnoticed: it is the line's address that has changed, which the machine's system does not know.
        """
        machine.host = self._new_host()
        machine.network.move_to(machine.host)
        machine.streams.move_to(machine.host)
        if not unnoticed:
            machine.network.change()

    def suspend(self, machine: Machine) -> None:
        """Nothing reaches a machine or leaves it until `resume`. Its node goes on, where a real one would sleep."""
        self._asleep.add(machine.host)
        self._separate_sleepers()

    def resume(self, machine: Machine) -> None:
        """The machine is awake again, and its system knows that it has slept."""
        self._asleep.discard(machine.host)
        self._separate_sleepers()
        machine.network.change()

    def _separate_sleepers(self) -> None:
        asleep = set(self._asleep)
        self.separate(lambda one, other: one in asleep or other in asleep)

    def running(self) -> list[Machine]:
        """The machines whose nodes run, in the order in which they were set up."""
        return [machine for machine in self.machines.values() if machine.running]

    def separate(self, separated: Separated) -> None:
        """Nothing passes from one host to another where this is true, until `heal` or the next call."""
        self.datagrams.separate(separated)
        self.streams.separate(separated)

    def heal(self) -> None:
        """End all partitions."""
        self.datagrams.heal()
        self.streams.heal()

    # --- life and death

    async def start(
        self,
        name: str,
        *,
        capacity_bytes: int = CAPACITY_BYTES,
        doors: Sequence[Address] | None = None,
        everywhere: bool = False,
        nat: Nat | None = None,
    ) -> Machine:
        """Start a machine's node. It knows `doors`, by default the first machine, and whom it met before."""
        machine = self.machine(name, capacity_bytes=capacity_bytes, everywhere=everywhere, nat=nat)
        known = self._doors(machine) if doors is None else doors
        await self._nursery.start(self._live, machine, known)
        return machine

    async def _live(self, machine: Machine, doors: Sequence[Address], *, task_status: trio.TaskStatus[None]) -> None:
        machine.stopped = trio.Event()
        with trio.CancelScope() as machine.scope:
            async with open_node(
                machine.home,
                network=self.network,
                bootstrap=doors,
                serve=True,
                settings=machine.settings,
                environment=machine.environment,
            ) as machine.node:
                task_status.started()
                await trio.sleep_forever()
        machine.node = None
        machine.stopped.set()

    def _doors(self, machine: Machine) -> list[Address]:
        first = next(iter(self.machines.values()), machine)
        return [] if first is machine else [first.address]

    async def stop(self, name: str) -> None:
        """End a node in order."""
        machine = self.machines[name]
        assert machine.scope is not None, "only a node that was started can be stopped"
        machine.scope.cancel()
        with trio.fail_after(STOP_TIMEOUT_S):
            await machine.stopped.wait()

    async def crash(self, name: str) -> None:
        """Pull the plug: connections are reset, and what was not synced may be lost or torn."""
        machine = self.machines[name]
        self.streams.kill(machine.host)
        await self.stop(name)
        machine.disk.crash(self.rng)

    async def retire(self, name: str) -> None:
        """A machine dies for good, with its disk."""
        machine = self.machines[name]
        if machine.running:
            self.streams.kill(machine.host)
            await self.stop(name)
        del self.machines[name]
        shutil.rmtree(machine.home.data, ignore_errors=True)

    # --- users

    @asynccontextmanager
    async def client(
        self,
        name: str,
        *,
        through: str | None = None,
        doors: Sequence[Address] = (),
        settings: NodeSettings | None = None,
    ) -> AsyncIterator[Node]:
        """A client's node for the length of a block; it knows one running machine, or `doors`."""
        door = self.machines[through] if through is not None else self.running()[0]
        environment, _ = self._environment(name, Clock())
        async with open_node(
            self._folder / name,
            network=self.network,
            bootstrap=list(doors) or [door.address],
            settings=settings or NodeSettings(),
            environment=environment,
        ) as node:
            yield node


def run_world(
    seed: int,
    folder: Path,
    story: Callable[[World], Awaitable[T]],
    *,
    weather: Weather | None = None,
    scheme: SignatureScheme | None = None,
    private: bool = True,
    epoch_s: float = 86400.0,
    grain_s: float = 0.0,
    on_start: OnStart = lambda stop: None,
) -> T:
    """Run a story in a world of its own, in virtual time, replayable from `seed`. `folder` holds the homes.

    grain_s: what travels arrives at multiples of it, which makes long stories cheaper.    on_start: is given a function
    that ends the story at once, with KeyboardInterrupt; a signal handler may call it. (An exception that a handler
    raises comes up anywhere, in the scheduler too, which need not survive it.)
    """

    async def main() -> T:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            on_start(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            world = World(
                seed,
                folder,
                nursery,
                weather=weather,
                scheme=scheme,
                private=private,
                epoch_s=epoch_s,
                grain_s=grain_s,
            )
            result = await story(world)
            nursery.cancel_scope.cancel()
            return result
        raise KeyboardInterrupt

    return run_seeded(seed, main)
