"""A whole network on this machine: every node a process of its own, with its own home, on loopback ports.

`demo` and `swarm` stand on it. The nodes form a private network without proof of work; the first is the one
all others start from. Each tells its address in the JSON lines of `node run`; its standard input is a pipe
that nobody writes to, so that it ends by itself should this process be killed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from shoal.cli.exits import Code, CommandError
from shoal.cli.units import plural
from shoal.node import Home, Network, NodeSettings, init_node
from shoal.values import dataclass

NODES_MIN = 3  # the narrowest default code, 1-of-3, wants three hosts
NODES_MAX = 200  # a process each of 50-60 MiB: more does not fit into ordinary machines
PEERS_LISTED = 20  # ways in that the network file names; enough that some are alive after any demo

# Starting an interpreter is all CPU: a few at once keep every core busy, more only make each late for its
# deadline.
STARTS_AT_ONCE = (os.cpu_count() or 1) + 1
START_LIMIT_S = 30.0  # plus this much for every node, on a slow and busy machine
START_LIMIT_PER_NODE_S = 3.0
STOP_LIMIT_S = 5.0  # a node that was asked to stop does so at once; after this it is killed
LOG_TAIL_BYTES = 4096
LOG_TAIL_LINES = 12
LINE_MAX_BYTES = 64 * 1024  # a JSON line of a node has some hundred bytes

Report = Callable[[str], None]


@dataclass
class LocalNode:
    """One node of the network; the addresses are known once it listens."""

    number: int
    home: Path
    process: trio.Process | None = None
    node_id: str = ""
    addresses: tuple[str, ...] = ()
    complaint: str = ""  # the message it ended with, if it ended by itself
    stopping: bool = False
    listening: trio.Event = field(default_factory=trio.Event)
    joined: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def name(self) -> str:
        """How people are told about it."""
        return f"node {self.number:02d}"

    @property
    def log_file(self) -> Path:
        """Its standard error."""
        return self.home / "node.log"

    @property
    def port(self) -> int:
        """The port it listens on, 0 before that is known."""
        return int(self.addresses[0].rpartition(":")[2]) if self.addresses else 0

    def kill(self) -> None:
        """kill -9, on purpose: no goodbye, no clean-up, like a power cut."""
        self.stopping = True
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    def handle(self, line: bytes) -> None:
        """Take one JSON line of the node. Whatever is neither an event waited for nor an error passes."""
        try:
            message = json.loads(line)
        except ValueError:
            return
        if not isinstance(message, dict):
            return
        event = message.get("event")
        if message.get("message_type") == "error":
            self.complaint = str(message.get("message"))
        elif event == "listening":
            self.node_id = str(message["node_id"])
            self.addresses = tuple(str(address) for address in message["addresses"])
            self.listening.set()
        elif event == "joined":
            self.joined.set()


@dataclass
class LocalNetwork:
    """The running network. `network_file` is what a client needs to use it."""

    folder: Path
    network_file: Path
    nodes: list[LocalNode]

    def at(self, address: str) -> LocalNode | None:
        """The node that listens on `address`."""
        return next((node for node in self.nodes if address in node.addresses), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What network to start. `ports` are the ports that nodes had the last time, by number."""

    folder: Path
    count: int
    name: str
    settings: NodeSettings
    ports: Mapping[int, int] = field(default_factory=dict)

    @property
    def network_file(self) -> Path:
        """The file that describes the network, for its nodes and its users."""
        return self.folder / "network.toml"


@asynccontextmanager
async def open_local_network(plan: Plan, report: Report) -> AsyncIterator[LocalNetwork]:
    """Start the network, and end every process of it when the block ends, however it ends.

    CommandError, with the last lines of the node's log, when a node does not come up.
    """
    nodes = [LocalNode(number, plan.folder / "nodes" / f"{number:02d}") for number in range(1, plan.count + 1)]
    network = LocalNetwork(plan.folder, plan.network_file, nodes)
    write_network_file(plan, [])
    async with trio.open_nursery() as nursery:
        try:
            with _start_deadline(plan.count):
                await _start_all(plan, network, nursery, report)
            yield network
        finally:
            with trio.CancelScope(shield=True):
                await _stop_all(nodes)
            nursery.cancel_scope.cancel()


class _start_deadline:  # noqa: N801 - used as a with statement, like trio's own
    """`fail_after` with words."""

    def __init__(self, count: int) -> None:
        self._limit_s = START_LIMIT_S + START_LIMIT_PER_NODE_S * count
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        self._scope.deadline = trio.current_time() + self._limit_s
        self._scope.__enter__()

    def __exit__(self, *details: object) -> bool | None:
        swallowed = self._scope.__exit__(*details)  # type: ignore[arg-type]
        if self._scope.cancelled_caught:
            raise CommandError(
                f"The local network was not up after {self._limit_s:.0f} s. The machine may be too busy."
            )
        return swallowed


async def _start_all(plan: Plan, network: LocalNetwork, nursery: trio.Nursery, report: Report) -> None:
    first, *others = network.nodes
    parameters = Network.load(plan.network_file).parameters
    for node in network.nodes:
        home = Home.at(node.home)
        if not home.key_file.exists():
            init_node(home, plan.settings, parameters)
        await trio.lowlevel.checkpoint()
    await _start(plan, first, nursery)
    write_network_file(plan, [first.addresses[0]])
    report(f"{first.name} listens on {first.addresses[0]}; the others join through it")
    limiter = trio.CapacityLimiter(STARTS_AT_ONCE)
    async with trio.open_nursery() as starting:
        for node in others:
            starting.start_soon(_start_limited, plan, node, nursery, limiter)
    for node in others:
        await _wait_or_ended(node, node.joined, "joined the network")
    write_network_file(plan, [node.addresses[0] for node in network.nodes[:PEERS_LISTED]])
    report(f"{plural(len(network.nodes), 'node')} are running and have found each other")


async def _start_limited(plan: Plan, node: LocalNode, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
    async with limiter:
        await _start(plan, node, nursery)


async def _start(plan: Plan, node: LocalNode, nursery: trio.Nursery) -> None:
    """Start one process and wait until it listens."""
    with _open_log(node) as log:
        node.process = await trio.lowlevel.open_process(
            node_command(plan, node),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=node.home,
            env=_environment(),
            # Ctrl-C in the terminal is for this process, which then ends its nodes in order
            start_new_session=True,
        )
    nursery.start_soon(_attend, node)
    await _wait_or_ended(node, node.listening, "listened")


def _open_log(node: LocalNode) -> BinaryIO:
    return open(node.log_file, "ab")


def node_command(plan: Plan, node: LocalNode) -> list[str]:
    """The command line of one node. -P keeps its working directory out of Python's module search."""
    port = plan.ports.get(node.number, 0)
    return [
        *(sys.executable, "-P", "-m", "shoal.cli"),
        *("--home", str(node.home), "--network", str(plan.network_file), "--json"),
        *("node", "run", "--stop-on-eof", "--listen", f"127.0.0.1:{port}"),
    ]


def _environment() -> dict[str, str]:
    """Our own environment without what would steer the nodes' command line."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}


async def _attend(node: LocalNode) -> None:
    """Read what the node says until it ends; its pipe must never fill up."""
    process = node.process
    if process is None or process.stdout is None:
        raise RuntimeError("a node is attended before it was started")
    rest = b""
    async with process.stdout:
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                node.handle(line)
            rest = rest[-LINE_MAX_BYTES:]
    await process.wait()
    node.ended.set()


async def _wait_or_ended(node: LocalNode, event: trio.Event, what: str) -> None:
    """Wait for `event`. Raises CommandError, with what the node printed, when the node ends before."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await node.ended.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await event.wait()
        nursery.cancel_scope.cancel()
    if not event.is_set():
        code = node.process.returncode if node.process else None
        if code == Code.DAEMON_RUNS:
            raise CommandError(f"{node.home}: another process already runs this node.", Code.DAEMON_RUNS)
        raise CommandError(f"{node.name} ended (exit code {code}) before it {what}. {last_words(node)}")


def last_words(node: LocalNode) -> str:
    """A sentence, and indented below it the end of a node's log and what it complained of."""
    try:
        with open(node.log_file, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = log.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return f"Its log {node.log_file} cannot be read: {error.strerror}."
    lines = [*text.strip().splitlines(), *node.complaint.splitlines()][-LOG_TAIL_LINES:]
    return "\n".join(("It printed at the end:", *(f"  {line}" for line in lines))) if lines else "It printed nothing."


async def _stop_all(nodes: Sequence[LocalNode]) -> None:
    """Ask every node to stop, wait a moment, kill the rest. Each by its own process id."""
    running = [node for node in nodes if node.process is not None]
    for node in running:
        node.stopping = True
        if node.process is not None and node.process.returncode is None:
            node.process.terminate()
    with trio.move_on_after(STOP_LIMIT_S):
        for node in running:
            await _wait_process(node)
    for node in running:
        node.kill()
        await _wait_process(node)
        await _close_pipes(node)


async def _wait_process(node: LocalNode) -> None:
    if node.process is not None:
        await node.process.wait()


async def _close_pipes(node: LocalNode) -> None:
    if node.process is not None and node.process.stdin is not None:
        await node.process.stdin.aclose()


async def watch_for_losses(network: LocalNetwork, report: Report) -> None:
    """Tell of every node that ends without having been stopped; runs until cancelled."""
    async with trio.open_nursery() as nursery:
        for node in network.nodes:
            nursery.start_soon(partial(_watch_one, node, report))


async def _watch_one(node: LocalNode, report: Report) -> None:
    await node.ended.wait()
    if not node.stopping and node.process is not None:
        report(f"{node.name} ended with exit code {node.process.returncode}. {last_words(node)}")
    await trio.sleep_forever()


def write_network_file(plan: Plan, peers: Sequence[str]) -> None:
    """Replace the network file as a whole: a node that starts just now reads the old or the new one."""
    text = network_text(plan.name, peers)
    temporary = plan.network_file.with_suffix(".tmp")
    try:
        plan.network_file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, plan.network_file)
    except OSError as error:
        raise CommandError(f"Cannot write {plan.network_file}: {error.strerror}.") from error


def network_text(name: str, peers: Sequence[str]) -> str:
    """A network file for a private network on this machine."""
    lines = [
        "# A network on one machine. Use it with: export SHOAL_NETWORK=THIS_FILE",
        f'network = "{name}"',
        "pow_bits = 0     # nobody to keep out",
        "private = true   # all nodes share one address",
        'epoch = "24h"',
    ]
    for peer in peers:
        lines += ["", "[[peer]]", f'address = "{peer}"']
    return "\n".join(lines) + "\n"
