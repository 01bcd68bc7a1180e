"""`shoal node init | run | status`: a volunteer's machine."""

import dataclasses
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.output import visible
from shoal.cli.units import UnitError, exact_size, format_size, parse_rate, parse_size, plural
from shoal.cli.volunteer import News, table
from shoal.values import dataclass

if TYPE_CHECKING:
    import trio

    from shoal.node import Node, NodeSettings

T = TypeVar("T")

JOIN_NOTICE_S = 30.0  # thirty nodes started at once have joined by then, so silence is worth a word
STDIN_DRAIN_BYTES = 4096
LEAST_BARE_BYTES = 10**6
LOOK_EVERY_S = 60.0  # at what is wrong

Capacity = Annotated[
    str | None,
    typer.Option("--capacity", metavar="SIZE", help="Maximum disk space to offer (default 10GB).", show_default=False),
]
Reserve = Annotated[
    str | None,
    typer.Option(
        "--reserve",
        metavar="SIZE",
        help="Free disk space to leave alone (default 1GB).",
        show_default=False,
    ),
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Local address for UDP and TCP; repeatable (default: port 4750 on all interfaces).",
        show_default=False,
    ),
]
Advertise = Annotated[
    list[str] | None,
    typer.Option(
        "--advertise",
        metavar="HOST:PORT",
        help="Public address to announce; repeatable (default: as peers see it).",
        show_default=False,
    ),
]
Up = Annotated[
    str | None,
    typer.Option(
        "--up", metavar="RATE", help="Maximum rate to send, such as 2MB/s (default: unlimited).", show_default=False
    ),
]
Down = Annotated[
    str | None,
    typer.Option(
        "--down",
        metavar="RATE",
        help="Maximum rate to receive, such as 10MB/s (default: unlimited).",
        show_default=False,
    ),
]
NoMap = Annotated[bool, typer.Option("--no-map", help="Do not ask the home router to open a port.")]
NoRelay = Annotated[bool, typer.Option("--no-relay", help="Pass nothing on for nodes that nobody can dial.")]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Settings as typed and checked; what was not given is missing from `values`."""

    values: Mapping[str, int | None]
    listen: tuple[str, ...]
    advertise: tuple[str, ...]

    def apply(self, settings: "NodeSettings") -> "NodeSettings":
        """`settings` with these wishes over them. BadUsageError for an address that is none."""
        changes: dict[str, object] = dict(self.values)
        if self.listen:
            changes["listen"] = _addresses("--listen", self.listen)
        if self.advertise:
            changes["advertise"] = _addresses("--advertise", self.advertise)
        return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


def _addresses(option: str, texts: Sequence[str]) -> tuple[object, ...]:
    from shoal.dht import Address, AddressError

    try:
        return tuple(Address.parse(text) for text in texts)
    except AddressError as error:
        raise BadUsageError(f"{option}: {error}.") from error


def _wishes(
    capacity: str | None,
    reserve: str | None,
    up: str | None,
    down: str | None,
    listen: list[str] | None,
    advertise: list[str] | None,
    no_map: bool,
    no_relay: bool,
) -> Wishes:
    values: dict[str, int | None] = {}
    if no_map:
        values["map"] = False
    if no_relay:
        values["relay"] = False
    if capacity is not None:
        values["capacity_bytes"] = _with_unit("--capacity", capacity)
    if reserve is not None:
        values["reserve_bytes"] = _with_unit("--reserve", reserve)
    if up is not None:
        values["up_bytes_per_s"] = _read("--up", parse_rate, up)
    if down is not None:
        values["down_bytes_per_s"] = _read("--down", parse_rate, down)
    return Wishes(values, tuple(listen or ()), tuple(advertise or ()))


def _read(option: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except UnitError as error:
        raise BadUsageError(f"{option}: {error}.") from error


def _with_unit(option: str, text: str) -> int:
    """A size of disk. A small number without a unit is meant in gigabytes, and would be taken for bytes."""
    size = _read(option, parse_size, text)
    if text.strip().isdigit() and 0 < size < LEAST_BARE_BYTES:
        raise BadUsageError(f"{option}: {text.strip()} would be bytes. Write the unit, as in {text.strip()}GB.")
    return size


def init(
    context: typer.Context,
    capacity: Capacity = None,
    reserve: Reserve = None,
    listen: Listen = None,
    advertise: Advertise = None,
    up: Up = None,
    down: Down = None,
    no_map: NoMap = False,
    no_relay: NoRelay = False,
) -> Job:
    """Set up a node on this machine: make its identity and write its settings.

    Prints the node id. The identity needs a proof of work, which takes some seconds on a public network.
    """
    settings = globals_of(context)
    wishes = _wishes(capacity, reserve, up, down, listen, advertise, no_map, no_relay)
    return Job(settings.output, lambda: _init(settings, wishes))


def _init(settings: Globals, wishes: Wishes) -> int:
    from shoal.node import NodeSettings, init_node, written_settings

    home = settings.locate_home()
    written = written_settings(home)
    chosen = wishes.apply(written or NodeSettings())
    if (
        written is None
    ):  # what stands in the environment, such as $SHOAL_NO_LAN, does not contradict what a person wrote
        chosen = settings.with_lan(chosen)
    network = settings.load_network()
    parameters = network.parameters
    node_id = init_node(home, chosen, network)
    output = settings.output
    if written is not None:
        output.note(f"The settings in {home.settings_file} are kept.")
    output.note(
        f"A node for the network {parameters.name!r} is set up in {home.config}. It offers up to "
        f"{exact_size(chosen.capacity_bytes)} and leaves {exact_size(chosen.reserve_bytes)} of disk free.\n"
        f"Start it with: {settings.command('node', 'run')}"
    )
    free_bytes = shutil.disk_usage(home.data).free
    if chosen.capacity_bytes > free_bytes:
        output.warn(
            f"The disk has {format_size(free_bytes)} free, less than the {exact_size(chosen.capacity_bytes)} offered. "
            "The node takes what fits."
        )
    output.result(node_id.hex())
    output.summary(
        node_id=node_id.hex(),
        home=str(home.config),
        network=parameters.name,
        capacity_bytes=chosen.capacity_bytes,
        reserve_bytes=chosen.reserve_bytes,
        listen=[str(address) for address in chosen.listen],
    )
    return Code.OK


def run(
    context: typer.Context,
    capacity: Capacity = None,
    reserve: Reserve = None,
    listen: Listen = None,
    advertise: Advertise = None,
    up: Up = None,
    down: Down = None,
    no_map: NoMap = False,
    no_relay: NoRelay = False,
    stop_on_eof: Annotated[
        bool,
        typer.Option("--stop-on-eof", help="Also stop when standard input ends. For programs that start nodes."),
    ] = False,
    web: Annotated[
        bool,
        typer.Option("--web", help="Serve the page too, on this machine alone. Open it with: shoal web"),
    ] = False,
) -> Job:
    """Run the node of this machine until you stop it with Ctrl-C.

    Options given here replace the settings in config.toml, for this run only.

    Exit code: 130 after Ctrl-C or SIGTERM, 0 after `shoal node leave`, which stops the node and takes its place.
    """
    settings = globals_of(context)
    wishes = _wishes(capacity, reserve, up, down, listen, advertise, no_map, no_relay)
    return settings.job(lambda: _run(settings, wishes, stop_on_eof, web=web))


async def _run(settings: Globals, wishes: Wishes, stop_on_eof: bool, *, web: bool) -> int:
    import trio

    from shoal.node import load_settings, open_node

    home = settings.locate_home()
    chosen = settings.with_lan(wishes.apply(load_settings(home)))
    settings.output.interrupt_hint = "The node has stopped."
    async with open_node(
        home, network=settings.network, bootstrap=settings.bootstrap, serve=True, settings=chosen
    ) as node:
        end_wanted = node.end_wanted()
        _announce(settings, node)
        news = News()
        await _report_problems(settings, node, news)
        async with _opened_door(settings, node, wanted=web), trio.open_nursery() as nursery:
            nursery.start_soon(_report_joining, settings, node)
            nursery.start_soon(_keep_looking, settings, node, news)
            reason = await _wait_for_end(end_wanted, stop_on_eof)
            nursery.cancel_scope.cancel()
        node_id = node.node_id.hex()
    settings.output.note(f"The node has stopped: {reason}.")
    settings.output.summary(node_id=node_id)
    return Code.OK


@asynccontextmanager
async def _opened_door(settings: Globals, node: "Node", *, wanted: bool) -> AsyncIterator[None]:
    if not wanted:
        yield
        return
    from shoal.doors.web import open_door

    async with open_door(node, settings.load_network()) as door:
        settings.output.note(f"the page is open on port {door.note.port}: see it with {settings.command('web')}")
        settings.output.status(event="web", port=door.note.port)  # no token: this often goes to a log
        yield


def _announce(settings: Globals, node: "Node") -> None:
    addresses = [str(address) for address in node.addresses]
    settings.output.note(f"listening on {', '.join(addresses)}, node id {node.node_id.hex()}")
    settings.output.status(event="listening", node_id=node.node_id.hex(), addresses=addresses, pid=os.getpid())


async def _report_joining(settings: Globals, node: "Node") -> None:
    """Say when the first peer has answered, and once when none has for a while."""
    from shoal.node import NoPeers

    output = settings.output
    told = False
    while True:
        try:
            await node.wait_joined(JOIN_NOTICE_S)
        except NoPeers as error:
            if not told:
                output.note(f"{error} Still trying.")
                output.status(event="waiting", message=str(error))
            told = True
            continue
        peers = int((await node.status())["peers"])
        if peers:
            output.note(f"joined the network: {plural(peers, 'peer')} so far")
            output.status(event="joined", peers=peers)
        else:
            output.note("no peer is known: this is the first node of its network, and others can join through it")
            output.status(event="first", peers=0)
        return


async def _report_problems(settings: Globals, node: "Node", news: News) -> None:
    """Say what is wrong, once."""
    was_good = news.is_good
    for text in news.of((await node.status())["problems"]):
        settings.output.warn(text)
    if news.is_good and not was_good:
        settings.output.note("Nothing is wrong any more.")
        settings.output.status(event="recovered")


async def _keep_looking(settings: Globals, node: "Node", news: News) -> None:
    """Until cancelled."""
    import trio

    while True:
        await trio.sleep(LOOK_EVERY_S)
        await _report_problems(settings, node, news)


async def _wait_for_end(end_wanted: "trio.Event", stop_on_eof: bool) -> str:
    """Until the node is to end in good order; why, for people."""
    import trio

    reason = "its standard input has ended"
    async with trio.open_nursery() as nursery:

        async def obey() -> None:
            nonlocal reason
            await end_wanted.wait()
            reason = "another command on this machine asked it to, such as shoal node leave"
            nursery.cancel_scope.cancel()

        nursery.start_soon(obey)
        if stop_on_eof:
            await _wait_for_eof()
        else:
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    return reason


async def _wait_for_eof() -> None:
    import trio

    while await trio.to_thread.run_sync(os.read, 0, STDIN_DRAIN_BYTES, abandon_on_cancel=True):
        pass


def status(context: typer.Context) -> Job:
    """Show how this machine's running node is doing.

    Exit code: 0 when all is well, 3 when the node runs and something is wrong, 1 when no node answers.
    """
    settings = globals_of(context)
    return settings.job(lambda: _status(settings))


async def _status(settings: Globals) -> int:
    from shoal.node import daemon_status

    home = settings.locate_home()
    if not home.key_file.exists():
        raise CommandError(
            f"No node runs on {visible(str(home.data))}, and none is set up there. "
            f"Set one up with: {settings.command('node', 'init', '--capacity', '50GB')}"
        )
    found = await daemon_status(home, network=settings.load_network())
    settings.output.result(table(found, everything=bool(settings.output.verbose)))
    settings.output.summary(**found)
    return Code.PARTIAL if found["problems"] else Code.OK
