"""Hard use, all at once: daemons die, sleep, change addresses, fill their disks and have their clocks moved.

A publisher, a fetcher and somebody who looks run the whole time, all with the `shoal` command on a private network of
real daemons on loopback. What the commands say is compared with what is so: fetched bytes with published ones, `check`
with the disks of the machines, `node status` with what was done to that machine.

The faults take away no more than a file can bear: before each one, K + 1 different shares of every file are on machines
that run, are awake and have the right time, without the machine that it strikes. At most a third is away at a time.

    .venv/bin/python benchmarks/hard_use.py --minutes 30 --nodes 14 --seed 1

Small disks need `unshare -rm`, moved clocks need libfaketime (Debian: libfaketime). What is not there is left out, and
the table says so. It ends with 1 where a file was lost, a byte was wrong, a message was untrue, a log has a bug, or a
daemon ended by itself.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from parts.figures import heading, table
from parts.machines import RESERVE_BYTES, Machine, Park, clock_library, digest, enter_own_mounts

from kit.fleet import plain_environment
from shoal.erasure import parse_link

EPOCH_S = 30.0
MAX_FILES = 16  # alive at a time; then the oldest is fetched a last time and deleted
SIZES = (200_000, 3_000_000)
MARGIN = 1  # shares beyond k that no fault takes away
COMMAND_LIMIT_S = 180.0
UP_LIMIT_S = 120.0  # until a daemon answers
CALM_EPOCHS = 4  # after the last fault
GENTLE_S, MOVED_S = 60.0, 180.0  # until a machine that was restarted or asleep, or one that moved, is relied upon
TOLD_EPOCHS = 3  # after which a wrong clock is told, and a right one no longer
SKEW_S = 2 * 3600.0  # from here on a clock misleads
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CLOCKS = (5 * MINUTE, -5 * MINUTE, 5 * HOUR, -5 * HOUR, 3 * DAY, -3 * DAY, 100 * DAY, 365 * DAY, -365 * DAY)
NOT_FOUND, NO_PEER, REFUSED = 10, 13, 15


@dataclass
class File:
    """One that was published, and is not deleted."""

    link: str
    file_id: str
    sha256: str
    k: int
    n: int


@dataclass
class Answer:
    """What a command said. `message` is that of its error."""

    code: int
    summary: dict[str, Any]
    message: str
    began: float
    seconds: float


@dataclass
class Ledger:
    """What is counted, and the texts that go with it."""

    began: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line for somebody who watches."""
        print(f"{time.monotonic() - self.began:7.1f} {text}", file=sys.stderr, flush=True)

    def accuse(self, texts: list[str], text: str) -> None:
        """Note something that must not be."""
        texts.append(f"{time.monotonic() - self.began:.0f} s: {text}")
        self.say(f"!! {text}")


class Stage:
    """The machines, the files, and the end of the run."""

    def __init__(self, park: Park, seed: int, epoch_s: float) -> None:
        self.park = park
        self.rng = random.Random(seed)
        self.epoch_s = epoch_s
        self.files: list[File] = []
        self.ledger = Ledger()
        self.over = trio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait, or until the run is over."""
        with trio.move_on_after(seconds):
            await self.over.wait()

    async def command(self, home: Path, *arguments: str) -> Answer:
        """Run `shoal`; a command that does not end is untrue in itself."""
        began = time.monotonic()
        options = ["--home", str(home), "--network", str(self.park.network_file), "--json"]
        line = [sys.executable, "-P", "-m", "shoal.cli", *options, *arguments]
        with trio.move_on_after(COMMAND_LIMIT_S):
            done = await trio.run_process(
                line, check=False, capture_stdout=True, capture_stderr=True, env=plain_environment()
            )
            messages = [json.loads(each) for each in done.stdout.decode().splitlines()]
            last = messages[-1] if messages else {}
            message = str(last.get("message", "")) if last.get("message_type") == "error" else ""
            summary = last if last.get("message_type") == "summary" else {}
            answer = Answer(done.returncode, summary, message, began, time.monotonic() - began)
            self._check_form(arguments, answer, last, done.stderr.decode(errors="replace"))
            return answer
        self.ledger.accuse(self.ledger.untrue, f"{arguments[0]} did not end within {COMMAND_LIMIT_S:g} s")
        return Answer(-1, {}, "no end", began, COMMAND_LIMIT_S)

    def _check_form(self, arguments: tuple[str, ...], answer: Answer, last: dict[str, Any], errors: str) -> None:
        """What holds of every command's answer: a summary or an error, no bug, nobody that lies: all are honest."""
        causes = last.get("causes", {}) | last.get("refusals", {})
        told = f"{' '.join(arguments)[:60]} ended with {answer.code}: {last} {errors[-300:]}"
        is_whole = bool(answer.summary) or (bool(answer.message) and last.get("code") == answer.code != 0)
        is_slander = bool(causes.get("lied")) or "protocol" in answer.message
        if not is_whole or is_slander or "bug" in answer.message or "Traceback" in errors:
            self.ledger.accuse(self.ledger.untrue, told)

    def untrue(self, text: str, answer: Answer) -> None:
        """A command said what is not so."""
        said = answer.message or str(answer.summary)
        self.ledger.accuse(
            self.ledger.untrue, f"{text}. It ended with {answer.code} after {answer.seconds:.0f} s: {said}"
        )

    # --- those who use it

    async def publisher(self, home: Path) -> None:
        """Publish, and delete what is too much."""
        source = self.park.folder / "source"
        while not self.over.is_set():
            content = self.rng.randbytes(self.rng.randint(*SIZES))
            source.write_bytes(content)
            await self._publish(home, source, digest(content))
            if len(self.files) > MAX_FILES:
                await self._delete(home, self.files[0])
            await self.pause(self.rng.uniform(1, 8))

    async def _publish(self, home: Path, source: Path, sha256: str) -> None:
        answer = await self.command(home, "publish", str(source))
        self.ledger.counts["publishes"] += 1
        reliable = self.park.reliable(answer.began)
        if not answer.summary:
            self._refused("publish", answer)
            room = [each for each in reliable if each.full_since is None]
            if (answer.code == NO_PEER and reliable) or len(room) > len(self.park.machines) // 2:
                self.untrue(f"{len(room)} machines were there and had room", answer)
            return
        told = answer.summary
        file = File(told["link"], parse_link(told["link"]).id.hex(), sha256, told["k"], told["n"])
        gone = {share for at, shares in self.park.gone if at >= answer.began for share in shares}
        here = {share for machine in self.park.machines for share in machine.shares()}
        placed = {share for name, share in gone | here if name == file.file_id}
        if told["complete"] != (answer.code == 0) or told["shares"] > len(placed) or told["hosts"] > told["shares"]:
            self.untrue(f"{len(placed)} shares are on disks", answer)
        if told["refusals"].get("full", 0) > len([each for each in self.park.machines if each.has_disk]):
            self.untrue("fewer machines were full", answer)
        self.ledger.counts["publishes partial"] += not told["complete"]
        self.files.append(file)

    async def _delete(self, home: Path, file: File) -> None:
        await self.fetch(home, file, must=False)
        self.files.remove(file)
        answer = await self.command(home, "delete", file.link)
        self.ledger.counts["deletions"] += 1
        if not answer.summary:
            self._refused("delete", answer)
        elif answer.summary["complete"] != (answer.code == 0):
            self.untrue("complete and the exit code differ", answer)

    def _refused(self, what: str, answer: Answer) -> None:
        self.ledger.refusals[f"{what} {answer.code}: {answer.message[:140]}"] += 1
        self.ledger.say(f"{what} refused with {answer.code}: {answer.message}")

    async def fetcher(self, home: Path) -> None:
        """Fetch one file after another."""
        while not self.over.is_set():
            if self.files:
                await self.fetch(home, self.rng.choice(self.files), must=False)
            await self.pause(self.rng.uniform(0.2, 2))

    async def fetch(self, home: Path, file: File, *, must: bool) -> None:
        """Fetch and compare. A refusal is untrue where k shares were on machines that nothing was done to."""
        target = home.with_suffix(".fetched")
        answer = await self.command(home, "fetch", file.link, "-o", str(target), "--force")
        self.ledger.counts["fetches"] += 1
        if answer.code == 0:
            if digest(target.read_bytes()) != file.sha256:
                self.ledger.accuse(self.ledger.wrong, f"{file.file_id} came back as other bytes")
            return
        if file not in self.files:
            return
        self._refused("fetch", answer)
        there = self.park.distinct(file.file_id, self.park.reliable(answer.began))
        if must:
            self.ledger.accuse(self.ledger.lost, f"{file.file_id}: {answer.message}; {there} shares were there")
        elif there >= file.k:
            self.untrue(f"{there} shares of {file.file_id[:8]} were there, {file.k} are needed", answer)

    async def looker(self, home: Path) -> None:
        """Ask how files and machines are."""
        while not self.over.is_set():
            await self._status()
            if self.files:
                await self._check(home, self.rng.choice(self.files))
            await self.pause(self.rng.uniform(0.2, 2))

    async def _check(self, home: Path, file: File) -> None:
        before = self._on(file, [each for each in self.park.machines if each.is_up])
        answer = await self.command(home, "check", file.link)
        self.ledger.counts["checks"] += 1
        if file not in self.files:
            return
        least = len(self._on(file, self.park.reliable(answer.began)))
        most = len(before | self._on(file, self.park.machines))
        if not answer.summary:
            self._refused("check", answer)
            if least:
                self.untrue(f"{least} shares of {file.file_id[:8]} were there", answer)
            return
        told = answer.summary
        expected = 0 if told["good_shares"] == told["n"] else 3 if told["readable"] else NOT_FOUND
        if answer.code != expected or told["deleted"]:
            self.untrue("the exit code or `deleted` is wrong", answer)
        if not least <= told["good_shares"] <= most:
            self.untrue(f"{least} to {most} good shares of {file.file_id[:8]} were there", answer)
        if told["outcomes"].get("wrong"):
            self.untrue("no share was wrong", answer)

    def _on(self, file: File, machines: list[Machine]) -> set[int]:
        return {share for machine in machines for name, share in machine.shares() if name == file.file_id}

    async def _status(self) -> None:
        machine = self.rng.choice(self.park.machines)
        was_full, shares = machine.has_disk and machine.free_bytes() <= RESERVE_BYTES, len(machine.shares())
        answer = await self.command(machine.daemon.home.data, "node", "status")
        self.ledger.counts["looks at a node"] += 1
        now = time.monotonic()
        is_full = machine.has_disk and machine.free_bytes() <= RESERVE_BYTES
        is_there = machine.is_reliable(answer.began) or (machine.is_up and machine.trouble in ("full", "clock"))
        if not answer.summary:
            if is_there and machine in self.park.machines and answer.began - machine.steady_from > 0:
                self.untrue(f"{machine.name} was there", answer)
            return
        problems = " ".join(answer.summary["problems"])
        told_full = "takes nothing new" in problems or "disk is full" in problems
        rest = [
            each
            for each in answer.summary["problems"]
            if not any(words in each for words in ("takes nothing new", "disk is full", "clock of this machine"))
        ]
        if (answer.code == 3) != bool(problems) or rest:
            self.untrue(f"{machine.name}: nothing was done that explains {rest}", answer)
        if (was_full and is_full and not told_full) or (told_full and not was_full and not is_full):
            self.untrue(f"{machine.name} {'was' if is_full else 'was not'} full", answer)
        if is_there and not self._is_clock_told(machine, problems, now):
            self.untrue(f"{machine.name} has a clock that is {machine.clock_s:+.0f} s off", answer)
        if is_there and shares == len(machine.shares()) != answer.summary["shares"]:
            self.untrue(f"{machine.name} keeps {shares} shares", answer)
        if is_there and not answer.summary["peers"]:
            self.untrue(f"{machine.name} has peers", answer)

    def _is_clock_told(self, machine: Machine, problems: str, now: float) -> bool:
        """Whether a wrong clock is told, and a right one is not blamed. Of two that differ either may be named."""
        others = [each for each in self.park.machines if each is not machine]
        told_s = TOLD_EPOCHS * self.epoch_s
        if now - machine.clock_since <= told_s:
            return True
        if abs(machine.clock_s) > SKEW_S:
            return "clock of this machine" in problems
        if any(each.clock_s or now - each.clock_since <= told_s for each in others if each.clock_since):
            return "clock of this machine is" not in problems
        return "clock of this machine" not in problems

    async def warden(self) -> None:
        """See at once what is lost and who ended."""
        known: set[str] = set()
        said_at = 0.0
        while not self.over.is_set():
            if time.monotonic() - said_at > MINUTE:
                said_at = time.monotonic()
                least = min(
                    (self.park.distinct(each.file_id, self.park.machines) - each.k for each in self.files), default=0
                )
                self.ledger.say(
                    f"{dict(self.ledger.counts)}, {len(self.files)} files, {least} shares to spare at least"
                )
            self.park.note_ended()
            for file in list(self.files):
                if self.park.distinct(file.file_id, self.park.machines) < file.k and file.file_id not in known:
                    known.add(file.file_id)
                    self.ledger.accuse(self.ledger.lost, f"{file.file_id} has fewer than {file.k} shares on all disks")
            await self.pause(1)

    async def calm(self, home: Path) -> None:
        """When all is well again every file is there. What is not readable now is lost."""
        await trio.sleep(CALM_EPOCHS * self.epoch_s)
        for file in list(self.files):
            await self.fetch(home, file, must=True)
            await self._check(home, file)
        answer = await self.command(home, "ls")
        listed = {parse_link(each["id"]).id.hex() for each in answer.summary.get("files", ()) if not each["deleted_at"]}
        if missing := {file.file_id for file in self.files} - listed:
            self.untrue(f"{missing} were published", answer)


class Chaos:
    """Faults by chance. Each heals when its time is over, or the run is."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.park, self.rng = stage, stage.park, random.Random(stage.rng.random())
        self.put_off = 0
        self.acts: dict[str, Callable[[Machine], Awaitable[None]]] = {
            "kill": self._kill,
            "death": self._death,
            "sleep": self._sleep,
            "move": self._move,
        }
        self._can_fill = any(machine.has_disk for machine in self.park.machines)
        if self._can_fill:
            self.acts["full"] = self._fill
        if clock_library():
            self.acts["clock"] = self._clock

    async def run(self) -> None:
        """Until the run is over; all is healed when it returns."""
        async with trio.open_nursery() as nursery:
            while not self.stage.over.is_set():
                act = self.rng.choice(list(self.acts))
                machine = self.rng.choice(self.park.machines)
                if self._may(act, machine):
                    machine.trouble, machine.steady_from = act, time.monotonic()
                    nursery.start_soon(self._do, act, machine)
                else:
                    self.put_off += 1
                await self.stage.pause(self.rng.uniform(1, 7))

    def _may(self, act: str, machine: Machine) -> bool:
        """Whether every file bears it."""
        now, others = time.monotonic(), [each for each in self.park.machines if each is not machine]
        if machine.trouble or machine.steady_from > now:
            return False
        if (act == "full" and not machine.has_disk) or (act == "move" and machine.daemon.number < 4):
            return False
        if act == "clock" and any(each.trouble == "clock" for each in others):
            return False
        if act == "full":
            return True
        well = [each for each in others if each.is_up and each.trouble in ("", "full")]
        if len(well) * 3 < len(self.park.machines) * 2:
            return False
        return all(self.park.distinct(file.file_id, well) >= file.k + MARGIN for file in self.stage.files)

    async def _do(self, act: str, machine: Machine) -> None:
        self.stage.ledger.counts[f"fault: {act}"] += 1
        self.stage.ledger.say(f"{act} {machine.name}")
        await self.acts[act](machine)

    async def _up(self, machine: Machine, settle_s: float) -> None:
        try:
            await machine.daemon.wait_up(machine.start(), UP_LIMIT_S)
        except AssertionError as error:  # the warden starts one that ended once more
            self.park.ended.append(str(error))
        self._well(machine, settle_s)

    def _well(self, machine: Machine, settle_s: float) -> None:
        machine.trouble, machine.steady_from = "", time.monotonic() + settle_s

    async def _kill(self, machine: Machine) -> None:
        machine.kill()
        await self.stage.pause(self.rng.uniform(0, 40))
        await self._up(machine, GENTLE_S)

    async def _death(self, machine: Machine) -> None:
        new = self.park.replace(machine)
        new.trouble = "death"
        await self.stage.pause(self.rng.uniform(0, 20))
        await self._up(new, GENTLE_S)

    async def _sleep(self, machine: Machine) -> None:
        machine.pause()
        await self.stage.pause(self.rng.uniform(5, 60))
        machine.wake()
        self._well(machine, GENTLE_S)

    async def _move(self, machine: Machine) -> None:
        if (code := machine.stop()) != 130:
            self.park.ended.append(f"{machine.name} ended with {code} after SIGTERM")
        machine.daemon.address = self.park.new_address()
        await self.stage.pause(self.rng.uniform(0, 10))
        await self._up(machine, MOVED_S)

    async def _fill(self, machine: Machine) -> None:
        machine.fill()
        machine.full_since = time.monotonic()
        await self.stage.pause(self.rng.uniform(20, 90))
        machine.free()
        machine.full_since = None
        self._well(machine, 0.0)

    async def _clock(self, machine: Machine) -> None:
        ahead_s = self.rng.choice(CLOCKS)
        self.stage.ledger.say(f"{machine.name} has its clock moved by {ahead_s:+.0f} s")
        machine.set_clock(ahead_s)
        await self.stage.pause(self.rng.uniform(10, 180))
        machine.set_clock(0.0)
        self._well(machine, MOVED_S)


async def hard_use(stage: Stage, chaos: Chaos, minutes: float) -> None:
    """Start all, trouble them for so long, and see what is left."""
    homes = [stage.park.folder / name for name in ("publisher", "fetcher", "looker")]
    begun = [(machine, machine.start()) for machine in stage.park.machines]
    for machine, at in begun:
        await machine.daemon.wait_up(at, UP_LIMIT_S)
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        for work, home in zip((stage.publisher, stage.fetcher, stage.looker), homes, strict=True):
            nursery.start_soon(work, home)
        nursery.start_soon(stage.warden)
        nursery.start_soon(chaos.run)
        await trio.sleep(60 * minutes)
        stage.over.set()
    stage.ledger.say("the faults are over")
    await stage.calm(homes[0])
    stage.park.note_ended()


def report(stage: Stage, chaos: Chaos, bugs: list[str]) -> int:
    """The table; 1 where its last five numbers are not all 0."""
    ledger, park = stage.ledger, stage.park
    bad = {
        "files lost": ledger.lost,
        "wrong bytes": ledger.wrong,
        "messages that were untrue": ledger.untrue,
        "lines of tracebacks and bugs": bugs,
        "daemons that ended by themselves": park.ended,
    }
    rows: list[tuple[str, int]] = sorted(ledger.counts.items())
    rows.append(("faults put off, since a file could not bear them", chaos.put_off))
    rows.append(("refused, with a reason", ledger.refusals.total()))
    rows += [(name, len(texts)) for name, texts in bad.items()]
    print(*table(("what", "how many"), rows), sep="\n")
    for name in {"full", "clock"} - set(chaos.acts):
        print(f"left out, since this machine cannot do it: {name}")
    for text, count in ledger.refusals.most_common():
        print(f"refused {count} times: {text}")
    for name, texts in bad.items():
        print(*(f"{name}: {text}" for text in texts), sep="\n", end="\n" if texts else "")
    return int(any(bad.values()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--nodes", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epoch", type=float, default=EPOCH_S, metavar="S", help="rhythm of the volunteers' care")
    options = parser.parse_args()
    may_mount = enter_own_mounts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no daemon is left asleep
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(heading(), flush=True)
    with tempfile.TemporaryDirectory(prefix="shoal-hard-use-", ignore_cleanup_errors=True) as folder:
        park = Park(Path(folder), options.nodes, options.epoch, may_mount=may_mount, library=clock_library())
        try:
            stage = Stage(park, options.seed, options.epoch)
            chaos = Chaos(stage)
            trio.run(hard_use, stage, chaos, options.minutes)
            bugs = list(park.complaints())
        finally:
            park.end()
        return report(stage, chaos, bugs)


if __name__ == "__main__":
    sys.exit(main())
