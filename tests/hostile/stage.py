"""The rig in a process of its own, as tests and benchmarks use it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hostile.machines import Machine
from hostile.rig import LOG_CHARS, Outcome, Program, Times

READY_LIMIT_S = 180.0
RUN_LIMIT_S = 600.0  # beyond the times that were wished for
NETWORKS = ("private", "public")


class NotAllowedError(Exception):
    """This system lets nobody make such a network; `str()` says why."""


class Stage:
    """A network with an honest user, on which attacks are measured one after another."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program = program
        self._log = log

    def run(self, attack: str, times: Times) -> Outcome:
        """Measure one attack. Raises ChildProcessError when the rig itself fails."""
        with suppress(BrokenPipeError):  # it has ended: the words are in its log
            self._program.tell({"attack": attack, "times": asdict(times)})
        limit_s = RUN_LIMIT_S + times.before_s + times.during_s + times.rest_s + times.after_s
        return Outcome(**self.wait_for("attack", limit_s))

    def wait_for(self, key: str, limit_s: float) -> dict[str, Any]:
        """The rig's next answer with that key. Raises ChildProcessError, with the end of its log, when none comes."""
        try:
            return self._program.wait_for(key, limit_s)
        except (ChildProcessError, TimeoutError) as error:
            raise ChildProcessError(f"the rig failed: {error}\n{self._log.read_text()[-LOG_CHARS:]}") from error


@contextmanager
def open_stage(network: str, folder: Path, *, epoch_s: float) -> Iterator[Stage]:
    """The stage for one of `NETWORKS`, for the length of a block.

    Raises NotAllowedError where the system forbids the namespaces of the public network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "rig.log"
    program = Program(Machine(""), ["hostile.rig", network, str(folder), str(epoch_s)], log)
    try:
        stage = Stage(program, log)
        told = stage.wait_for("ready", READY_LIMIT_S)
        if told["error"]:
            raise NotAllowedError(told["error"])
        yield stage
    finally:
        program.end()
