"""The parts of benchmarks/under_attack.py that only compute: what counts as held, and the table."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hostile.rig import Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("under_attack")


def part(succeeded: int, tried: int, median_s: float | None) -> dict[str, Any]:
    counts = {"succeeded": succeeded, "tried": tried, "median_s": median_s}
    return {"failures": [], "remarks": [], "publish": counts, "fetch": counts}


def outcome(during: dict[str, Any], *, most_mib: float = 60.0, ended: list[int] | None = None) -> Outcome:
    return Outcome(
        "an attack",
        "private",
        before=part(9, 9, 1.0),
        during=during,
        after=part(9, 9, 1.0),
        memory_before=[50.0, 55.0],
        memory_most=[most_mib, 56.0],
        memory_after=[51.0, 56.0],
        ended=ended or [],
    )


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (outcome(part(100, 100, 3.0)), []),
        (outcome(part(99, 100, 1.0)), []),
        (outcome(part(98, 100, 1.0)), ["publish during", "fetch during"]),
        (outcome(part(100, 100, 3.1)), ["publish slow", "fetch slow"]),
        (outcome(part(0, 1, None)), ["publish during", "publish slow", "fetch during", "fetch slow"]),
        (outcome(part(9, 9, 1.0), most_mib=81.0), ["memory"]),
        (outcome(part(9, 9, 1.0), ended=[3]), ["ended"]),
    ],
)
def test_what_an_attack_achieved(script: ModuleType, made: Outcome, what: list[str]) -> None:
    assert script.missed(made) == what


def test_a_row_shows_the_daemon_that_grew_most(script: ModuleType) -> None:
    cells = script.row(outcome(part(98, 100, 2.0)))
    assert len(cells) == len(script.HEAD)
    assert "9/9 98/100 9/9" in cells
    assert "50 60 51" in cells
    assert cells[-1] == "publish during, fetch during"
