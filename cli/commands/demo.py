"""`shoal demo`: a whole network on this machine. Publish a file, lose nodes, fetch it back, compare."""

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.tables import columns
from shoal.cli.units import UnitError, format_rate, format_size, parse_count, parse_size, plural
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.cli.local_network import LocalNetwork, LocalNode
    from shoal.node import Fetched, Published

DEFAULT_NODES = "16"
DEFAULT_SIZE = "64MB"
CHUNK_BYTES = 4 * 2**20
COPIES_ON_DISK = 5  # the file, three times its size in shares, and the file fetched
DISK_SPARE_BYTES = 200 * 10**6  # homes, logs and databases of the nodes


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What the demo did and saw."""

    published: "Published"
    fetched: "Fetched"
    stopped_holders: int
    stopped_nodes: int
    identical: bool


def demo(
    context: typer.Context,
    nodes: Annotated[str, typer.Option("--nodes", metavar="COUNT", help="Number of nodes.")] = DEFAULT_NODES,
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Size of the random file.")] = DEFAULT_SIZE,
) -> Job:
    """See it work: start a network on this machine, publish, kill nodes, fetch, compare.

    Every node is a process of its own. The demo kills as many hosts of the file as the file survives, and the node
    that all others started from. It removes everything afterwards.
    """
    settings = globals_of(context)
    count = node_count(nodes)
    try:
        size_bytes = parse_size(size)
    except UnitError as error:
        raise BadUsageError(f"--size: {error}.") from error
    return settings.job(lambda: _demo(settings, count, size_bytes))


def node_count(text: str) -> int:
    """The value of --nodes."""
    least, most = 3, 200  # NODES_MIN and NODES_MAX of local_network, which is not loaded for parsing
    try:
        return parse_count(text, least=least, most=most)
    except UnitError as error:
        raise BadUsageError(f"--nodes: {error}.") from error


async def _demo(settings: Globals, count: int, size: int) -> int:
    from shoal.cli.local_network import Plan, open_local_network
    from shoal.node import NodeSettings

    output = settings.output
    output.interrupt_hint = "All nodes of the demo have ended, and its files are removed."
    with _scratch_folder(size) as folder:
        plan = Plan(
            folder=folder,
            count=count,
            name=f"demo-{secrets.token_hex(4)}",
            settings=NodeSettings(capacity_bytes=2 * size + 10**9, reserve_bytes=0),
        )
        output.note(f"Starting {count} nodes, each a process with its own home under {folder}")
        async with open_local_network(plan, lambda text: output.note(f"  {text}")) as network:
            outcome = await _main_job(settings, network, size)
    return _conclude(settings, outcome)


@contextmanager
def _scratch_folder(size: int) -> Iterator[Path]:
    """A folder that is gone afterwards. CommandError when the disk is too small for the demo."""
    wanted = COPIES_ON_DISK * size + DISK_SPARE_BYTES
    parent = tempfile.gettempdir()
    free = shutil.disk_usage(parent).free
    if free < wanted:
        raise CommandError(
            f"The demo needs {format_size(wanted)} in {parent}, but only {format_size(free)} are free. "
            "Use a smaller --size, or set TMPDIR to a folder on a larger disk."
        )
    folder = Path(tempfile.mkdtemp(prefix="shoal-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _main_job(settings: Globals, network: "LocalNetwork", size: int) -> DemoOutcome:
    import trio

    output = settings.output
    source = network.folder / "demo.bin"
    output.note(f"Publishing a random file of {format_size(size)}")
    await trio.to_thread.run_sync(_write_random, source, size)
    published = await _publish(settings, network, source)
    output.note(_where(network, published))
    victims = choose_victims(network, published, random.SystemRandom())
    holders = len(_holders(network, published) & {node.number for node in victims})
    numbers = ", ".join(f"{node.number:02d}" for node in victims)
    output.note(f"Killing (-9) {_lost(published, holders, len(victims))}: {numbers}")
    for node in victims:
        node.kill()
        await node.ended.wait()
    output.status(event="stopped", nodes=[node.number for node in victims], holders=holders)
    output.note(f"Fetching into another home; {plural(len(network.nodes) - len(victims), 'node')} left")
    fetched = await _fetch(settings, network, published)
    target = fetched.path
    identical = target is not None and await trio.to_thread.run_sync(_same, source, target)
    return DemoOutcome(published, fetched, holders, len(victims), identical)


def _write_random(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        for start in range(0, size, CHUNK_BYTES):
            file.write(os.urandom(min(CHUNK_BYTES, size - start)))


async def _publish(settings: Globals, network: "LocalNetwork", source: Path) -> "Published":
    from shoal.cli.progress import open_progress
    from shoal.node import open_node

    async with (
        open_node(network.folder / "publisher", network=network.network_file) as node,
        open_progress(settings.output) as progress,
    ):
        published = await node.publish(source, on_progress=progress)
    settings.output.status(event="published", link=str(published.link), shares=published.shares)
    if not published.complete:
        raise CommandError(
            f"Only {published.shares} of {published.n} shares found a host; {published.happy} were needed.",
            Code.PARTIAL,
        )
    return published


async def _fetch(settings: Globals, network: "LocalNetwork", published: "Published") -> "Fetched":
    from shoal.cli.progress import open_progress
    from shoal.node import open_node

    async with (
        open_node(network.folder / "reader", network=network.network_file) as node,
        open_progress(settings.output) as progress,
    ):
        return await node.fetch(published.link, network.folder / "fetched.bin", on_progress=progress)


def _holders(network: "LocalNetwork", published: "Published") -> set[int]:
    """Numbers of the nodes that hold a share."""
    found = (network.at(str(address)) for address in published.holders.values())
    return {node.number for node in found if node is not None}


def choose_victims(network: "LocalNetwork", published: "Published", rng: random.Random) -> list["LocalNode"]:
    """The first node, and as many holders as the file survives; the first counts as one if it is a holder."""
    first, *others = network.nodes
    holders = _holders(network, published)
    victims = [first]
    spared = published.survives - (1 if first.number in holders else 0)
    candidates = [node for node in others if node.number in holders]
    victims += rng.sample(candidates, max(0, min(spared, len(candidates))))
    return sorted(victims, key=lambda node: node.number)


def _where(network: "LocalNetwork", published: "Published") -> str:
    """Which node has which share."""
    rows = []
    for share, address in sorted(published.holders.items()):
        node = network.at(str(address))
        kind = "data" if share < published.k else "parity"
        rows.append((f"  {share}", kind, node.name if node else "?", str(address)))
    head = f"  {published.link}\n  {published.n} shares, any {published.k} of them are enough:"
    return f"{head}\n{columns(('  share', 'kind', 'on', 'address'), rows)}"


def _same(first: Path, second: Path) -> bool:
    """Whether two files are equal, byte for byte."""
    with open(first, "rb") as left, open(second, "rb") as right:
        return all(a == b for a, b in _pairs(left, right))


def _pairs(left: BinaryIO, right: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        pair = left.read(CHUNK_BYTES), right.read(CHUNK_BYTES)
        yield pair
        if not any(pair):
            return


def _conclude(settings: Globals, outcome: DemoOutcome) -> int:
    output = settings.output
    if not outcome.identical:
        raise CommandError("The file that came back is NOT the file that was published.", Code.BAD_DATA)
    output.result(words(outcome))
    output.summary(**summary_fields(outcome))
    return Code.OK


def summary_fields(outcome: DemoOutcome) -> dict[str, object]:
    """The JSON summary. `stopped` counts the holders killed, `stopped_nodes` all processes killed."""
    return {
        "link": str(outcome.published.link),
        "size": outcome.published.size,
        "k": outcome.published.k,
        "n": outcome.published.n,
        "stopped": outcome.stopped_holders,
        "stopped_nodes": outcome.stopped_nodes,
        "publish_s": round(outcome.published.seconds, 3),
        "fetch_s": round(outcome.fetched.seconds, 3),
        "identical": outcome.identical,
    }


def words(outcome: DemoOutcome) -> str:
    """The same for people."""
    published, fetched = outcome.published, outcome.fetched
    left = published.n - outcome.stopped_holders
    return "\n".join(
        (
            f"published  {_speed(published.size, published.seconds)}, {published.n} shares on {published.hosts} hosts",
            f"lost       {_lost(published, outcome.stopped_holders, outcome.stopped_nodes)}",
            f"fetched    {_speed(fetched.size, fetched.seconds)}, from the {plural(left, 'holder')} left",
            "survived   the file: identical, byte for byte",
        )
    )


def _lost(published: "Published", holders: int, nodes: int) -> str:
    first = "the node all others started from"
    among = f"among them {first}" if nodes == holders else f"and {first}"
    return f"{holders} of {published.n} holders, {among}"


def _speed(size: int, seconds: float) -> str:
    return f"{format_size(size)} in {seconds:.2f} s ({format_rate(size / max(seconds, 0.001))})"
