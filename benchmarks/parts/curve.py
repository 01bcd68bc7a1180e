"""The curve of death rates: how many files are lost, and what repairs move, for codes of several widths.

The model (`deaths.Model`) fills the table. Whole nodes are asked at a few of its places: by the code of this tree and,
where another interpreter is given, with what is installed there.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from parts.deaths import FIXED, Outcome, Rule, run_model

from shoal.node.care.urgency import grace_epochs, pause_epochs

SCRIPT = Path(__file__).with_name("deaths.py")
CODES = ((1, 3), (2, 6), (4, 12), (8, 24), (16, 48))
RATES = (2, 5, 10, 20, 40)
PLACES = ((1, 3, 20), (4, 12, 20))  # where whole nodes are asked
BY_SPARE = Rule(grace_epochs, pause_epochs)
RULES = {"fixed": FIXED, "by spare": BY_SPARE}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run: files and days of the model, and of whole nodes."""

    seed: int = 1
    files: int = 100
    days: float = 30.0
    whole_files: int = 10
    whole_days: float = 10.0


def model_table(size: Size, codes: Sequence[tuple[int, int]] = CODES, rates: Sequence[float] = RATES) -> Iterator[str]:
    """The table of the model: a row for each code and rule, a column for each rate."""
    yield f"| code | grace | {' | '.join(f'{rate:g}' for rate in rates)} |"
    yield f"|---|---|{'---:|' * len(rates)}"
    for k, n in codes:
        for name, rule in RULES.items():
            found = [run_model(k, n, rate, rule, seed=size.seed, files=size.files, days=size.days) for rate in rates]
            yield f"| {k} of {n} | {name} | {' | '.join(_cell(each, k) for each in found)} |"


def whole_table(size: Size, old: str | None, places: Sequence[tuple[int, int, float]] = PLACES) -> Iterator[str]:
    """The table of whole nodes: at each place the model and the nodes of one run."""
    pythons = {"by spare": sys.executable} if old is None else {"fixed": old, "by spare": sys.executable}
    runs = [(k, n, rate, name) for k, n, rate in places for name in pythons]
    with ThreadPoolExecutor(2) as pool:
        wholes = list(pool.map(lambda run: run_whole(size, run[:3], pythons[run[3]]), runs))
    yield "| code | deaths a day of 100 | grace | whole nodes | model |"
    yield "|---|---:|---|---:|---:|"
    for (k, n, rate, name), whole in zip(runs, wholes, strict=True):
        model = run_model(k, n, rate, RULES[name], seed=size.seed, files=size.files, days=size.whole_days)
        yield f"| {k} of {n} | {rate:g} | {name} | {_cell(whole, k)} | {_cell(model, k)} |"


def run_whole(size: Size, place: tuple[int, int, float], python: str) -> Outcome:
    """One run of whole nodes, in a process of its own."""
    k, n, rate = place
    command = [python, SCRIPT, "--needed", k, "--total", n, "--per-100", rate, "--seed", size.seed]
    command += ["--files", size.whole_files, "--days", size.whole_days]
    printed = subprocess.run([str(each) for each in command], check=True, capture_output=True, text=True).stdout
    return Outcome(**json.loads(printed))


def print_curve(size: Size, old: str | None, say: Say) -> None:
    """Both tables."""
    say("Files lost, and the bytes that repairs fetch and send per file and day, in parts of the file's size.")
    say(f"\nModel: {size.files} files, {size.days:g} days; columns: deaths a day of 100 machines\n")
    for line in model_table(size):
        say(line)
    say(f"\nWhole nodes: {size.whole_files} files, {size.whole_days:g} days; the model for as long\n")
    for line in whole_table(size, old):
        say(line)


def _cell(found: Outcome, k: int) -> str:
    return f"{100 * found.lost_part:.3g} %, {found.moved_per_day(k):.2f}"
