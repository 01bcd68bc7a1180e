"""What a study is: its size, how its machines live and die, and how the world treats them. All from one seed."""

import math
from dataclasses import field

from shoal.simulation.datagrams import Weather
from shoal.values import dataclass

DAY_S = 86_400.0
HOUR_S = 3_600.0
YEAR_DAYS = 365.0
GRAIN_S = 1 / 16  # of arrivals: a quarter of the work of a study was jumping to moments of their own
LEAST_NODES, MOST_NODES = 4, 2_000
MOST_FILES = 100_000
MOST_SIZE_BYTES, MOST_BYTES = 64 << 20, 1 << 30  # of a file, and of all: they are kept in memory, three times over
LEAST_LIFE_DAYS = 1 / 24
MOST_ABSENCES = 10_000.0  # a year: one an hour
MOST_NAT = 0.9  # others have to ring for those machines
LEAST_DAYS, MOST_DAYS = 0.1, 3_660.0
SETTLE_S = 5 * DAY_S  # after the network has healed: the grace for absent holders is three days


@dataclass(frozen=True, slots=True)
class Hazards:
    """What goes wrong, and how often. Rates are per machine and year unless they say otherwise.

    weather: what the network does to datagrams.  severed: days from one partition to the next, on average; each lasts
    up to `severed_hours` and cuts up to half of the machines off, every second time in one direction only.
    power_cuts: share of absences that begin with the plug pulled.  bit_flips: bits that rot in stored shares.
    full_disks: times a disk is full for up to a day.  clock_s: wall clocks are wrong by up to so much, and by up to
    `drift` more per second; a share `wild_clocks` of the machines is wrong by days.  liars: share of the machines that
    lie, all in league (`liars.py`).
    """

    weather: Weather = field(
        default_factory=lambda: Weather(latency_s=(0.005, 0.12), loss=0.01, duplication=0.005, late=0.01, late_s=2.0)
    )
    severed_days: float = 14.0
    severed_hours: float = 12.0
    power_cuts: float = 0.5
    bit_flips: float = 1.0
    full_disks: float = 0.5
    clock_s: float = 300.0
    drift: float = 2e-5  # two seconds a day: a bad quartz that nobody corrects
    wild_clocks: float = 0.02
    wild_clock_s: float = 5 * DAY_S
    liars: float = 0.05


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """The arguments of a study. The same plan gives the same report, on any machine.

    nodes: machines at any time; those that die are replaced by fresh ones.  days: how long.  files of `size_bytes`
    are published in the first hour by clients that then vanish.  k, n: the code, None for the network's own choice.
    mean_life_days: of a machine, until it dies for good with its disk.  uptime: share of its life that a machine is
    up.  absences: how often a year it goes away and comes back, on average.  nat: share of the machines that stand
    behind a home router, where nobody can call them (`nat.py`).

    ValueError for what makes no sense.
    """

    seed: int = 1
    nodes: int = 100
    days: float = 365.0
    files: int = 100
    size_bytes: int = 64 * 1024
    mean_life_days: float = 180.0
    uptime: float = 0.7
    absences: float = 75.0
    nat: float = 0.0
    k: int | None = None
    n: int | None = None
    hazards: Hazards = field(default_factory=Hazards)

    def __post_init__(self) -> None:
        """Check every argument."""
        _check(LEAST_NODES <= self.nodes <= MOST_NODES, f"a study has {LEAST_NODES} to {MOST_NODES} nodes")
        _check(LEAST_DAYS <= self.days <= MOST_DAYS, f"a study lasts {LEAST_DAYS:g} to {MOST_DAYS:g} days")
        _check(0 <= self.files <= MOST_FILES, f"a study has at most {MOST_FILES} files")
        _check(0 <= self.size_bytes <= MOST_SIZE_BYTES, f"a file has at most {MOST_SIZE_BYTES >> 20} MiB")
        _check(self.files * self.size_bytes <= MOST_BYTES, f"all files together have at most {MOST_BYTES >> 30} GiB")
        _check(LEAST_LIFE_DAYS <= self.mean_life_days < math.inf, "machines live for an hour at least")
        _check(0.05 <= self.uptime <= 1, "machines are up between 5 and 100 % of the time")
        _check(0 <= self.absences <= MOST_ABSENCES, f"machines are away {MOST_ABSENCES:g} times a year at most")
        _check(0 <= self.nat <= MOST_NAT, f"at most {100 * MOST_NAT:.0f} % of the machines stand behind home routers")
        _check((self.k is None) == (self.n is None), "k and n are given together or not at all")
        if self.k is not None and self.n is not None:
            _check(1 <= self.k <= self.n <= 256, "1 <= k <= n <= 256")
            _check(self.n <= self.nodes, "every share needs a node of its own, so n is at most the number of nodes")

    @property
    def end_s(self) -> float:
        """When it ends, in seconds from the beginning."""
        return self.days * DAY_S

    @property
    def settle_s(self) -> float:
        """How long the holders have, after the end, to put things right."""
        return SETTLE_S if self.days >= 1 else HOUR_S

    @property
    def expansion(self) -> float:
        """The room that machines are given for each byte of a file: 3, or as much as the code takes."""
        return max(3.0, self.n / self.k) if self.k is not None and self.n is not None else 3.0

    @property
    def goes_away(self) -> bool:
        """Whether machines ever do."""
        return self.uptime < 1 and self.absences > 0

    @property
    def mean_up_s(self) -> float:
        """How long a machine is up without a break, on average."""
        return self.uptime * YEAR_DAYS * DAY_S / self.absences if self.goes_away else math.inf

    @property
    def mean_away_s(self) -> float:
        """How long one of its absences is, on average."""
        return (1.0 - self.uptime) * YEAR_DAYS * DAY_S / self.absences if self.goes_away else 0.0


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)
