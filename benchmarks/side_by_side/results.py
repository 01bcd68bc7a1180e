"""What a run has measured, as plain values, and as JSON for the next time it is to be printed."""

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SHOAL, SHOAL_ZFEC, TAHOE, FOOLSCAP, TORRENT = "Shoal", "Shoal, zfec", "Tahoe HTTPS", "Tahoe Foolscap", "libtorrent"
WORMHOLE = "magic-wormhole"
SYSTEMS = (SHOAL, SHOAL_ZFEC, TAHOE, FOOLSCAP, TORRENT, WORMHOLE)  # in the order of the tables
PUBLISH, FETCH, FETCH_LOST = "publish", "fetch", "fetch, n-k holders gone"
CLIENT, COMMAND = "client", "command"
GIB = 2**30
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one operation of one system. `stored`: bytes on all disks per byte published, or None."""

    system: str
    operation: str
    through: str  # CLIENT: a process that runs on; COMMAND: the command line, interpreter start included
    size: int
    k: int
    n: int
    rounds: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    stored: float | None = None

    @property
    def mib_s(self) -> float:
        """File bytes per second."""
        return self.size / MIB / self.wall_s

    @property
    def cpu_s_gib(self) -> float:
        """CPU-seconds of all processes per GiB of file."""
        return self.cpu_s * GIB / self.size


@dataclass(frozen=True, slots=True)
class Idle:
    """A storage node that nobody uses: resident MiB before and after the transfers, CPU in % of one core."""

    system: str
    seconds: float
    cpu_percent: float
    fresh_mib: float
    used_mib: float


@dataclass(frozen=True, slots=True)
class Many:
    """Small files one after another through one open client, `at_once` at a time."""

    system: str
    files: int
    size: int
    at_once: int
    wall_s: float
    cpu_s: float  # of the client and all storage nodes


@dataclass(frozen=True, slots=True)
class Costs:
    """What the parts cost on this machine, in CPU-seconds per GiB that goes through them: medians of short windows.

    `encode` and `decode` are by codec and code, such as "isa-l 3/10", per GiB of file; decoding is with as many data
    blocks lost as can be. `sync_s`: seconds, not CPU, to write a GiB and have it on the disk.
    """

    cipher_seal: float
    cipher_open: float
    block_hash: float
    send: float
    receive: float
    write: float
    read: float
    sync_s: float
    encode: dict[str, float]
    decode: dict[str, float]
    cores: int


@dataclass
class Results:
    """Everything of one run; `remarks` say in words what could not be measured, and why."""

    machine: str
    when: str
    command: str
    load: float
    rows: list[Row] = field(default_factory=list)
    wide_rows: list[Row] = field(default_factory=list)  # at the default width
    idle: list[Idle] = field(default_factory=list)
    many: list[Many] = field(default_factory=list)
    costs: list[Costs] = field(default_factory=list)  # measured before Shoal and after it: machines are unsteady
    remarks: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def find(self, system: str, operation: str, size: int | None = None, through: str = CLIENT) -> Row | None:
        """The row of a system, of the largest file unless a size is given."""
        found = [
            row
            for row in self.rows
            if (row.system, row.operation, row.through) == (system, operation, through) and size in (None, row.size)
        ]
        return max(found, key=lambda row: row.size, default=None)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load_from(cls, path: Path) -> "Results":
        """What `save` wrote."""
        found: dict[str, Any] = json.loads(path.read_text())
        for name, kind in (("rows", Row), ("wide_rows", Row), ("idle", Idle), ("many", Many), ("costs", Costs)):
            found[name] = [kind(**each) for each in found.get(name, [])]
        return cls(**found)


def new_results() -> Results:
    """Empty results of a run that begins now."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    command = " ".join(["python", *sys.argv])
    return Results(machine(), when, command, os.getloadavg()[0])


def machine() -> str:
    """One line on what this runs on."""
    model, memory = platform.machine(), 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) * 1024
    cores = f"{len(os.sched_getaffinity(0))} cores"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {cores}, {memory / GIB:.0f} GiB, {system}"
