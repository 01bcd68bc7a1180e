"""Looks: the steps from the files whose turn has come to what is done about them.

    WatchedFile -> survey, audits -> Findings -> comparing lists -> proofs -> Verdict -> telling, repair

Each step takes the value of the one before and makes a new one (`findings`, `verdict`). A repair goes on by itself, in
a task of its own: where holders are slow, no other file waits for them. After the first questions the files are taken
in turn: the most urgent one of each source, then the second of each. A look ends after `LOOK_S`. What is left is looked
at together with what has become due meanwhile.
"""

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

import trio

from shoal.dht import NodeId, QueryError
from shoal.erasure import FileId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.comparing import ListComparison
from shoal.node.care.counts import RoundCounts
from shoal.node.care.doubts import Doubts
from shoal.node.care.epochs import BACK_OFF_PARTS, epoch_of, rank_of
from shoal.node.care.fairness import in_turn
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.health import repair_at
from shoal.node.care.hurry import Hurry
from shoal.node.care.mending import Mender, turn_s
from shoal.node.care.no_hosts import NoHosts
from shoal.node.care.polls import MalformedPoll, poll
from shoal.node.care.presence import Presence
from shoal.node.care.rounds import Round
from shoal.node.care.telling import Teller
from shoal.node.care.turns import HINT_AFTER_S, Turns
from shoal.node.care.urgency import HURRIED_PARTS
from shoal.node.care.verdict import Circumstances, Verdict, judge
from shoal.node.channel import RequestError
from shoal.node.context import Context
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.deletion import Deletion, MalformedDeletion, read_deletion
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.outcome import Outcome
from shoal.node.repairing.repair import RepairJob
from shoal.node.store import StoreError

FOLLOW_UP_SPREAD = 0.5  # of an epoch: watchers of a lost holder do not all come back at once
HURRY_SPREAD = 0.5  # of the pause, where that is shorter than an epoch
PROVE_EPOCHS = 7.0  # all claims on a file are audited before a repair, so often at most: it may wait for hosts for long
ROOM_WAIT_S = 600.0  # for room for one more repair
LOOK_S = 600.0  # one look at many files; then others have their turn
COURSE_FILES = 16  # of a look that are compared and acted on together

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
        self.mender = Mender(context, self.no_file, self._return_now)
        self._hurry = Hurry(context, presence, doubts)
        self.no_hosts = NoHosts(self._epoch_s)
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
        self.no_hosts.forget(file_id)
        self.mender.forget(file_id)
        self._hurry.forget(file_id)
        self.comparison.forget(file_id)

    async def look(self, files: Sequence[WatchedFile], mends: trio.Nursery) -> None:
        """Look at some files, tell what is new, and begin repairs, which go on in `mends`."""
        ends_at = trio.current_time() + LOOK_S
        round_ = self.begin_round()
        left = deque(in_turn(await round_.look(files), lambda each: each.source, _urgency))
        while left:
            for findings in await round_.refresh(await self._compare_some(left, round_, ends_at)):
                try:
                    if not await self.obey_deletion(findings):
                        await self.act(await self._prove(findings, round_), mends)
                except StoreError as error:  # of ours; the others' disks may well do
                    log.warning("looking after a file failed: %s", error)
            if trio.current_time() >= ends_at:
                break
        self._return_now([each.file_id for each in left])
        self.mender.call_back()

    async def _compare_some(self, left: deque[Findings], round_: Round, ends_at: float) -> list[Findings]:
        """Take the next files, one at least, and compare what is known of them."""
        compared: list[Findings] = []
        for _ in range(COURSE_FILES):
            findings = await self._compare(left.popleft(), round_)
            if findings is not None:
                compared.append(findings)
            if not left or trio.current_time() >= ends_at:
                break
        return compared

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
            findings = await self._hurry.confirm(findings, round_)
            if self._is_search_due(findings):
                is_hurried = any(each.overdue for each in findings.observations)
                findings = await self.comparison.search(findings, round_)
                findings = self._hurry.marked(findings) if is_hurried else findings
        except StoreError as error:  # of ours; the others' disks may well do
            log.warning("looking after a file failed: %s", error)
            return None
        return findings

    def _is_search_due(self, findings: Findings) -> bool:
        """Whether to learn of every holder that can be found: before a repair for which there are a place and perhaps
        hosts, or when too few shares answer for one.
        """
        health = findings.health
        if len(health.counted) > repair_at(health.k, health.n) or not self._is_mendable(findings.file_id):
            return False
        if not health.can_repair:
            return True
        if not self.mender.has_place(findings.source, has_lost=findings.has_lost):
            return False
        if self._free_hosts(findings):
            return True
        self._note_vain(findings)
        return False

    def _free_hosts(self, findings: Findings) -> set[bytes]:
        """The peers that we know, that may have room, and that keep nothing of the file, as far as anybody knows."""
        lost = {each.holder for each in findings.observations if each.outcome is Outcome.MISSING}
        return self.hosts() - {bytes(each.node_id) for each in findings.statements if each.node_id not in lost}

    def _note_vain(self, findings: Findings, before: Collection[bytes] = ()) -> float:
        """No host was found. Returns the pause before the next search."""
        hosts, is_danger = self.hosts().union(before), findings.is_emergency
        return self.no_hosts.note(findings.file_id, hosts, trio.current_time(), is_danger=is_danger)

    def _is_mendable(self, file_id: FileId) -> bool:
        """Whether a repair could come to anything: the shares are a file, and there may be hosts for more of them."""
        return file_id not in self.no_file and not self.no_hosts.is_vain(file_id, self.hosts(), trio.current_time())

    def hosts(self) -> set[bytes]:
        """The peers that we know and that may have room. The network has changed where there are others than before."""
        return {bytes(each.node_id) for each in self._context.dht.contacts() if each.space != 0}

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
        mendable = findings.health.needs_repair and self._is_mendable(findings.file_id)
        mendable = mendable and self.mender.has_place(findings.source, has_lost=findings.has_lost)
        if not mendable or now - last < PROVE_EPOCHS * self._epoch_s:
            return findings
        self._proved[findings.file_id] = now
        return await round_.prove(findings)

    async def _judge(self, findings: Findings) -> Verdict:
        news = await self._env.call(self._teller.news, findings)
        may_repair = self._is_mendable(findings.file_id) and not self._clocks.misleads(trio.current_time())
        is_begun = findings.file_id in self._unfinished

        def grace_ends(holder: NodeId) -> float | None:
            away = self._presence.lost_at(holder)
            return away if away is not None else self._doubts.lost_at(holder, findings.file_id)

        return judge(findings, news, Circumstances(self._env.wall(), may_repair, is_begun, grace_ends))

    # --- from a verdict to deeds

    async def act(self, findings: Findings, mends: trio.Nursery) -> None:
        """Do what follows. Where there is no place for a repair, we come back to the file when there is one."""
        verdict = await self._judge(findings)
        if verdict.job is not None:
            if self.mender.reserve(findings.file_id, findings.source, has_lost=findings.has_lost):
                mends.start_soon(self._mend, verdict, verdict.job)
                return
            self._return_to(findings.file_id, self._epoch_s / (BACK_OFF_PARTS if findings.has_lost else 1))
        elif self._is_mendable(findings.file_id) and (pause_s := self._hurry.pause_s(findings)) is not None:
            spread_s = pause_s * HURRY_SPREAD * self._env.rng.random()
            watched_for = self._turns.watched_for(findings.file_id)
            self._turns.return_to(findings.file_id, self._env.wall() + pause_s + spread_s, pause_s=pause_s)
            if watched_for not in {each.node_id for each in findings.living(self._me)}:
                mends.start_soon(self._ask_deputy, findings)  # else that peer returns, and this would go on for ever
        elif verdict.absent_until is not None:
            jitter_s = self._env.rng.random() * FOLLOW_UP_SPREAD * self._epoch_s
            left_s = verdict.absent_until - trio.current_time()
            self._turns.ask_absent(findings.file_id, self._env.wall() + left_s + jitter_s)
        await self._teller.spread(verdict)

    async def _ask_deputy(self, findings: Findings) -> None:
        """Have the next in rank watch a file that has little to spare, by a second poll: this node may die."""
        epoch = epoch_of(findings.file_id, self._env.wall(), self._epoch_s)
        living = findings.living(self._me)
        ids = [each.node_id for each in living]
        living.sort(key=lambda each: rank_of(findings.file_id, epoch, each.node_id, ids))
        await trio.sleep(min(HINT_AFTER_S, self._epoch_s / (2 * HURRIED_PARTS)))
        for deputy in [each for each in living if not each.contact.is_relayed][:1]:  # a relay passes no datagrams on
            with suppress(QueryError, MalformedPoll):
                await poll(self._context, deputy.contact, [findings.file_id])

    def _return_to(self, file_id: FileId, pause_s: float) -> None:
        self._turns.return_to(file_id, self._env.wall() + pause_s)

    def _return_now(self, file_ids: Iterable[FileId]) -> None:
        for file_id in file_ids:
            self._return_to(file_id, 0.0)

    async def _mend(self, verdict: Verdict, job: RepairJob) -> None:
        """Repair when it is our turn, unless another holder has done it by then."""
        findings = verdict.findings
        epoch = epoch_of(findings.file_id, self._env.wall(), self._epoch_s)
        living = [each.node_id for each in findings.living(self._me)]
        try:
            await trio.sleep(turn_s(findings.file_id, epoch, self._me, living, self._env.rng))
            async with self.mender.room(findings.source, trio.current_time() + ROOM_WAIT_S) as has_room:
                if not has_room or await self._teller.has_heard_of_more(findings):
                    self._return_to(findings.file_id, self._epoch_s / HURRIED_PARTS)
                else:
                    await self._mend_now(verdict, job)
        except StoreError as error:
            log.warning("looking after a file failed: %s", error)
        finally:
            self.mender.release(findings.file_id)

    async def _mend_now(self, verdict: Verdict, job: RepairJob) -> None:
        file_id, is_danger = verdict.findings.file_id, verdict.findings.is_emergency
        hosts_before = self.hosts()
        mended = await self.mender.mend(job)
        if mended.is_done:
            self._unfinished.discard(file_id)
        else:
            self._unfinished.add(file_id)
        if mended.lacks_hosts:
            self._return_to(file_id, self._note_vain(verdict.findings, hosts_before))
        else:
            self.no_hosts.forget(file_id)
            if not mended.is_done:
                self._return_to(file_id, self._epoch_s / (BACK_OFF_PARTS if is_danger else 1))
        await self._teller.spread(verdict.after_repair(mended.made))


def _urgency(findings: Findings) -> tuple[bool, float]:
    """Files that have lost shares come first, and of these the one of whose spare the least part still answers."""
    health = findings.health
    return not findings.has_lost, (health.answering - health.k) / max(1, health.n - health.k)
