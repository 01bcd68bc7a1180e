"""`shoal simulate`: whole nodes through months of virtual time, and a report of what was lost. Needs no network."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError, explain
from shoal.cli.signals import caught_signals, interrupt
from shoal.cli.tables import fields
from shoal.cli.units import MAX_DURATION_S, UnitError, parse_count, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from shoal.cli.output import Output
    from shoal.simulation.plan import StudyPlan
    from shoal.simulation.report import Report

DAY_S = 86_400
MOST_SEED = 2**53  # what JSON readers keep exact


def simulate(
    context: typer.Context,
    nodes: Annotated[str, typer.Option("--nodes", metavar="COUNT", help="Number of machines at any time.")] = "100",
    days: Annotated[
        str, typer.Option("--days", metavar="DAYS", help="Length of the study: days, or a duration such as 36h.")
    ] = "365",
    files: Annotated[
        str, typer.Option("--files", metavar="COUNT", help="Number of files, published in the first hour.")
    ] = "100",
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Size of each file.")] = "64KiB",
    mean_life: Annotated[
        str, typer.Option("--mean-life", metavar="DAYS", help="Mean life of a machine. It dies with its disk.")
    ] = "180d",
    uptime: Annotated[
        str, typer.Option("--uptime", metavar="PART", help="Share of its life that a machine is up: 0.05 to 1.")
    ] = "0.7",
    absences: Annotated[
        str, typer.Option("--absences", metavar="COUNT", help="Absences of a machine per year, on average.")
    ] = "75",
    nat: Annotated[
        str, typer.Option("--nat", metavar="PART", help="Share of machines behind home routers: 0 to 0.9.")
    ] = "0",
    k: Annotated[
        str | None,
        typer.Option("--k", metavar="K", help="Shares needed. Default: as publish chooses.", show_default=False),
    ] = None,
    n: Annotated[
        str | None,
        typer.Option("--n", metavar="N", help="Shares in all. Default: as publish chooses.", show_default=False),
    ] = None,
    seed: Annotated[str, typer.Option("--seed", metavar="NUMBER", help="Seed of all random choices.")] = "1",
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.svg", help="Draw the good shares over time.", show_default=False),
    ] = None,
) -> Job:
    """Simulate a network of whole nodes for months, and see whether files are lost.

    The nodes run the real code. Networks, disks and clocks are simulated, and time jumps ahead. Publishers vanish after
    the first hour. Machines go away and come back, lose power, die and are replaced. The network splits at times, bits
    flip, disks are full, clocks are wrong. Once a month a client renews the leases; the hosts do the rest.

    The same options give the same report, except for what it says about this machine.

    Exit code: 0 when files were published, nothing was lost and nothing was wrong, else 1.
    """
    settings = globals_of(context)
    target = None if plot is None else plot_target(plot)
    plan = read_plan(nodes, days, files, size, mean_life, uptime, absences, nat, k, n, seed)
    return Job(settings.output, lambda: run_plan(settings, plan, target))


def read_plan(
    nodes: str,
    days: str,
    files: str,
    size: str,
    mean_life: str,
    uptime: str,
    absences: str,
    nat: str,
    k: str | None,
    n: str | None,
    seed: str,
) -> "StudyPlan":
    """The plan that the options ask for. BadUsageError."""
    from shoal.simulation.plan import StudyPlan

    try:
        return StudyPlan(
            seed=_count("--seed", seed, 0, MOST_SEED),
            nodes=_count("--nodes", nodes, 4, 2_000),
            days=days_of("--days", days),
            files=_count("--files", files, 0, 100_000),
            size_bytes=_size("--size", size),
            mean_life_days=days_of("--mean-life", mean_life),
            uptime=_number("--uptime", uptime),
            absences=_number("--absences", absences),
            nat=_number("--nat", nat),
            k=None if k is None else _count("--k", k, 1, 256),
            n=None if n is None else _count("--n", n, 1, 256),
        )
    except UnitError as error:
        raise BadUsageError(f"{error}.") from error
    except ValueError as error:
        raise BadUsageError(f"This study is not possible: {error}.") from error


def _count(option: str, text: str, least: int, most: int) -> int:
    try:
        return parse_count(text, least=least, most=most)
    except UnitError as error:
        raise UnitError(f"{option}: {error}") from error


def _size(option: str, text: str) -> int:
    try:
        return parse_size(text)
    except UnitError as error:
        raise UnitError(f"{option}: {error}") from error


def days_of(option: str, text: str) -> float:
    """Days: a bare number, or a duration with a unit. A number of days need not be whole seconds, as others must."""
    stripped = text.strip()
    try:
        try:
            days = float(stripped.removesuffix("d"))
        except ValueError:
            days = parse_duration(stripped) / DAY_S
    except UnitError:
        days = -1.0
    if not 0 <= days <= MAX_DURATION_S / DAY_S:
        raise UnitError(
            f"{option}: {text!r} is not a number of days such as 30 or 0.5, nor a duration such as 36h, 30d or 2w. "
            "The most is a century"
        )
    return days


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UnitError(f"{option}: {text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise UnitError(f"{option}: {text!r} is not a number of 0 or more")
    return value


def plot_target(text: str) -> Path:
    """Where the picture goes: looked at before hours are spent on it. BadUsageError, CommandError."""
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise BadUsageError(f"--plot: {text!r} does not end in .svg, and the picture is an SVG.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise CommandError(f"Cannot write {path}: the folder does not exist, or it is a folder itself.")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise CommandError(f"Cannot write {path}: permission denied.")
    return path


def run_plan(settings: Globals, plan: "StudyPlan", target: Path | None) -> int:
    from shoal.simulation.report import replay_command
    from shoal.simulation.study import run_study

    output = settings.output
    output.note(f"Simulating. To repeat it: {replay_command(plan)}")
    output.note("Press Ctrl-C once to end early with a report, twice to end at once.")
    with Interruptions() as interruptions, _replay_told(output, plan):
        report = run_study(plan, output.note, enough=interruptions.seen, on_start=interruptions.stop_by)
    output.result(words(report))
    for text in report.violations:
        output.complain(text)
    if not report.good:
        output.complain(f"{report.verdict} To repeat it: {replay_command(report.plan)}")
    drawn = target is None or _draw(output, report, target)
    output.summary(**report.fields())
    return Code.OK if report.good and drawn else Code.FAILED


@contextmanager
def _replay_told(output: "Output", plan: "StudyPlan") -> "Iterator[None]":
    """When a study breaks, say how to break it again, whatever else is said: nobody may have seen the seed."""
    from shoal.simulation.report import replay_command

    try:
        yield
    except BaseException as error:  # it goes on up, where every error of a command ends
        if explain(error).code is not Code.INTERRUPTED:
            output.insist(f"The study itself failed. To repeat it: {replay_command(plan)}")
        raise


class Interruptions:
    """The signals that end a command, while it simulates: Ctrl-C does nothing but be remembered the first time. The
    second time, and whatever else, ends the study at once.
    """

    def __init__(self) -> None:
        self._seen = False
        self._stop: Callable[[], None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def seen(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._seen

    def stop_by(self, stop: "Callable[[], None]") -> None:
        """Stop the study by this function from now on."""
        self._stop = stop

    def __enter__(self) -> "Interruptions":
        """Take the signals over."""
        self._before = {number: signal.signal(number, self._on_signal) for number in caught_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: "FrameType | None") -> None:
        if number == signal.SIGINT and not self._seen:
            self._seen = True
        elif self._stop is not None:
            self._stop()
        else:
            interrupt(number, frame)


def _draw(output: "Output", report: "Report", target: Path) -> bool:
    """Whether that could be done; a disk that is full by now must not take the report of hours along."""
    from shoal.simulation.plot import plot

    try:
        target.write_text(plot(report))
    except OSError as error:
        output.insist(f"Cannot write {target}: {error.strerror}.")
        return False
    output.note(
        f"Drew {target}: good shares that are up, over days; blue: the mean of all files, dark red: the worst. "
        "Lines across: n and where repair begins in grey, k in red."
    )
    return True


def words(report: "Report") -> str:
    """The report for people."""
    machine = report.machine()
    speed = (
        f"{report.node_years:.2f} node-years in {report.cpu_s:.0f} s of CPU, "
        f"{machine['node_years_per_cpu_hour']} per CPU-hour"
    )
    return fields([*report.rows(), ("speed of this machine", speed)])
