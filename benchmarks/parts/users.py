"""Those who use the network of benchmarks/hard_use.py, and compare what the commands say with what is so."""

import time
from dataclasses import dataclass
from pathlib import Path

import trio
from parts.machines import RESERVE_BYTES, Machine, digest
from parts.stage import Answer, File, Stage

from shoal.erasure import parse_link

MAX_FILES = 16  # alive at a time; then the oldest is fetched a last time and deleted
SIZES = (200_000, 3_000_000)
CALM_EPOCHS = 4  # after the last fault
TOLD_EPOCHS = 3  # after which a wrong clock is told, and a right one no longer
SKEW_S = 2 * 3600.0  # from here on a clock misleads
NOT_FOUND, NO_PEER = 10, 13


class Users:
    """A publisher, and a fetcher of the files."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def publisher(self, home: Path) -> None:
        """Publish, and delete what is too much."""
        source = self.stage.park.folder / "source"
        while not self.stage.over.is_set():
            content = self.stage.rng.randbytes(self.stage.rng.randint(*SIZES))
            source.write_bytes(content)
            await self._publish(home, source, digest(content))
            if len(self.stage.files) > MAX_FILES:
                await self._delete(home, self.stage.files[0])
            await self.stage.pause(self.stage.rng.uniform(1, 8))

    async def _publish(self, home: Path, source: Path, sha256: str) -> None:
        answer = await self.stage.command(home, "publish", str(source))
        self.stage.ledger.counts["publishes"] += 1
        reliable = self.stage.park.reliable(answer.began)
        if not answer.summary:
            self.stage.refused("publish", answer)
            room = [each for each in reliable if each.full_since is None]
            if (answer.code == NO_PEER and reliable) or len(room) > len(self.stage.park.machines) // 2:
                self.stage.untrue(f"{len(room)} machines were there and had room", answer)
            return
        told = answer.summary
        file = File(told["link"], parse_link(told["link"]).id.hex(), sha256, told["k"], told["n"])
        gone = {share for at, shares in self.stage.park.gone if at >= answer.began for share in shares}
        here = {share for machine in self.stage.park.machines for share in machine.shares()}
        placed = {share for name, share in gone | here if name == file.file_id}
        if told["complete"] != (answer.code == 0) or told["shares"] > len(placed) or told["hosts"] > told["shares"]:
            self.stage.untrue(f"{len(placed)} shares are on disks", answer)
        if told["refusals"].get("full", 0) > len([each for each in self.stage.park.machines if each.has_disk]):
            self.stage.untrue("fewer machines were full", answer)
        self.stage.ledger.counts["publishes partial"] += not told["complete"]
        self.stage.files.append(file)

    async def _delete(self, home: Path, file: File) -> None:
        await self.fetch(home, file, must=False)
        self.stage.files.remove(file)
        answer = await self.stage.command(home, "delete", file.link)
        self.stage.ledger.counts["deletions"] += 1
        if not answer.summary:
            self.stage.refused("delete", answer)
        elif answer.summary["complete"] != (answer.code == 0):
            self.stage.untrue("complete and the exit code differ", answer)

    async def fetcher(self, home: Path) -> None:
        """Fetch one file after another."""
        while not self.stage.over.is_set():
            if self.stage.files:
                await self.fetch(home, self.stage.rng.choice(self.stage.files), must=False)
            await self.stage.pause(self.stage.rng.uniform(0.2, 2))

    async def fetch(self, home: Path, file: File, *, must: bool) -> None:
        """Fetch and compare. A refusal is untrue where k shares were on machines that nothing was done to."""
        target = home.with_suffix(".fetched")
        answer = await self.stage.command(home, "fetch", file.link, "-o", str(target), "--force")
        self.stage.ledger.counts["fetches"] += 1
        if answer.code == 0:
            if digest(target.read_bytes()) != file.sha256:
                self.stage.ledger.accuse(self.stage.ledger.wrong, f"{file.file_id} came back as other bytes")
            return
        if file not in self.stage.files:
            return
        self.stage.refused("fetch", answer)
        there = self.stage.park.distinct(file.file_id, self.stage.park.reliable(answer.began))
        if must:
            self.stage.ledger.accuse(
                self.stage.ledger.lost, f"{file.file_id}: {answer.message}; {there} shares were there"
            )
        elif there >= file.k:
            self.stage.untrue(f"{there} shares of {file.file_id[:8]} were there, {file.k} are needed", answer)


class Looker:
    """Somebody who asks all the time how files and machines are."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def run(self, home: Path) -> None:
        """Ask how files and machines are."""
        while not self.stage.over.is_set():
            await self._status()
            if self.stage.files:
                await self.check(home, self.stage.rng.choice(self.stage.files))
            await self.stage.pause(self.stage.rng.uniform(0.2, 2))

    async def check(self, home: Path, file: File) -> None:
        """Look at one file, and at the disks that it is on."""
        before = self.stage.shares_of(file, [each for each in self.stage.park.machines if each.is_up])
        answer = await self.stage.command(home, "check", file.link)
        self.stage.ledger.counts["checks"] += 1
        if file not in self.stage.files:
            return
        least = len(self.stage.shares_of(file, self.stage.park.reliable(answer.began)))
        most = len(before | self.stage.shares_of(file, self.stage.park.machines))
        if not answer.summary:
            self.stage.refused("check", answer)
            if least:
                self.stage.untrue(f"{least} shares of {file.file_id[:8]} were there", answer)
            return
        told = answer.summary
        expected = 0 if told["good_shares"] == told["n"] else 3 if told["readable"] else NOT_FOUND
        if answer.code != expected or told["deleted"]:
            self.stage.untrue("the exit code or `deleted` is wrong", answer)
        if not least <= told["good_shares"] <= most:
            self.stage.untrue(f"{least} to {most} good shares of {file.file_id[:8]} were there", answer)
        if told["outcomes"].get("wrong"):
            self.stage.untrue("no share was wrong", answer)

    async def _status(self) -> None:
        """Look at one machine, by its own status."""
        machine = self.stage.rng.choice(self.stage.park.machines)
        before = _Seen.of(machine)
        answer = await self.stage.command(machine.daemon.home.data, "node", "status")
        self.stage.ledger.counts["looks at a node"] += 1
        after = _Seen.of(machine)
        is_there = machine.is_reliable(answer.began) or (machine.is_up and machine.trouble in ("full", "clock"))
        if not answer.summary:
            if is_there and machine in self.stage.park.machines and answer.began - machine.steady_from > 0:
                self.stage.untrue(f"{machine.name} was there", answer)
            return
        self._judge_problems(machine, answer, before, after)
        if is_there:
            self._judge_numbers(machine, answer, before, after)

    def _judge_problems(self, machine: Machine, answer: Answer, before: "_Seen", after: "_Seen") -> None:
        """What is wrong is told, and nothing else."""
        problems = answer.summary["problems"]
        told_full = any("takes nothing new" in each or "disk is full" in each for each in problems)
        explained = ("takes nothing new", "disk is full", "clock of this machine")
        rest = [each for each in problems if not any(words in each for words in explained)]
        if (answer.code == 3) != bool(problems) or rest:
            self.stage.untrue(f"{machine.name}: nothing was done that explains {rest}", answer)
        if (before.is_full and after.is_full and not told_full) or (
            told_full and not before.is_full and not after.is_full
        ):
            self.stage.untrue(f"{machine.name} {'was' if after.is_full else 'was not'} full", answer)

    def _judge_numbers(self, machine: Machine, answer: Answer, before: "_Seen", after: "_Seen") -> None:
        """A machine that was there the whole time knows its clock, its shares and its peers."""
        if not self._is_clock_told(machine, " ".join(answer.summary["problems"]), after.at):
            self.stage.untrue(f"{machine.name} has a clock that is {machine.clock_s:+.0f} s off", answer)
        if before.shares == after.shares != answer.summary["shares"]:
            self.stage.untrue(f"{machine.name} keeps {before.shares} shares", answer)
        if not answer.summary["peers"]:
            self.stage.untrue(f"{machine.name} has peers", answer)

    def _is_clock_told(self, machine: Machine, problems: str, now: float) -> bool:
        """Whether a wrong clock is told, and a right one is not blamed. Of two that differ either may be named."""
        others = [each for each in self.stage.park.machines if each is not machine]
        told_s = TOLD_EPOCHS * self.stage.epoch_s
        if now - machine.clock_since <= told_s:
            return True
        if abs(machine.clock_s) > SKEW_S:
            return "clock of this machine" in problems
        if any(each.clock_s or now - each.clock_since <= told_s for each in others if each.clock_since):
            return "clock of this machine is" not in problems
        return "clock of this machine" not in problems


@dataclass(frozen=True)
class _Seen:
    """How a machine was at a moment: whether its disk was full, and how many shares it had."""

    at: float
    is_full: bool
    shares: int

    @classmethod
    def of(cls, machine: Machine) -> "_Seen":
        is_full = machine.has_disk and machine.free_bytes() <= RESERVE_BYTES
        return cls(time.monotonic(), is_full, len(machine.shares()))


async def calm(users: Users, looker: Looker, home: Path) -> None:
    """When all is well again every file is there. What is not readable now is lost."""
    stage = users.stage
    await trio.sleep(CALM_EPOCHS * stage.epoch_s)
    for file in list(stage.files):
        await users.fetch(home, file, must=True)
        await looker.check(home, file)
    answer = await stage.command(home, "ls")
    listed = {parse_link(each["id"]).id.hex() for each in answer.summary.get("files", ()) if not each["deleted_at"]}
    if missing := {file.file_id for file in stage.files} - listed:
        stage.untrue(f"{missing} were published", answer)
