"""The stage of benchmarks/hard_use.py: its machines and files, the commands that are run, and what is counted."""

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from parts.machines import Machine, Park

from kit.fleet import plain_environment

COMMAND_LIMIT_S = 180.0
MINUTE_S = 60.0


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

    def refused(self, what: str, answer: Answer) -> None:
        """A command failed, and said why."""
        self.ledger.refusals[f"{what} {answer.code}: {answer.message[:140]}"] += 1
        self.ledger.say(f"{what} refused with {answer.code}: {answer.message}")

    def shares_of(self, file: File, machines: list[Machine]) -> set[int]:
        """The shares of a file on the disks of these machines."""
        return {share for machine in machines for name, share in machine.shares() if name == file.file_id}

    async def warden(self) -> None:
        """See at once what is lost and who ended."""
        known: set[str] = set()
        said_at = 0.0
        while not self.over.is_set():
            if time.monotonic() - said_at > MINUTE_S:
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
