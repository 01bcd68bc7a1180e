"""magic-wormhole: what one may pick to send one file to somebody who is there. Encrypted on its way, kept nowhere."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .environments import Environment, bare_variables
from .processes import MeasureError, Spent, cpu_s, run_command, started
from .results import COMMAND, FETCH, WORMHOLE, Row
from .rounds import ENOUGH_S, Source, row, same_bytes

START_LIMIT_S = 30.0
POLL_S = 0.05


class WormholePair:
    """A sender and a receiver, new ones for every round, and a mailbox server of their own for all rounds."""

    name = WORMHOLE
    code = (1, 1)

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._log = folder / "wormhole.log"
        self._rounds = 0

    def measure(self, source: Source, rounds: int) -> list[Row]:
        """One row: sender and receiver start at the same time, and the file is there when the receiver has ended."""
        spent: list[Spent] = []
        with self._mailbox() as port:
            while len(spent) < rounds and sum(each.wall_s for each in spent) < ENOUGH_S:
                source.renew()
                spent.append(self._transfer(source.path, port))
        return [row(self, FETCH, COMMAND, source.size, spent)]

    @contextmanager
    def _mailbox(self) -> Iterator[int]:
        """A mailbox server on a free port. It works in its current folder, which is ours."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        listen = f"--port=tcp:{port}:interface=127.0.0.1"
        database = f"--channel-db={self._folder / 'mailbox.sqlite'}"
        argv = [self._environment.script("twist"), "wormhole-mailbox", listen, database]
        with started(argv, self._log, environment=bare_variables()):
            deadline = time.monotonic() + START_LIMIT_S
            while not _answers(port):
                if time.monotonic() > deadline:
                    raise MeasureError("the mailbox server does not start")
                time.sleep(POLL_S)
            yield port

    def _transfer(self, source: Path, port: int) -> Spent:
        """Send, receive, compare."""
        self._rounds += 1
        folder, code = self._folder / "received", f"{self._rounds}-purple-sausages"
        folder.mkdir()
        wormhole = [self._environment.script("wormhole"), f"--relay-url=ws://127.0.0.1:{port}/v1"]
        wormhole.append("--transit-helper=tcp:127.0.0.1:1")  # nobody is there: both ends reach each other
        quiet = "--hide-progress"
        target = folder / source.name
        try:
            sending = [*wormhole, "send", quiet, "--code", code, str(source)]
            with started(sending, self._log, environment=bare_variables()) as sender:
                receiving = [*wormhole, "receive", quiet, "--accept-file", "-o", str(target), code]
                spent, _ = run_command(receiving, self._log, bare_variables())
                sender_s = cpu_s([sender.pid])
            if not same_bytes(source, target):
                raise MeasureError("magic-wormhole gave other bytes than were sent")
        finally:
            shutil.rmtree(folder)
        return Spent(spent.wall_s, spent.cpu_s + sender_s, spent.peak_mib)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
