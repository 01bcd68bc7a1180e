"""The command line as a whole: the options of `shoal` itself, and the commands.

typer only parses. A command's function checks what was typed and returns a `Job`, which `main` runs after
typer has left the stage: so errors of the work never pass through the parser, nor the parser's through the
work.
"""

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Annotated

import typer

from shoal import __version__
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.lean import HELP_COLUMNS, LeanCommand, LeanGroup, help_columns
from shoal.cli.output import visible, without_fragments, without_keys

PROGRAM = "shoal"
LINK_START = "shoal:"  # as in `erasure.link`, which would take longer to import than all of this

# Modules of `shoal.cli.commands`, each with a function of that name. `node` has commands below it.
COMMANDS = (
    "publish",
    "fetch",
    "cat",
    "info",
    "ls",
    "check",
    "repair",
    "renew",
    "keep",
    "unkeep",
    "republish",
    "delete",
    "web",
    "invite",
    "join",
    "doctor",
    "demo",
    "swarm",
    "simulate",
    "completion",
    "node",
)
NODE_COMMANDS = {"init": "node", "run": "node", "status": "node", "leave": "leave"}  # with their modules
_FLAGS = frozenset({"--json", "--quiet", "--verbose", "-v", "-vv"})  # options of `shoal` without a value,
_VALUED = frozenset({"--home", "--network", "--bootstrap"})  # and with one


def make_app(names: Collection[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands alone. Each is loaded and described, which takes longest of all here."""
    app = typer.Typer(
        name=PROGRAM,
        help=(
            "Free, encrypted file storage carried by volunteers. Publishing a file or a folder prints its link. Anyone "
            "with the link can read it: keep it secret. The options below may stand before or after the command."
        ),
        cls=LeanGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_COLUMNS},
    )
    app.callback(invoke_without_command=True)(options)
    for name in names:
        if name != "node":
            app.command(name, cls=LeanCommand)(_function(name, name))
    if "node" in names:
        app.add_typer(_node_app(), name="node")
    return app


def _node_app() -> typer.Typer:
    app = typer.Typer(
        help="Run a volunteer node: offer disk space to the network.", cls=LeanGroup, rich_markup_mode=None
    )
    app.callback(invoke_without_command=True)(_node_options)
    for name, module in NODE_COMMANDS.items():
        app.command(name, cls=LeanCommand)(_function(module, name))
    return app


def _function(module: str, name: str) -> Callable[..., Job]:
    function: Callable[..., Job] = getattr(import_module(f"shoal.cli.commands.{module}"), name)
    return function


def _meant(arguments: Sequence[str]) -> Collection[str]:
    """The one command that is asked for, where that is plain; else all that there are."""
    words = iter(arguments)
    for word in words:
        if word in COMMANDS:
            return (word,)
        if word in _VALUED:
            next(words, None)
        elif word not in _FLAGS and word.partition("=")[0] not in _VALUED:
            break
    return COMMANDS


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shoal {__version__}")
        raise typer.Exit


def options(
    context: typer.Context,
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            metavar="DIR",
            envvar="SHOAL_HOME",
            help="Keep everything in DIR. Default: the XDG folders.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="FILE|INVITE",
            envvar="SHOAL_NETWORK",
            help="The network to use. Default: the one that the home has joined, else the one that comes with Shoal.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(
            "--bootstrap",
            metavar="HOST:PORT",
            envvar="SHOAL_BOOTSTRAP",
            help="A further peer to join through. Repeatable, or comma-separated.",
            show_default=False,
        ),
    ] = None,
    no_lan: Annotated[
        bool,
        typer.Option(
            "--no-lan",
            envvar="SHOAL_NO_LAN",
            help="Do not look for peers of a private network in the local network, and answer none there.",
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", envvar="SHOAL_JSON", help="Print JSON for scripts, one object per line."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Say more on standard error; given twice, even more.",
            show_default=False,
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> Job | None:
    """The options of `shoal` itself. Without a command there is nothing to do but to show the help."""
    context.obj = Globals.of(context.params)
    return _show_help(context)


def _node_options(context: typer.Context) -> Job | None:
    return _show_help(context)


def _show_help(context: typer.Context) -> Job | None:
    """Show the help of a group of commands when none was named. That is a usage error: a script must notice it."""
    if context.invoked_subcommand is not None:
        return None
    output = globals_of(context).output
    if output.json:
        raise BadUsageError(f"Missing command. See: {context.command_path} --help")

    def work() -> int:
        output.complain(context.get_help())
        return Code.USAGE

    return Job(output, work)


def parse(arguments: Sequence[str]) -> Job | int:
    """The job that `arguments` ask for, or an exit code where printing help was all.

    Raises BadUsageError for a command line that makes no sense.
    """
    command = typer.main.get_command(make_app(_meant(arguments)))
    try:
        job: Job | int | None = command.main(
            args=list(arguments), prog_name=PROGRAM, standalone_mode=False, terminal_width=help_columns()
        )
    except typer.TyperException as error:
        raise BadUsageError(_usage_words(error)) from error
    return 0 if job is None else job


def _usage_words(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = visible(error.format_message().strip().rstrip("."))
    if message.startswith("No such command") and (LINK_START in message or without_keys(message) != message):
        return f"A link stands where a command belongs. Get its file with: {PROGRAM} fetch LINK"
    message = without_fragments(message)
    end = "" if message.endswith("?") else "."
    return f"{message}{end} See: {path} --help"
