"""The command line as a whole: the options of `shoal` itself, and the commands.

typer only parses. A command's function checks what was typed and returns a `Job`, which `main` runs after
typer has left the stage: so errors of the work never pass through the parser, nor the parser's through the
work.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from shoal import __version__
from shoal.cli.commands import (
    cat,
    check,
    completion,
    delete,
    demo,
    fetch,
    info,
    invite,
    join,
    keep,
    leave,
    ls,
    node,
    publish,
    renew,
    repair,
    republish,
    simulate,
    swarm,
    unkeep,
    web,
)
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.lean import HELP_COLUMNS, LeanCommand, LeanGroup, help_columns
from shoal.cli.output import visible, without_fragments, without_keys

PROGRAM = "shoal"
LINK_START = "shoal:"  # as in `erasure.link`, which would take longer to import than all of this

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
_node_app = typer.Typer(
    help="Run a volunteer node: offer disk space to the network.", cls=LeanGroup, rich_markup_mode=None
)

_COMMANDS: tuple[Callable[..., Job], ...] = (
    publish.publish,
    fetch.fetch,
    cat.cat,
    info.info,
    ls.ls,
    check.check,
    repair.repair,
    renew.renew,
    keep.keep,
    unkeep.unkeep,
    republish.republish,
    delete.delete,
    web.web,
    invite.invite,
    join.join,
    demo.demo,
    swarm.swarm,
    simulate.simulate,
    completion.completion,
)
_NODE_COMMANDS: tuple[Callable[..., Job], ...] = (node.init, node.run, node.status, leave.leave)

for _function in _COMMANDS:
    app.command(_function.__name__, cls=LeanCommand)(_function)
for _function in _NODE_COMMANDS:
    _node_app.command(_function.__name__, cls=LeanCommand)(_function)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shoal {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
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


_node_app.callback(invoke_without_command=True)(_node_options)
app.add_typer(_node_app, name="node")


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
    command = typer.main.get_command(app)
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
