"""Studies in which everything goes wrong at once: they replay in another process, and lose nothing."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

from shoal.node.store.limits import INLINE_BYTES
from shoal.simulation.plan import Hazards, StudyPlan
from shoal.simulation.study import run_study

# Everything that may go wrong does: a set or dict that is walked by chance would show somewhere.
WILD = StudyPlan(
    seed=2,
    nodes=14,
    days=2,
    files=2,
    size_bytes=2_000,
    mean_life_days=4,
    absences=500,
    uptime=0.9,
    k=2,
    n=8,
    hazards=Hazards(liars=0.2, severed_days=0.5, full_disks=50, bit_flips=50, wild_clocks=0.1),
)

PROGRAM = f"""
import json
from shoal.simulation.datagrams import Weather
from shoal.simulation.plan import Hazards, StudyPlan
from shoal.simulation.study import run_study
fields = run_study({WILD!r}).fields()
del fields["machine"]
print(json.dumps(fields))
"""


def in_processes(*hash_seeds: str) -> list[dict[str, Any]]:
    """What each found, side by side."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in hash_seeds
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(each) for each in said]


def test_a_study_replays_under_another_hash_seed() -> None:
    first, again = in_processes("1", "2")
    assert first == again
    assert first["published"] == 2
    assert first["good"], first["violation_texts"]
    assert first["repairs"] > 0
    for hazard in ("deaths", "absences", "power_cuts", "partitions", "flipped_bits", "full_disks", "liars"):
        assert first[hazard] > 0, hazard


def test_power_cuts_and_rot_lose_nothing_of_shares_that_are_files() -> None:
    """Small shares live in the database, which a power cut tears nothing of; larger ones are files of a disk."""
    size_bytes, k = 200_000, 4
    assert size_bytes / k > INLINE_BYTES
    hazards = Hazards(power_cuts=1.0, bit_flips=200, liars=0.0, severed_days=100.0)
    plan = replace(WILD, seed=6, size_bytes=size_bytes, k=k, n=10, hazards=hazards)
    report = run_study(plan)
    assert report.good, report.violations
    assert report.power_cuts > 10
    assert report.flipped_bits > 0
    assert report.repairs > 0
