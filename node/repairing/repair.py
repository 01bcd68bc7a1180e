"""Repair: shares that are gone are made again from any k others, without a key, and put on hosts that hold none.

The command and the holders' own care do the same. Two who repair one file at once ask the same hosts in the same order,
under the same upload ids. So the second finds that blocks of an upload are there already: it waits while they grow in
number, and goes on from there when they do not. Nothing that is said is believed: a share counts when its holder has
proven a block of it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import trio

from shoal.dht import Contact, NodeId
from shoal.erasure import BLOCK_BYTES, FileId, Manifest
from shoal.node.context import Context
from shoal.node.errors import NotFound, TooFewShares, UsageError, in_words
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.announcers import Hint
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.placement import counted_host, gather, host_of
from shoal.node.holders.search import Search
from shoal.node.holders.statements import HolderStatement
from shoal.node.holders.tally import Tally
from shoal.node.nursery import open_nursery
from shoal.node.publishing.lanes import DropReason, Lane, reasons_of
from shoal.node.publishing.rebuild import rebuild_onto
from shoal.node.publishing.recruit import Recruiter
from shoal.node.publishing.settling import Settling
from shoal.node.repairing.audit import Audit, Audited
from shoal.node.results import OnProgress, Phase, Progress, Repaired
from shoal.values import dataclass

WATCH_EVERY_S = 10.0  # how often we look whether somebody else has put the same share there
GROWS_WITHIN_S = 30.0  # an upload of another repairer that got nothing in this time is given up by it
HAND_SPREAD_S = 10.0  # people who repair the same file at the same moment send within this time


_UNHEARD = {  # a host that does not say what it keeps of the file, and why not
    frozenset({Outcome.STALLED}): DropReason.NO_ANSWER,
    frozenset({Outcome.BUSY}): DropReason.BUSY,
}


@dataclass(frozen=True)
class RepairJob:
    """What is to be done: make the `missing` shares again from the `healthy` ones; new holders promise `lease_end`.

    `sources` are further places of proven shares; nodes in `avoid` are not asked to keep any, and `reluctant` ones, who
    did not keep what they had, only where nobody else takes a share. `answered` says who has answered at which host
    (`host_of`): only there others at the same host are not asked either, since anybody can state any address.
    """

    manifest: Manifest
    healthy: Sequence[HolderStatement]
    missing: Sequence[int]
    lease_end: float
    sources: Sequence[Hint] = ()
    avoid: Sequence[Contact] = ()
    reluctant: Sequence[Contact] = ()
    answered: Collection[tuple[NodeId, bytes]] = ()


class Repairer:
    """Does one job. Afterwards `settling` knows all holders, and the counters say what it took."""

    def __init__(
        self,
        context: Context,
        job: RepairJob,
        on_bytes: Callable[[int, int], None] = lambda done, shares: None,
        *,
        spread_s: float = 0.0,
    ) -> None:
        """`on_bytes` hears how many bytes of each of how many shares have been made; each round begins anew.

        `spread_s`: once hosts have agreed, the first block is sent at a random moment within this time.
        """
        self.context = context
        self._job = job
        self.manifest = job.manifest
        self._on_bytes = on_bytes
        self._spread_s = spread_s
        self._share_bytes = job.manifest.layout.share_bytes
        self._lease_s = max(0, min(MAX_LEASE_S, int(job.lease_end - context.env.wall())))  # liars promise centuries
        self.settling = Settling(context, job.manifest, lease_s=self._lease_s, statements=job.healthy)
        self._known = set(self.settling.statements)
        self._full_hosts: list[Contact] = []
        self.refusals: Counter[DropReason] = Counter()
        self.lacks_hosts = False  # whether the last round found fewer hosts than shares were missing
        self.sent_bytes = self.received_bytes = 0

    async def run(self) -> list[HolderStatement]:
        """The promises of new holders; fewer than shares were missing where hosts are few. TooFewShares, BadData."""
        candidates = await gather(self.context, 2 * self.manifest.n)
        for meet in (self.manifest.id, None):  # the second time for what failed, where nobody can interfere
            missing = [share for share in self._job.missing if share not in self._placed()]
            lanes = await self._recruit(missing, candidates, meet) if missing else []
            self.lacks_hosts = len(lanes) < len([share for share in missing if share not in self._placed()])
            if meet is not None:  # else the uploads are ours alone
                await self._let_others_go_on(lanes)
            if any(lane.alive for lane in lanes):
                await self._fill(lanes)
            elif not self._job.reluctant:
                break
        return self.made

    @property
    def made(self) -> list[HolderStatement]:
        """The promises of new holders so far, also where the job was not finished."""
        return [each for each in self.settling.statements if each not in self._known]

    def _placed(self) -> set[int]:
        return {each.share for each in self.made}

    # --- finding hosts

    async def _recruit(self, missing: list[int], candidates: list[Contact], meet: FileId | None) -> list[Lane]:
        """Lanes to hosts that agreed and that keep nothing of the file yet."""
        rng = self.context.env.rng
        recruiter = Recruiter(self.context, candidates, self._share_bytes, rng, meet=meet, once=True)
        self._exclude(recruiter, self._job.reluctant if meet is not None else ())
        lanes: list[Lane] = []
        while missing:
            agreed = await recruiter.recruit(missing, self._share_bytes, self._lease_s)
            if not agreed:
                break
            await self._notice(agreed)
            lanes += [lane for lane in agreed if lane.alive]
            missing = [lane.share for lane in agreed if not lane.alive and lane.share not in self._placed()]
        for reason, count in recruiter.refusals.items():
            self.refusals[reason] = max(self.refusals[reason], count)
        return lanes

    def _exclude(self, recruiter: Recruiter, reluctant: Iterable[Contact]) -> None:
        """Leave out who keeps something or is not to: by host where it has answered, else by its id alone."""
        sources = [hint.contact for hint in self._job.sources]
        stated = [each.contact for each in self.settling.statements]
        named = [*stated, *sources, *self._job.avoid, *reluctant]
        met = [each for each in named if (each.node_id, counted_host(self.context, each)) in self._job.answered]
        self.settling.exclude_from(recruiter)
        recruiter.exclude([*met, *self._full_hosts])
        recruiter.exclude_ids(each.node_id for each in named)

    async def _notice(self, lanes: Iterable[Lane], *, sending: bool = False) -> None:
        """Drop lanes whose hosts keep a share of the file already; proven ones are taken as placed.

        Those that do not answer, too, unless they are `sending`: then our question may be behind the blocks in a queue.
        """
        hints = [Hint(lane.share, lane.contact) for lane in lanes]
        audit = Audit(self.context, self.manifest, with_statements=True)
        audited = await audit.run(hints, look_further=False)
        if audited.deletion is not None:
            raise deleted_by_owner()
        self.settling.take(each for each in audited.statements if each.share not in self._placed())
        for lane in lanes:
            found = {each.outcome for each in audited.findings.values() if each.contact.node_id == lane.contact.node_id}
            if sending:
                found -= {Outcome.STALLED, Outcome.BUSY}
            if found & {Outcome.OK, Outcome.WRONG, Outcome.STALLED, Outcome.BUSY}:
                lane.drop(_UNHEARD.get(frozenset(found), DropReason.ALREADY_THERE))
                self._full_hosts.append(lane.contact)

    async def _let_others_go_on(self, lanes: Sequence[Lane]) -> None:
        """Wait while uploads grow that another repairer fills. Shares that it commits are taken as placed.

        Several who begin together wait for a random moment first, and look then: what the first has sent is there.
        """
        if lanes and self._spread_s:
            await trio.sleep(self.context.env.rng.random() * self._spread_s)
            await self._look_again([lane for lane in lanes if lane.alive])
        while begun := [lane for lane in lanes if lane.alive and lane.received]:
            before = {lane.upload_id: lane.received for lane in begun}
            await trio.sleep(GROWS_WITHIN_S)
            await self._look_again(begun)
            if not any(lane.alive and lane.received > before[lane.upload_id] for lane in begun):
                return

    async def _look_again(self, lanes: Sequence[Lane]) -> None:
        """What has come of uploads meanwhile: shares that are placed by now, and blocks that are there."""
        await self._notice(lanes, sending=True)
        async with open_nursery() as nursery:
            for lane in lanes:
                if lane.alive:
                    nursery.start_soon(lane.offer, self.context, self._share_bytes, self._lease_s)

    # --- filling them

    async def _fill(self, lanes: list[Lane]) -> None:
        """Rebuild, commit, and see to what others have done meanwhile."""
        hints = {(hint.share, hint.contact.node_id): hint for hint in [*self._job.sources, *self.settling.hints()]}
        async with open_nursery() as nursery:
            nursery.start_soon(self._watch, lanes)
            self.received_bytes += await rebuild_onto(
                self.context,
                self.manifest,
                list(hints.values()),
                lanes,
                lambda segments: self._on_bytes(min(segments * BLOCK_BYTES, self._share_bytes), len(lanes)),
            )
            nursery.cancel_scope.cancel()
        await self.settling.commit(lanes)
        failed = [lane for lane in lanes if not lane.alive]
        if failed:
            await self._notice(failed)
        self.sent_bytes += sum(lane.sent_bytes for lane in lanes)
        placed = self._placed()
        self.refusals.update(
            reason
            for reason in reasons_of(lane for lane in failed if lane.share not in placed)
            if reason is not DropReason.ALREADY_THERE
        )

    async def _watch(self, lanes: list[Lane]) -> None:
        while True:
            await trio.sleep(WATCH_EVERY_S)
            await self._notice([lane for lane in lanes if lane.alive], sending=True)


def deleted_by_owner() -> NotFound:
    """What to say of a file that a holder shows to be deleted."""
    return NotFound("The owner of this file has deleted it. No host takes a share of it any more.")


async def repair_file(context: Context, file_id: FileId, on_progress: OnProgress | None = None) -> Repaired:
    """See `Node.repair`."""
    started = trio.current_time()
    report = on_progress or (lambda progress: None)
    report(Progress(Phase.SEARCHING))
    located = await Search(context, file_id).run()
    report(Progress(Phase.CHECKING))
    audit = Audit(context, located.manifest, with_statements=True)
    before = await audit.run(located.hints)
    job = plan(before, context.env.wall())
    if job.missing and job.lease_end <= context.env.wall():
        raise UsageError(
            "The lease of this file has ended, by this machine's clock. New hosts would soon drop their shares. "
            "Renew it first, with: shoal renew"
        )
    total = job.manifest.layout.share_bytes * len(job.missing)

    def on_bytes(done: int, shares: int) -> None:
        report(Progress(Phase.REBUILDING, done * shares, total, len(job.missing), len(job.missing)))

    repairer = Repairer(context, job, on_bytes, spread_s=HAND_SPREAD_S)
    made = await repairer.run()
    settling = repairer.settling
    report(Progress(Phase.ANNOUNCING))
    findable = await settling.settle()
    hints = {(hint.share, hint.contact.node_id): hint for hint in [*before.good_hints, *settling.hints()]}
    after = await Audit(context, job.manifest).run(list(hints.values()), look_further=False)
    return Repaired(
        file_id=file_id,
        k=job.manifest.k,
        n=job.manifest.n,
        rebuilt=tuple(sorted({each.share for each in made})),
        good_before=len(before.tally.placed()),
        good_after=len(after.tally.placed()),
        hosts=after.tally.hosts,
        sent_bytes=repairer.sent_bytes,
        received_bytes=repairer.received_bytes,
        lease_until=job.lease_end,
        findable=findable,
        refusals={reason.value: count for reason, count in repairer.refusals.items()},
        seconds=trio.current_time() - started,
    )


def plan(audited: Audited, now: float) -> RepairJob:
    """What is to be done about a file as it was found. NotFound when it is deleted, TooFewShares when it is lost."""
    tally = audited.tally
    if audited.deletion is not None:
        raise deleted_by_owner()
    lease_end = tally.lease_until(now)
    if lease_end is None:
        raise _lost(tally)
    doubtful = (Outcome.WRONG, Outcome.STALLED, Outcome.BUSY, Outcome.OFFLINE)
    return RepairJob(
        audited.manifest,
        audited.statements,
        tally.missing(),
        lease_end,
        audited.good_hints,
        [each.contact for each in tally.findings if each.outcome in doubtful],
        answered={
            (each.contact.node_id, host_of(each.contact, private=tally.private))
            for each in tally.findings
            if each.outcome is not Outcome.OFFLINE
        },
    )


def _lost(tally: Tally) -> TooFewShares:
    found, causes = len({each.share for each in tally.good}), tally.causes()
    told = in_words(causes)
    return TooFewShares(
        f"Only {found} of the {tally.k} shares needed are good now (the file has {tally.n} in all), so none can be "
        f"rebuilt. {f'Of the other hosts, {told}' if told else 'Hosts that are away may come back'}: try again later.",
        needed=tally.k,
        found=found,
        causes=causes,
    )
