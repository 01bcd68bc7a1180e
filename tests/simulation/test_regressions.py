"""Studies that failed once, or stand for one that did, each with the bug that it showed: they must end well for ever.

The studies that found these bugs were long, and what they were made of has changed since, so the plans here are small
ones with more of the same hazards. They are kept because a study once failed so. Today more than one thing stands in
each bug's way, and the exact cases are tests of their own in tests/node.
"""

from dataclasses import dataclass

import pytest

from shoal.simulation.plan import DAY_S, Hazards, StudyPlan
from shoal.simulation.study import run_study


@dataclass(frozen=True, slots=True)
class Case:
    """A plan with its seed, and the bug. `most_repairs`: more than these are for nothing."""

    plan: StudyPlan
    bug: str
    most_repairs: int | None = None


def calm(**hazards: float) -> Hazards:
    """A world in which nothing goes wrong but what is named, and the weather."""
    nothing = {"severed_days": 1e4, "bit_flips": 0.0, "full_disks": 0.0, "wild_clocks": 0.0, "liars": 0.0}
    return Hazards(**{**nothing, **hazards})  # type: ignore[arg-type]


IMMORTAL_DAYS = 1e4

CASES = {
    "missed statements": Case(
        StudyPlan(
            seed=1, nodes=12, days=6, files=3, size_bytes=1_000, mean_life_days=IMMORTAL_DAYS, uptime=0.8,
            absences=120, k=2, n=8, hazards=calm(),
        ),
        "Holders that had been away took shares for lost whose new statements they had missed, and made them again.",
        most_repairs=0,
    ),
    "full disks": Case(
        StudyPlan(seed=1, nodes=14, days=2, files=2, size_bytes=1_000, k=2, n=8, hazards=calm(full_disks=500.0)),
        "A caretaker that could not write down what others stated took its whole node with it.",
    ),
    "a liar's door": Case(
        StudyPlan(seed=3, nodes=14, days=0.3, files=12, size_bytes=1_000, hazards=Hazards(liars=0.3)),
        "A client that met a liar first took the liar's network for all there was.",
    ),
    "claims of liars": Case(
        StudyPlan(
            seed=3, nodes=14, days=2, files=2, size_bytes=1_000, mean_life_days=4, uptime=1.0, k=2, n=8,
            hazards=calm(liars=0.3),
        ),
        "A holder that claimed every share kept a file from being repaired; so did one that looked before its turn.",
    ),
    "a clock days behind": Case(
        StudyPlan(
            seed=2, nodes=10, days=2, files=1, size_bytes=1_000, mean_life_days=5, uptime=1.0, k=2, n=8,
            hazards=calm(wild_clocks=0.3, wild_clock_s=5 * DAY_S),
        ),
        "A machine days behind took new statements for made in the future, and repaired in vain, day after day.",
    ),
    "nobody is up": Case(
        StudyPlan(seed=1, nodes=4, days=1, files=2, size_bytes=1_000, uptime=0.05),
        "A study ended with an error when no machine was up.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_study_found_stays_mended(name: str) -> None:
    case = CASES[name]
    report = run_study(case.plan)
    assert report.good, f"{case.bug} {report.violations}"
    if case.most_repairs is not None:
        assert report.repairs <= case.most_repairs, case.bug
