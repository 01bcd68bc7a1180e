"""When a machine is up: its whole life, drawn before it begins.

A machine is up and away by turns; how long, follows a gamma distribution, which is lumpier than a timetable and milder
than an exponential. When its life ends it is gone for ever, up or away. Nothing here knows the network.
"""

import random
from collections.abc import Iterator
from enum import Enum
from math import inf

from shoal.simulation.plan import DAY_S, StudyPlan
from shoal.values import dataclass

SHAPE = 4.0  # of the gamma distribution: a spread of half the mean


class Change(Enum):
    """What happens to a machine."""

    UP = "up"
    STOP = "stop"
    POWER_CUT = "power cut"
    DEATH = "death"


@dataclass(frozen=True, slots=True)
class Event:
    """At `at` seconds from the beginning of the study."""

    at: float
    change: Change


def life(plan: StudyPlan, rng: random.Random, born: float, *, newborn: bool) -> Iterator[Event]:
    """The events of a machine that begins its life at `born`, in order, until its death.

    A machine of the first day (not `newborn`) is in the middle of a turn, up or away: as many are away then as later.
    """
    dies = born + rng.expovariate(1.0 / (plan.mean_life_days * DAY_S))
    now, part = born, 1.0
    if not newborn:
        part = rng.random()
        if plan.goes_away and rng.random() > plan.uptime:
            now, part = now + part * _spell(rng, plan.mean_away_s), 1.0
    while now < dies:
        yield Event(now, Change.UP)
        now += part * _spell(rng, plan.mean_up_s)
        part = 1.0
        if now < dies:
            yield Event(now, Change.POWER_CUT if rng.random() < plan.hazards.power_cuts else Change.STOP)
            now += _spell(rng, plan.mean_away_s)
    yield Event(dies, Change.DEATH)


def _spell(rng: random.Random, mean_s: float) -> float:
    return inf if mean_s == inf else rng.gammavariate(SHAPE, mean_s / SHAPE)
