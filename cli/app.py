"""The command line as a whole: options before the command, and the commands.

typer only parses. A command's function checks what was typed and returns a `Job`, which `main` runs after
typer has left the stage: so errors of the work never pass through the parser, nor the parser's through the
work.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from shoal.cli.commands import (
    check,
    delete,
    demo,
    fetch,
    info,
    keep,
    leave,
    ls,
    node,
    publish,
    renew,
    repair,
    simulate,
    swarm,
    unkeep,
)
from shoal.cli.context import Globals, Job, split_addresses
from shoal.cli.exits import BadUsageError
from shoal.cli.lean import LeanCommand, LeanGroup
from shoal.cli.output import Output, visible

PROGRAM = "shoal"

app = typer.Typer(
    name=PROGRAM,
    help=(
        "Free, encrypted file storage carried by volunteers. A link is all it takes to fetch a file: keep it secret."
    ),
    cls=LeanGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_node_app = typer.Typer(
    help="Run a volunteer node: give disk space to the network.", cls=LeanGroup, rich_markup_mode=None
)

_COMMANDS: tuple[Callable[..., Job], ...] = (
    publish.publish,
    fetch.fetch,
    info.info,
    ls.ls,
    check.check,
    repair.repair,
    renew.renew,
    keep.keep,
    unkeep.unkeep,
    delete.delete,
    demo.demo,
    swarm.swarm,
    simulate.simulate,
)
_NODE_COMMANDS: tuple[Callable[..., Job], ...] = (node.init, node.run, node.status, leave.leave)

for _function in _COMMANDS:
    app.command(_function.__name__, cls=LeanCommand)(_function)
for _function in _NODE_COMMANDS:
    _node_app.command(_function.__name__, cls=LeanCommand)(_function)
app.add_typer(_node_app, name="node")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"shoal {version('shoal')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            metavar="DIR",
            envvar="SHOAL_HOME",
            help="Keep everything in DIR. Default: the XDG directories.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="FILE",
            envvar="SHOAL_NETWORK",
            help="The network to use, in the format of bootstrap_peers.toml. Default: the one shipped.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(
            "--bootstrap",
            metavar="HOST:PORT",
            envvar="SHOAL_BOOTSTRAP",
            help="A peer to start from besides the network file's. Repeatable, or comma-separated.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", envvar="SHOAL_JSON", help="Print JSON, one object per line, for scripts."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Say more on standard error; twice for even more.",
            show_default=False,
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Options that stand before the command."""
    settings = Globals(
        home=_path(home, "--home"),
        network=_path(network, "--network"),
        bootstrap=split_addresses(bootstrap or ()),
        output=Output(json=json, quiet=quiet, verbose=verbose or 0),
    )
    settings.output.in_full = settings.in_full
    context.obj = settings


def _path(value: str | None, option: str) -> Path | None:
    """An empty environment variable means the default; a NUL cannot be part of any path."""
    if not value:
        return None
    if "\0" in value:
        raise BadUsageError(f"{option}: a path cannot contain a NUL character.")
    return Path(value)


def parse(arguments: Sequence[str]) -> Job | int:
    """The job that `arguments` ask for, or an exit code where printing help was all.

    BadUsageError for a command line that makes no sense.
    """
    command = typer.main.get_command(app)
    try:
        job: Job | int | None = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        raise BadUsageError(_usage_words(error, arguments)) from error
    return 0 if job is None else job


def _usage_words(error: typer.TyperException, arguments: Sequence[str]) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = visible(error.format_message().strip().rstrip("."))
    end = "" if message.endswith("?") else "."
    return f"{message}{end}{_global_option_hint(message, arguments)} See: {path} --help"


def _global_option_hint(message: str, arguments: Sequence[str]) -> str:
    """The commonest slip: an option of `shoal` itself after the command."""
    for option in ("--home", "--network", "--bootstrap", "--json", "--quiet", "-v", "--verbose", "--version"):
        if message.startswith(f"No such option: {option}") and option in " ".join(arguments):
            return f" {option} stands before the command: {PROGRAM} {option} …"
    return ""
