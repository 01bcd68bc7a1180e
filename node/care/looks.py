"""Looks: the steps from the files whose turn has come to what is done about them.

    WatchedFile -> survey, audits -> Findings -> comparing lists -> proofs -> Verdict -> telling, repair

Each step takes the value of the one before and makes a new one (`findings`, `verdict`). A repair goes on by itself, in
a task of its own: where holders are slow, no other file waits for them.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.comparing import ListComparison
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.health import repair_at
from shoal.node.care.mending import Mender
from shoal.node.care.presence import Presence
from shoal.node.care.rounds import Round
from shoal.node.care.telling import Teller
from shoal.node.care.turns import Turns
from shoal.node.care.verdict import Circumstances, Verdict, judge
from shoal.node.channel import RequestError
from shoal.node.context import Context
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.deletion import Deletion, MalformedDeletion, read_deletion
from shoal.node.holders.known import KnownHolders
from shoal.node.repairing.repair import RepairJob
from shoal.node.store import StoreError

FOLLOW_UP_SPREAD = 0.5  # of an epoch: watchers of a lost holder do not all come back at once
PROVE_EPOCHS = 7.0  # all claims on a file are audited before a repair, so often at most: it may wait for hosts for long
ROOM_WAIT_S = 600.0  # for room for one more repair, of all files that are looked at together

log = logging.getLogger(__name__)


class Looks:
    """Looks at files in full. `presence`, `doubts` and `clocks` are what this node knows of its peers.

    `turns` hears when to come back to a file. `delete` obeys an owner's deletion, if it is one.
    """

    def __init__(
        self,
        context: Context,
        me: NodeId,
        known_holders: KnownHolders,
        announcing: Announcing,
        turns: Turns,
        presence: Presence,
        doubts: Doubts,
        clocks: ClockComparison,
        delete: Callable[[Deletion], Awaitable[bool]],
    ) -> None:
        self._context = context
        self._env = context.env
        self._epoch_s = context.network.epoch_s
        self._me = me
        self._turns = turns
        self._presence = presence
        self._doubts = doubts
        self._clocks = clocks
        self._delete = delete
        self._teller = Teller(context, me, known_holders, announcing, clocks)
        self.comparison = ListComparison(context, me, known_holders, self._teller, clocks)
        self.no_file: set[bytes] = set()  # shares that are no file, by their publisher's doing: nothing can mend them
        self.mender = Mender(context, self.no_file)
        self._unfinished: set[bytes] = set()  # repairs that placed fewer shares than were missing
        self._proved: dict[bytes, float] = {}  # when all claims on a file were last audited (monotonic)
        self.counts = RoundCounts()

    def begin_round(self) -> Round:
        """A round of questions and audits."""
        return Round(self._context, self._me, self._presence, self._doubts, self._clocks, self.counts)

    def forget(self, file_id: FileId) -> None:
        """Nothing of a file is kept here any more."""
        self._unfinished.discard(file_id)
        self._proved.pop(file_id, None)
        self.no_file.discard(file_id)
        self.comparison.forget(file_id)

    async def look(self, files: Sequence[WatchedFile], mends: trio.Nursery) -> None:
        """Look at some files, tell what is new, and begin repairs, which go on in `mends`."""
        round_ = self.begin_round()
        found = [await self._compare(each, round_) for each in await round_.look(files)]
        compared = await round_.refresh([each for each in found if each is not None])
        wait_until = trio.current_time() + ROOM_WAIT_S
        for findings in compared:
            try:
                if not await self.obey_deletion(findings):
                    await self.act(await self._prove(findings, round_), mends, wait_until)
            except StoreError as error:  # of ours; the others' disks may well do
                log.warning("looking after a file failed: %s", error)

    async def find_worse(self, files: Sequence[WatchedFile]) -> list[FileId]:
        """Of files whose holders were not all there, those that need a full look, since too many stayed away.

        Only the absent are asked again. A peer that has answered meanwhile, about any file, is not absent any more.
        """
        absent = {*self._presence.away(), *self._doubts.peers()}
        found = await self.begin_round().look_for(absent, files)
        return [each.file_id for each in found if each.health.needs_repair]

    # --- from findings to a verdict

    async def _compare(self, findings: Findings, round_: Round) -> Findings | None:
        """Learn of holders that we do not know, and look at those as well; before a repair, of all that can be found.

        None where our disk fails.
        """
        try:
            findings = await self.comparison.compare(findings, round_)
            health = findings.health
            if len(health.counted) <= repair_at(health.k, health.n) and findings.file_id not in self.no_file:
                findings = await self.comparison.search(findings, round_)
        except StoreError as error:  # of ours; the others' disks may well do
            log.warning("looking after a file failed: %s", error)
            return None
        return findings

    async def obey_deletion(self, findings: Findings) -> bool:
        """Whether another holder showed that the file's owner has deleted it; then we drop it as well."""
        for shown in dict.fromkeys(findings.shown.deletions):
            try:
                if await self._delete(read_deletion(shown, findings.file_id)):
                    return True
            except (MalformedDeletion, RequestError):
                continue  # not the owner's word, or our disk failed: the next survey tells it again
        return False

    async def _prove(self, findings: Findings, round_: Round) -> Findings:
        """Before a repair nobody is believed without proof."""
        now = trio.current_time()
        last = self._proved.get(findings.file_id, -math.inf)
        mendable = findings.health.needs_repair and findings.file_id not in self.no_file
        if not mendable or now - last < PROVE_EPOCHS * self._epoch_s:
            return findings
        self._proved[findings.file_id] = now
        return await round_.prove(findings)

    async def _judge(self, findings: Findings) -> Verdict:
        news = await self._env.call(self._teller.news, findings)
        may_repair = findings.file_id not in self.no_file and not self._clocks.misleads(trio.current_time())
        is_begun = findings.file_id in self._unfinished

        def grace_ends(holder: NodeId) -> float | None:
            away = self._presence.lost_at(holder)
            return away if away is not None else self._doubts.lost_at(holder, findings.file_id)

        return judge(findings, news, Circumstances(self._env.wall(), may_repair, is_begun, grace_ends))

    # --- from a verdict to deeds

    async def act(self, findings: Findings, mends: trio.Nursery, wait_until: float = math.inf) -> None:
        """Do what follows. A repair waits for room until `wait_until` (monotonic); else we come back to it soon."""
        verdict = await self._judge(findings)
        if verdict.job is not None:
            if await self.mender.reserve(findings.file_id, wait_until):
                mends.start_soon(self._mend, verdict, verdict.job)
                return
            self._turns.return_to(findings.file_id, self._env.wall(), soon=True)
        elif verdict.absent_until is not None:
            jitter_s = self._env.rng.random() * FOLLOW_UP_SPREAD * self._epoch_s
            left_s = verdict.absent_until - trio.current_time()
            self._turns.ask_absent(findings.file_id, self._env.wall() + left_s + jitter_s)
        await self._teller.spread(verdict)

    async def _mend(self, verdict: Verdict, job: RepairJob) -> None:
        file_id, health = verdict.findings.file_id, verdict.findings.health
        try:
            mended = await self.mender.mend(job)
            if mended.is_done:
                self._unfinished.discard(file_id)
            else:
                self._unfinished.add(file_id)
                self._turns.return_to(file_id, self._env.wall(), soon=health.is_emergency)
            await self._teller.spread(verdict.after_repair(mended.made))
        except StoreError as error:
            log.warning("looking after a file failed: %s", error)
        finally:
            self.mender.release(file_id)
