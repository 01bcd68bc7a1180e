"""kill -9 at random moments of a network of real daemons: nothing that was acknowledged is lost, nobody lends a hand.

Each point kills one process in the middle of something: a daemon while it receives a share, while it commits one, while
it makes a lost share again or takes one that was made again, or while it drops a deleted file; or the command that
publishes or repairs. The daemon is started again on the same home at once, and then every share that anybody has ever
acknowledged must be served with the right bytes, the files be fetched, what was deleted stay deleted.

SHOAL_CRASH_POINTS sets how many processes are killed (default 8, each kind once); the store alone is killed in
tests/node/store/test_kill.py (default 12, so that a run of all tests has 20 points). The long run, with its figures:

    SHOAL_CRASH_POINTS=500 python -m pytest -s tests/node/whole/crash
"""

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from kit.fleet import Upload
from shoal.erasure import FileId, Link, Manifest, parse_link
from shoal.node import Node, Phase, Progress, Published, open_node
from shoal.node.care.epochs import epoch_of, rank_of
from shoal.node.store import RealDisk, ShareStore

T = TypeVar("T")

POINTS = int(os.environ.get("SHOAL_CRASH_POINTS", "8"))
SEED = int(os.environ.get("SHOAL_CRASH_SEED", "1"))
START_LIMIT_S = 5.0  # of CPU time; by the clock a start may take longer where other processes want the machine
LIVE_FILES = 12  # older ones are checked once more, and deleted: every epoch all are looked at
PUBLISH_SIZES = [3000, 60_000, 900_000, 6_000_000]  # in the database, one short block, some blocks, some requests
REPAIR_SIZE = 4_000_000  # a second's work at the rate that daemons allow themselves
WIDE, NARROW = (3, 7), (2, 4)  # k of n: nearly every daemon a holder; one loss is enough for a repair
HEALED_EPOCHS = 30  # a few are needed; more only where the machine is busy
STARTED_EPOCHS = 6
SCAN_S = 0.01
DAY_S = 86400


@dataclass
class File:
    """A published file and what is owed of it: (share, daemon) pairs.

    owed: acknowledged, hence to be served.  removed: shares whose file the test has removed from a daemon's disk.
    """

    link: Link
    content: bytes
    manifest: Manifest
    owed: set[tuple[int, int]] = field(default_factory=set)
    removed: set[tuple[int, int]] = field(default_factory=set)

    @property
    def holders(self) -> list[int]:
        """The daemons that owe a share."""
        return sorted({number for _, number in self.owed})


class Ledger:
    """What daemons have acknowledged, and whether they keep their word."""

    def __init__(self, fleet: Any, client: Node) -> None:
        self._fleet = fleet
        self._client = client
        self.live: list[File] = []
        self.deleted: dict[Link, set[int]] = {}  # and which daemons have said so
        self.left: set[tuple[Link, int]] = set()  # which daemons had not heard of that when they were asked last
        self.checked_shares = 0
        self.fetches = 0

    async def enter(self, published: Published, content: bytes) -> File:
        """A publish that succeeded; each holder it names has signed for its share."""
        owed = {(share, self._fleet.at(address)) for share, address in published.holders.items()}
        return await self.enter_link(published.link, content, owed)

    async def enter_link(self, link: Link, content: bytes, owed: set[tuple[int, int]]) -> File:
        """A link that was printed, and who is known to hold what."""
        manifest = await self._fleet.manifest(await self._fleet.a_holder(link.id), link.id)
        file = File(link, content, manifest, owed)
        self.live.append(file)
        return file

    async def compare(self) -> None:
        """Ask every daemon what it keeps. What it says is one more promise; what it must say is checked."""
        ids = [file.link.id for file in self.live] + [link.id for link in self.deleted]
        self.left.clear()
        for daemon in self._fleet.daemons:
            entries = await self._fleet.survey(daemon.number, ids)
            for file, entry in zip(self.live, entries, strict=False):
                rows = set() if isinstance(entry, bytes) else {(row.share, daemon.number) for row in entry}
                owed = {place for place in file.owed if place[1] == daemon.number}
                assert not isinstance(entry, bytes), f"daemon {daemon.number} deleted what nobody asked it to"
                assert rows >= owed, (
                    f"daemon {daemon.number} lost acknowledged shares {owed - rows} of {file.link.id.hex()}"
                )
                file.owed |= rows
                file.removed -= rows
            for (link, agreed), entry in zip(self.deleted.items(), entries[len(self.live) :], strict=True):
                assert isinstance(entry, bytes) or daemon.number not in agreed, f"{link} is back on {daemon.number}"
                if isinstance(entry, bytes):
                    agreed.add(daemon.number)
                elif entry:
                    self.left.add((link, daemon.number))

    async def check_daemons(self) -> None:
        """Nothing is damaged, nothing lost but what the test took away, and no bug was met."""
        for daemon in self._fleet.daemons:
            status = await daemon.status()
            removed = sum(number == daemon.number for file in self.live for _, number in file.removed)
            assert status["damaged_shares"] == 0, f"daemon {daemon.number}"
            assert status["lost_shares"] <= removed, f"daemon {daemon.number}"  # fewer where they were made again there
            assert not daemon.complaints(), daemon.complaints()

    async def check_shares(self, files: Iterable[File], number: int | None = None) -> None:
        """Read all shares of some files as a whole: from one daemon, or from all that owe them."""
        wanted: dict[int, list[tuple[Manifest, int]]] = {}
        for file in files:
            for share, holder in sorted(file.owed):
                if number in (None, holder):
                    wanted.setdefault(holder, []).append((file.manifest, share))
        for holder, shares in wanted.items():
            await self._fleet.check_shares(holder, shares)
            self.checked_shares += len(shares)

    async def check_fetch(self, file: File) -> None:
        """Fetch a file and compare it."""
        async with self._client.open_fetch(file.link) as stream:
            fetched = b"".join([chunk async for chunk in stream])
        assert fetched == file.content
        self.fetches += 1

    async def served(self, file: File) -> set[int]:
        """The shares of a file that are served now, by anybody."""
        await self.compare()
        return {share for share, _ in file.owed}


class Killer:
    """Does things, and kills who takes part in them. One object for the whole run."""

    def __init__(self, fleet: Any, client: Node, ledger: Ledger, folder: Path) -> None:
        self._fleet = fleet
        self._client = client
        self._ledger = ledger
        self._folder = folder
        self._rng = random.Random(SEED)
        self._files = 0
        self.points: Counter[str] = Counter()
        self.amid: Counter[str] = Counter()
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.receiving,
            self.committing,
            self.publishing,
            self.mending,
            self.taking,
            self.deleting,
            self.repairing,
            self.taking_from_command,
        ]

    async def point(self, number: int) -> None:
        """One kill, and everything that has to be true after it."""
        self._rng = random.Random(f"{SEED} {number}")
        kind = self.kinds[number % len(self.kinds)]
        await kind()
        await self._ledger.compare()
        await self._ledger.check_daemons()
        while len(self._ledger.live) > LIVE_FILES:
            await self._retire(self._ledger.live[0])

    # --- killing

    async def _restart(self, number: int) -> None:
        """Start a daemon that was killed, and check at once what it has to serve."""
        daemon = self._fleet.daemons[number]
        await daemon.wait_up(daemon.start())
        await self._ledger.check_shares(self._ledger.live, number)

    async def _during(
        self,
        kind: str,
        operation: Callable[[trio.Event], Awaitable[T]],
        longest_s: float,
        choose: Callable[[], int],
    ) -> tuple[T, int]:
        """Kill a daemon up to `longest_s` after the operation says so, and start it again meanwhile; who it was."""
        ready, done, victims = trio.Event(), trio.Event(), []

        async def strike() -> None:
            await ready.wait()
            await trio.sleep(self._rng.uniform(0, longest_s))
            number = choose()
            self._count(kind, not done.is_set())
            self._fleet.daemons[number].kill()
            victims.append(number)
            await self._restart(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            result = await operation(ready)
            done.set()
            ready.set()
        return result, victims[0]

    def _count(self, kind: str, amid: bool) -> None:
        self.points[kind] += 1
        self.amid[kind] += amid

    # --- publishing

    def _source(self, size: int) -> tuple[Path, bytes]:
        self._files += 1
        path, content = self._folder / f"source-{self._files}", self._rng.randbytes(size)
        path.write_bytes(content)
        return path, content

    async def _publish(
        self, size: int, code: tuple[int, int], ready: trio.Event | None = None, phase: Phase = Phase.SENDING
    ) -> tuple[Published, bytes]:
        """Publish with this process; `ready` is set when a phase begins. The content, too."""

        def on_progress(progress: Progress) -> None:
            if ready is not None and progress.phase is phase:
                ready.set()

        path, content = self._source(size)
        published = await self._client.publish(path, needed=code[0], total=code[1], on_progress=on_progress)
        assert published.complete
        path.unlink()
        return published, content

    def _receiver(self, before: set[Upload]) -> Callable[[], int]:
        """Chooses one of those who are receiving something just now, or anybody."""

        def choose() -> int:
            fresh = sorted({number for number, _ in self._fleet.uploads() - before})
            chosen: int = self._rng.choice(fresh or list(range(len(self._fleet.daemons))))
            return chosen

        return choose

    async def _publish_and_kill(self, kind: str, phase: Phase, longest_s: float) -> None:
        size = self._rng.choice(PUBLISH_SIZES)
        published, _ = await self._during(
            kind,
            lambda ready: self._publish(size, WIDE, ready, phase),
            longest_s,
            self._receiver(self._fleet.uploads()),
        )
        await self._check(await self._ledger.enter(*published))  # only now is everybody up who is asked for that

    async def receiving(self) -> None:
        """A daemon dies while shares are sent to it."""
        await self._publish_and_kill("receiving a share", Phase.PLACING, 0.15)

    async def committing(self) -> None:
        """A daemon dies while it is asked to make its share durable."""
        await self._publish_and_kill("committing a share", Phase.COMMITTING, 0.04)

    async def publishing(self) -> None:
        """The publisher dies. The same command again completes what it has begun."""
        path, content = self._source(self._rng.choice(PUBLISH_SIZES))
        command = self._fleet.command("publish", str(path), "--needed", str(WIDE[0]), "--total", str(WIDE[1]))
        said = await self._run_and_kill("publishing", command, "placing", 0.2)
        links = [each["link"] for each in said if each["message_type"] == "summary"]
        if not links:
            links = [(await self._run(command))["link"]]
            assert not list((self._folder / "client" / "publishing").glob("*")), "a finished publish leaves its journal"
        path.unlink()
        await self._check(await self._ledger.enter_link(parse_link(links[0]), content, set()))

    async def _check(self, file: File) -> None:
        """All that was acknowledged of a file is there."""
        await self._ledger.compare()
        await self._ledger.check_shares([file])
        await self._ledger.check_fetch(file)

    # --- commands in processes of their own

    async def _run(self, command: list[str]) -> dict[str, Any]:
        """Run a command to its end; its summary."""
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        summary = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(summary, dict)
        return summary

    async def _run_and_kill(self, kind: str, command: list[str], phase: str, longest_s: float) -> list[dict[str, Any]]:
        """Kill a command up to `longest_s` after it says that a phase has begun; what it has said."""
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        async with process.stdout, process.stderr:
            while f'"phase": "{phase}"'.encode() not in said:
                chunk = await process.stdout.receive_some()
                if not chunk:
                    break
                said += chunk
            await trio.sleep(self._rng.uniform(0, longest_s))
            self._count(kind, process.poll() is None)
            process.kill()
            said += b"".join([chunk async for chunk in process.stdout])
        await process.wait()
        return [json.loads(line) for line in said.split(b"\n")[:-1]]

    # --- repairing

    async def _ill_file(self) -> File:
        """A file of which one share has gone from a daemon's disk while that daemon was dead; it is up again."""
        files = [file for file in self._ledger.live if file.manifest.n == NARROW[1]]
        if len(files) > 2:
            file = self._rng.choice(files)
        else:
            file = await self._ledger.enter(*await self._publish(REPAIR_SIZE, NARROW))
        counts = Counter(share for share, _ in file.owed)
        share, number = self._rng.choice(sorted(place for place in file.owed if counts[place[0]] == 1))
        self._fleet.daemons[number].kill()
        (path,) = self._fleet.daemons[number].share_files(file.link.id, share)
        path.unlink()
        file.owed.remove((share, number))
        file.removed.add((share, number))
        await self._restart(number)
        return file

    async def _next_upload(self, before: set[Any]) -> Any:
        """Wait until somebody begins to take a share that was made again; None if that is not seen."""
        with trio.move_on_after(STARTED_EPOCHS * self._fleet.epoch_s):
            while not (fresh := self._fleet.uploads() - before):  # noqa: ASYNC110 - in another process
                await trio.sleep(SCAN_S)
            return sorted(fresh)[0]
        return None

    async def _kill_in_repair(self, kind: str, choose: Callable[[File, int], int]) -> None:
        before = self._fleet.uploads()
        file = await self._ill_file()
        upload = await self._next_upload(before)
        await trio.sleep(self._rng.uniform(0, 0.4))
        self._count(kind, upload is not None and self._fleet.is_there(upload))
        victim = choose(file, upload[0] if upload else file.holders[0])
        self._fleet.daemons[victim].kill()
        await self._restart(victim)
        await self._until_whole(file)

    async def taking(self) -> None:
        """A daemon dies while the holders of a file put a share on it that they have made again."""
        await self._kill_in_repair("taking a share that was made again", lambda file, taker: taker)

    async def mending(self) -> None:
        """The daemon dies that is making a share again, as far as that can be told: the one whose turn it is."""
        await self._kill_in_repair("making a share again", lambda file, taker: self._whose_turn(file, taker))

    def _whose_turn(self, file: File, taker: int) -> int:
        """The first in rank of the holders: it looks after the file in this epoch."""
        numbers = {self._fleet.daemons[number].node_id: number for number in {*file.holders} - {taker}}
        known = {*numbers, *(self._fleet.daemons[number].node_id for _, number in file.removed)}
        epoch = epoch_of(file.link.id, time.time(), self._fleet.epoch_s)
        return min(numbers.items(), key=lambda each: rank_of(file.link.id, epoch, each[0], known))[1]

    async def taking_from_command(self) -> None:
        """A daemon dies while a command puts a share on it that it has made again."""
        before = self._fleet.uploads()
        file = await self._ill_file()

        async def repair(ready: trio.Event) -> None:
            def on_progress(progress: Progress) -> None:
                if progress.phase is Phase.REBUILDING:
                    ready.set()

            await self._client.repair(file.link, on_progress=on_progress)

        await self._during("taking a share from a command", repair, 0.05, self._receiver(before))
        await self._until_whole(file)

    async def repairing(self) -> None:
        """The command that repairs dies."""
        file = await self._ill_file()
        command = self._fleet.command("repair", file.link.hash)
        await self._run_and_kill("repairing by command", command, "checking", 0.2)
        await self._until_whole(file)

    async def _until_whole(self, file: File) -> None:
        """By themselves the holders make again what is missing."""
        with trio.fail_after(HEALED_EPOCHS * self._fleet.epoch_s):
            while len(await self._ledger.served(file)) < file.manifest.n:  # noqa: ASYNC110 - in other processes
                await trio.sleep(self._fleet.epoch_s / 8)
        await self._check(file)

    # --- deleting

    async def deleting(self) -> None:
        """A daemon dies while the owner deletes a file. It hears of that from the others."""
        file = self._rng.choice(self._ledger.live)
        holders = file.holders
        self._ledger.live.remove(file)  # from here on a share may be there or not

        async def delete(ready: trio.Event) -> Any:
            ready.set()
            return await self._client.delete(file.link)

        deleted, _ = await self._during("deleting", delete, 0.1, lambda: self._rng.choice(holders))
        assert sum(deleted.causes.values()) <= 1  # busy: while it was starting
        await self._until_deleted(file, deleted.confirmed)

    async def _until_deleted(self, file: File, confirmed: int) -> None:
        """Every node that has confirmed it remembers it. All others hear of it from each other, and nothing is on any
        disk.

        There may be holders that the owner did not find: those whose acknowledgement nobody heard, because they died.
        """
        self._ledger.deleted[file.link] = set()
        await self._ledger.compare()
        assert len(self._ledger.deleted[file.link]) >= confirmed
        with trio.fail_after(HEALED_EPOCHS * self._fleet.epoch_s):
            while self._ledger.left:
                await trio.sleep(self._fleet.epoch_s / 8)
                await self._ledger.compare()
            while any(daemon.share_files(file.link.id) for daemon in self._fleet.daemons):  # noqa: ASYNC110
                await trio.sleep(SCAN_S)  # a file goes a moment after its share has
        assert self._ledger.deleted[file.link] >= set(file.holders)

    async def _retire(self, file: File) -> None:
        """A last look at an old file; then its owner deletes it in peace."""
        await self._check(file)
        self._ledger.live.remove(file)
        deleted = await self._client.delete(file.link)
        assert deleted.complete
        await self._until_deleted(file, deleted.confirmed)


def check_disk(daemon: Any, files: list[File]) -> None:
    """Open the store of a daemon that has ended: all is as it should be, and nothing is left over that would stay."""
    now = time.time()
    store = ShareStore(RealDisk(), daemon.home.store_folder, capacity_bytes=10**12, reserve_bytes=0, now=now)
    try:
        found, health = store.reconciled, store.health()
        assert (found.indexed, found.lost, found.unreadable, found.stray_bytes) == (0, 0, 0, 0)
        assert (health.damaged, health.quarantined) == (0, 0)
        store.expire(now + 2 * DAY_S)
        assert store.usage().uploads == 0
        held = {(FileId(raw), each.share_number) for raw in store.files() for each in store.held(raw)}
        owed = {(file.link.id, share) for file in files for share, number in file.owed if number == daemon.number}
        assert held >= owed  # more where a share was made again twice
        names = {f"{file_id.hex()}.{share}" for file_id, share in held}
        assert [path for path in daemon.files("*") if path.name not in names] == [], "files that belong to nobody"
        assert len(daemon.files("*")) <= len(held), "two files of one share"
    finally:
        store.close()


async def test_no_acknowledged_share_is_lost_by_kill_9(fleet: Any, tmp_path: Path) -> None:
    begun = time.monotonic()
    await fleet.start()
    async with open_node(tmp_path / "client", network=fleet.network_file) as client:
        ledger = Ledger(fleet, client)
        killer = Killer(fleet, client, ledger, tmp_path)
        for number in range(POINTS):
            await killer.point(number)
        await ledger.check_shares(ledger.live)
        for file in ledger.live:
            await ledger.check_fetch(file)
    assert set(fleet.stop()) == {130}
    for daemon in fleet.daemons:
        check_disk(daemon, ledger.live)
    assert max(fleet.starts_cpu_s) < START_LIMIT_S
    starts_s = sorted(fleet.starts_s)
    median_s = starts_s[len(starts_s) // 2]
    slow = sum(start_s >= START_LIMIT_S for start_s in starts_s)
    print(f"\n{'killed while':40} points  amid it")
    for kind, count in sorted(killer.points.items()):
        print(f"{kind:40} {count:6}  {killer.amid[kind]:7}")
    print(
        f"{POINTS} points in {time.monotonic() - begun:.0f} s; {ledger.checked_shares} shares read back, "
        f"{ledger.fetches} files fetched, 0 acknowledged shares lost"
    )
    print(
        f"{len(starts_s)} starts: the median took {median_s:.2f} s, the longest {starts_s[-1]:.2f} s; {slow} of them "
        f"{START_LIMIT_S:.0f} s or more"
    )
