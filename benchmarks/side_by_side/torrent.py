"""libtorrent: moving plain bytes from one process to another. No encryption at rest, no code, one copy: a reference."""

import json
import shutil
from pathlib import Path

from .environments import Environment, bare_variables
from .processes import (
    OPERATION_LIMIT_S,
    MeasureError,
    Spent,
    cpu_s,
    memory_mib,
    read_line,
    run_command,
    started,
)
from .results import CLIENT, FETCH, PUBLISH, TORRENT, Row
from .rounds import ENOUGH_S, Source, row, same_bytes

SCRIPT = Path(__file__).with_name("torrent_peer.py")
START_LIMIT_S = 30.0


class TorrentPair:
    """A seed and a fetcher, in `folder`, new ones for every round."""

    name = TORRENT
    code = (1, 1)

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._argv = [environment.python, "-P", str(SCRIPT)]
        self._folder = folder
        self._log = folder / "torrent.log"
        self._torrent = folder / "file.torrent"

    def make(self, source: Path) -> Spent:
        """Hash a file into a torrent; seconds without the interpreter's start."""
        argv = [*self._argv, "make", str(source), str(self._torrent)]
        spent, output = run_command(argv, self._log, bare_variables())
        return Spent(json.loads(output)["seconds"], spent.cpu_s, spent.peak_mib)

    def fetch(self, source: Path) -> Spent:
        """Seed, fetch, compare."""
        folder = self._folder / "fetched"
        folder.mkdir()
        variables = bare_variables()
        try:
            seeding = [*self._argv, "seed", str(self._torrent), str(source.parent)]
            with started(seeding, self._log, environment=variables, talks=True) as seed:
                port = json.loads(read_line(seed, START_LIMIT_S))["port"]
                before_s = cpu_s([seed.pid])
                fetching = [*self._argv, "fetch", str(self._torrent), str(folder), str(port)]
                with started(fetching, self._log, environment=variables, talks=True) as fetcher:
                    seconds = json.loads(read_line(fetcher, OPERATION_LIMIT_S))["seconds"]
                    spent_s = cpu_s([seed.pid, fetcher.pid]) - before_s
                    peak_mib = memory_mib(fetcher.pid, "VmHWM")
            if not same_bytes(source, folder / source.name):
                raise MeasureError("libtorrent gave other bytes than were seeded")
        finally:
            shutil.rmtree(folder)
        return Spent(seconds, spent_s, peak_mib)

    def measure(self, source: Source, rounds: int) -> list[Row]:
        """Two rows, as of every system."""
        made: list[Spent] = []
        fetched: list[Spent] = []
        while len(made) < rounds and sum(spent.wall_s for spent in fetched) < ENOUGH_S:
            source.renew()
            made.append(self.make(source.path))
            fetched.append(self.fetch(source.path))
        return [
            row(self, operation, CLIENT, source.size, all_spent)
            for operation, all_spent in ((PUBLISH, made), (FETCH, fetched))
        ]
