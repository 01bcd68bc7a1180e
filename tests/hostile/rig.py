"""Runs an attack against a grid while an honest user publishes and fetches, and measures both.

As a program it does what the lines on its standard input ask for, and answers each with a line of JSON:

    python -m hostile.rig private|public FOLDER EPOCH_S
"""

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hostile.attacks.liars import Bystander
from hostile.honest import FETCH, PUBLISH, Done
from hostile.machines import Grid, Machine
from hostile.netlink import NamespaceError, become_root_inside
from kit.fleet import plain_environment

LOOK_S = 0.1
STOCK_LIMIT_S = 120.0
POSITION_LIMIT_S = 60.0
PHASE_LIMIT_S = 45.0  # beyond the wished time, for one success of each kind that was begun in a phase
END_LIMIT_S = 20.0
NO_NAMESPACES = 3  # exit code
READ_BYTES = 65_536
LOG_CHARS = 3_000


@dataclass(frozen=True, slots=True)
class Times:
    """How long to measure, in seconds: before, during and after an attack, and how long to rest before the last."""

    before_s: float = 0.0
    during_s: float = 2.0
    rest_s: float = 0.0
    after_s: float = 0.0


@dataclass
class Phase:
    """What the honest user did in one phase."""

    operations: list[Done] = field(default_factory=list)

    def of(self, operation: str) -> list[Done]:
        """The operations of one kind."""
        return [each for each in self.operations if each.operation == operation]

    def summary(self) -> dict[str, Any]:
        """Plain values: how many succeeded, and their median time."""
        found: dict[str, Any] = {
            "failures": [each.failure for each in self.operations if each.failure],
            "remarks": [each.remark for each in self.operations if each.remark],
        }
        for operation in (PUBLISH, FETCH):
            good = [each.seconds for each in self.of(operation) if not each.failure]
            found[operation] = {
                "tried": len(self.of(operation)),
                "succeeded": len(good),
                "median_s": statistics.median(good) if good else None,
            }
        return found

    @property
    def is_telling(self) -> bool:
        """Whether both kinds of operation succeeded."""
        good = {each.operation for each in self.operations if not each.failure}
        return good == {PUBLISH, FETCH}


@dataclass
class Outcome:
    """What an attack did. Memory is in MiB, of each daemon; `ended` are those that ended under it."""

    attack: str
    network: str
    sent: int = 0
    received: int = 0
    cpu_s: float = 0.0
    attack_s: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=lambda: Phase().summary())
    during: dict[str, Any] = field(default_factory=lambda: Phase().summary())
    after: dict[str, Any] = field(default_factory=lambda: Phase().summary())
    memory_before: list[float] = field(default_factory=list)
    memory_most: list[float] = field(default_factory=list)
    memory_after: list[float] = field(default_factory=list)
    daemons_cpu_s: float = 0.0
    ended: list[int] = field(default_factory=list)
    complaints: str = ""
    attacker_failure: str = ""


class Program:
    """A process that says JSON lines, and ends with its standard input."""

    def __init__(self, machine: Machine, arguments: Sequence[str], log: Path) -> None:
        with machine.entered(), open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=plain_environment() | {"PYTHONPATH": str(Path(__file__).parents[1])},
            )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._rest = b""

    def tell(self, message: object) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def lines(self, limit_s: float) -> list[dict[str, Any]]:
        """What it has said, waiting a while for something."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            return []
        piece = os.read(self.process.stdout.fileno(), READ_BYTES)
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return [json.loads(line) for line in whole]

    def wait_for(self, key: str, limit_s: float) -> dict[str, Any]:
        """The first line with that key. Raises TimeoutError or ChildProcessError when none comes."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = [line for line in self.lines(LOOK_S) if key in line]
            if found:
                return found[0]
            if self.process.poll() is not None:
                raise ChildProcessError(f"it ended with {self.process.returncode} before it said {key!r}")
        raise TimeoutError(f"it did not say {key!r} within {limit_s:g} s")

    def end(self) -> None:
        """Close its input, wait for its end, kill it if that does not help, and close its pipes."""
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Rig:
    """A grid with an honest user and an attacker."""

    def __init__(self, folder: Path, *, public: bool, epoch_s: float) -> None:
        self.grid = Grid(folder, public=public, epoch_s=epoch_s)
        self._folder = folder
        self._user: Program | None = None
        self._attacker: Program | None = None
        self._stock: tuple[str, ...] = ()

    def start(self) -> None:
        """Start the daemons, the honest user, and the attacker, which does nothing yet."""
        self.grid.start()
        arguments = ["hostile.honest", str(self.grid.network_file), str(self._folder / "honest")]
        self._user = Program(self.grid.client, arguments, self._folder / "honest.log")
        self._stock = tuple(self._user.wait_for("stock", STOCK_LIMIT_S)["stock"])
        self._start_attacker()

    def _start_attacker(self) -> None:
        """A new one, where the last one has failed."""
        self._attacker = Program(self.grid.attacker, ["hostile.attacker"], self._folder / "attacker.log")
        self._attacker.tell(self.grid.brief(self._stock).as_json())

    def stop(self) -> None:
        """End everything."""
        for program in (self._attacker, self._user):
            if program is not None:
                program.end()
        self.grid.kill()

    def run(self, attack: str, times: Times) -> Outcome:
        """Measure one attack."""
        outcome = Outcome(attack, "public" if self.grid.public else "private")
        running = [daemon.number for daemon in self.grid.daemons if daemon.pid is not None]
        if times.before_s:
            outcome.before = self._measure(times.before_s, outcome).summary()
        complained = [daemon.complaints() for daemon in self.grid.daemons]
        outcome.memory_before = outcome.memory_most = self._memory()
        cpu_before = self._cpu_s()
        with self.grid.bystander.entered():
            bystander = Bystander(self.grid.bystander.host)
        try:
            began = self._begin(attack)
            outcome.during = self._measure(times.during_s, outcome, bystander).summary()
            outcome.daemons_cpu_s, outcome.attack_s = self._cpu_s() - cpu_before, time.monotonic() - began
            self._end(outcome)
        except (BrokenPipeError, ChildProcessError, TimeoutError):
            outcome.attacker_failure = self._replace_attacker()
        finally:
            bystander.close()
        if bystander.datagrams:
            nodes = len(self.grid.daemons) + sum(outcome.during[kind]["tried"] for kind in (PUBLISH, FETCH))
            outcome.notes |= {"datagrams to a bystander": bystander.datagrams, "bytes to it": bystander.bytes_count}
            outcome.notes["datagrams to it from one node"] = bystander.datagrams / nodes
        self._rest(times.rest_s)
        if times.after_s:
            outcome.after = self._measure(times.after_s, outcome).summary()
        outcome.memory_after = self._memory()
        outcome.ended = [number for number in running if self.grid.daemons[number].pid is None]
        said = zip(self.grid.daemons, complained, strict=True)
        outcome.complaints = "\n".join(daemon.complaints().removeprefix(earlier) for daemon, earlier in said).strip()
        return outcome

    def _begin(self, attack: str) -> float:
        """Have the attacker begin; when that was. Raises BrokenPipeError, ChildProcessError or TimeoutError."""
        assert self._attacker is not None, "the rig has been started"
        self._attacker.tell(attack)
        self._attacker.wait_for("event", POSITION_LIMIT_S)
        return time.monotonic()

    def _end(self, outcome: Outcome) -> None:
        """Have the attacker end, and note what it did. Raises as `_begin` does."""
        assert self._attacker is not None, "the rig has been started"
        self._attacker.tell("")
        told = self._attacker.wait_for("event", END_LIMIT_S)
        outcome.sent, outcome.received = told["sent"], told["received"]
        outcome.cpu_s, outcome.notes = told["cpu_s"], told["notes"]

    def _replace_attacker(self) -> str:
        """A new attacker for one that has failed; the end of what that one said."""
        assert self._attacker is not None, "the rig has been started"
        self._attacker.end()
        self._start_attacker()
        return (self._folder / "attacker.log").read_text()[-LOG_CHARS:] or "the attacker said nothing"

    def _measure(self, seconds: float, outcome: Outcome, bystander: Bystander | None = None) -> Phase:
        """Let the honest user work for so long, and on for a while where one kind of operation did not succeed."""
        assert self._user is not None
        phase, began = Phase(), time.monotonic()
        while (passed := time.monotonic() - began) < seconds or not phase.is_telling:
            if passed > seconds + PHASE_LIMIT_S and phase.operations:
                break
            for line in self._user.lines(LOOK_S):
                done = Done(**line)
                if done.began >= began:
                    phase.operations.append(done)
            if bystander is not None:
                bystander.look()
            memory = self._memory()
            outcome.memory_most = [max(pair) for pair in zip(outcome.memory_most or memory, memory, strict=True)]
        return phase

    def _rest(self, seconds: float) -> None:
        """Let time pass; what the honest user does meanwhile counts nowhere."""
        assert self._user is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._user.lines(LOOK_S)

    def _memory(self) -> list[float]:
        return [_memory_mib(daemon.pid) for daemon in self.grid.daemons]

    def _cpu_s(self) -> float:
        return sum(_cpu_s(daemon.pid) for daemon in self.grid.daemons)


def _memory_mib(pid: int | None) -> float:
    """Resident memory; 0 of a process that is gone."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
    return 0.0


def _cpu_s(pid: int | None) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def main() -> int:
    """The command."""
    public, folder, epoch_s = sys.argv[1] == "public", Path(sys.argv[2]), float(sys.argv[3])
    try:
        if public and os.getuid():
            become_root_inside()
        rig = Rig(folder, public=public, epoch_s=epoch_s)
    except NamespaceError as error:
        _say({"ready": False, "error": f"This system allows no network namespaces: {error}."})
        return NO_NAMESPACES
    try:
        rig.start()
        _say({"ready": True, "error": ""})
        for line in sys.stdin:
            wish = json.loads(line)
            _say(asdict(rig.run(wish["attack"], Times(**wish["times"]))))
    finally:
        rig.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
