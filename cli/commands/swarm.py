"""`shoal swarm`: a network on this machine, left running."""

import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.commands.demo import DEFAULT_NODES, node_count
from shoal.cli.context import Globals, Job, given_path, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.units import plural
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.cli.local_network import LocalNetwork

STATE_FILE = "swarm.json"
STATE_MAX_BYTES = 2**20  # two hundred ports take three kilobytes


@dataclass(frozen=True, slots=True)
class SwarmState:
    """What a swarm remembers: its network's name, and the ports of its nodes, so that caches stay right."""

    name: str
    ports: dict[int, int] = field(default_factory=dict)


def swarm(
    context: typer.Context,
    folder: Annotated[
        str,
        typer.Option("--dir", metavar="DIR", help="Folder for the nodes. The next run with it brings them back."),
    ],
    nodes: Annotated[str, typer.Option("--nodes", metavar="COUNT", help="Number of nodes.")] = DEFAULT_NODES,
) -> Job:
    """Run a network on this machine until Ctrl-C.

    The command tells you how to use the network from another terminal. The same --dir brings it back later, with all
    files that were published on it.
    """
    settings = globals_of(context)
    count = node_count(nodes)
    given = given_path(folder, "--dir")
    if given is None:
        raise BadUsageError("--dir: the path is empty.")
    where = Path(os.path.abspath(given))
    return settings.job(lambda: _swarm(settings, where, count))


async def _swarm(settings: Globals, folder: Path, count: int) -> int:
    import trio

    from shoal.cli.local_network import Plan, open_local_network, watch_for_losses
    from shoal.node import NodeSettings

    output = settings.output
    output.interrupt_hint = "All nodes have stopped. The same command starts them again."
    with _held(folder):
        state = load_state(folder)
        plan = Plan(folder=folder, count=count, name=state.name, settings=NodeSettings(), ports=state.ports)
        output.note(f"Starting {count} nodes, each a process with its own home under {folder}")
        async with open_local_network(plan, lambda text: output.note(f"  {text}")) as network:
            save_state(folder, SwarmState(state.name, state.ports | {node.number: node.port for node in network.nodes}))
            _tell(settings, network)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch_for_losses, network, output.warn)
                await trio.sleep_forever()
    raise CommandError("The swarm ended by itself.")  # not reached: only a signal ends the sleep


def _tell(settings: Globals, network: "LocalNetwork") -> None:
    settings.output.note(
        f"{plural(len(network.nodes), 'node')} run until you press Ctrl-C. In another terminal:\n"
        f"  export SHOAL_NETWORK={shlex.quote(str(network.network_file))}\n"
        "  shoal publish FILE\n"
        "  shoal fetch LINK"
    )
    settings.output.status(
        event="ready",
        network_file=str(network.network_file),
        nodes=[
            {
                "number": node.number,
                "node_id": node.node_id,
                "address": node.addresses[0],
                "home": str(node.home),
                "pid": node.process.pid if node.process else None,
            }
            for node in network.nodes
        ],
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder and keep a second swarm out of it; the lock dies with this process."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "swarm.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"Cannot use {folder}: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(f"Another swarm runs in {folder}.", Code.DAEMON_RUNS) from error
        yield
    finally:
        os.close(lock)


def load_state(folder: Path) -> SwarmState:
    """What the last run left in `folder`, or a new network's state."""
    path = folder / STATE_FILE
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(STATE_MAX_BYTES))
        return SwarmState(
            _name(found["network"]), {int(number): _port(port) for number, port in found["ports"].items()}
        )
    except FileNotFoundError:
        return SwarmState(f"swarm-{secrets.token_hex(4)}")
    except OSError as error:
        raise CommandError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{path} is damaged. Remove {folder} to start a new swarm there.") from error


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.replace("-", "").isalnum() or len(value) > 64:
        raise ValueError("not the network name of a swarm")
    return value


def _port(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 65_536:
        raise ValueError("not a port")
    return value


def save_state(folder: Path, state: SwarmState) -> None:
    """Remember the network for the next run, atomically."""
    path = folder / STATE_FILE
    temporary = path.with_suffix(".tmp")
    text = json.dumps({"network": state.name, "ports": {str(number): port for number, port in state.ports.items()}})
    try:
        temporary.write_text(text + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.") from error
