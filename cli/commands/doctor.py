"""`shoal doctor`: what is wrong with this machine's node, and what to do."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from shoal import __version__
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError
from shoal.cli.output import visible

if TYPE_CHECKING:
    from shoal.node import Symptom

INDENT = " " * 9


def doctor(context: typer.Context) -> Job:
    """Tell how this machine's running node is connected, what is wrong with it, and what to do.

    Exit code: 0 when all is well, 3 when something is wrong, 1 when no node answers.
    """
    settings = globals_of(context)
    return settings.job(lambda: _doctor(settings))


async def _doctor(settings: Globals) -> int:
    from shoal.node import daemon_status, diagnose

    home = settings.locate_home()
    if not home.key_file.exists():
        raise CommandError(
            f"No node runs on {visible(str(home.data))}, and none is set up there. "
            f"Set one up with: {settings.command('node', 'init', '--capacity', '50GB')}"
        )
    found = diagnose(await daemon_status(home, network=settings.load_network()), version=__version__)
    settings.output.result(lines(found.findings))
    settings.output.summary(ok=found.is_well, findings=[each.as_plain() for each in found.findings])
    return Code.OK if found.is_well else Code.PARTIAL


def lines(findings: Iterable["Symptom"]) -> str:
    """A line for each finding, with what it means and what to do below it."""
    told = []
    for each in findings:
        told.append(f"{each.level.value:<8} {each.subject}: {visible(each.says)}")
        told += [f"{INDENT}{visible(text)}" for text in (each.means, each.advice) if text]
    return "\n".join(told)
