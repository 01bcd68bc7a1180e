"""The end of a publish: commit, replace lost holders, tell all holders of each other, announce.

Every step may be repeated: a commit that was acknowledged but not heard of is acknowledged again, and a publish that
was interrupted here, or that found too few hosts, is completed by the same command later.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from shoal.dht import Contact
from shoal.erasure import Link, LinkKind, Manifest
from shoal.node.context import Context
from shoal.node.errors import BadData, NoPeers, NotOneFile, Refused, TooFewShares, in_words
from shoal.node.holders.placement import counted_host, gather
from shoal.node.holders.statements import HolderStatement
from shoal.node.holders.tally import kth_longest
from shoal.node.publishing.journal import JournalEntry
from shoal.node.publishing.lanes import DropReason, Lane, causes_of, reasons_of
from shoal.node.publishing.settling import Settling
from shoal.node.results import Phase, Published
from shoal.values import dataclass

Report = Callable[[Phase, int], None]


class OtherBytes(Refused):
    """Holders have bytes that are not the file's, from an earlier run that read it in another state."""


@dataclass(frozen=True)
class CommitOutcome:
    """What was reached."""

    entry: JournalEntry
    manifest: Manifest
    public: bool
    happy: int
    statements: dict[int, HolderStatement]
    hosts: int
    findable: bool
    refusals: Counter[DropReason]

    @property
    def lease_end(self) -> float:
        """The k-th longest lease: until then at least k shares are promised."""
        until = kth_longest((each.lease_end for each in self.statements.values()), self.entry.k)
        assert until is not None, "an outcome has k shares at least"
        return until

    @property
    def link(self) -> Link:
        """What the user gets."""
        if self.public:
            return Link(self.manifest.id, LinkKind.PUBLIC)
        return Link(self.manifest.id, LinkKind.PRIVATE, self.entry.file_key)

    def published(self, seconds: float, lanes: Iterable[Lane]) -> Published:
        """The result for the user."""
        lanes = list(lanes)
        return Published(
            link=self.link,
            size=self.entry.size,
            k=self.entry.k,
            n=self.entry.n,
            happy=self.happy,
            shares=len(self.statements),
            hosts=self.hosts,
            seconds=seconds,
            lease_until=self.lease_end,
            sent_bytes=sum(lane.sent_bytes for lane in lanes),
            resumed_bytes=sum(lane.resumed_bytes for lane in lanes),
            findable=self.findable,
            refusals={reason.value: count for reason, count in self.refusals.items()},
            holders={share: each.address for share, each in sorted(self.statements.items())},
            possible_n=self.entry.possible_n,
        )


class Completion:
    """Brings a file whose blocks have been sent to its final state."""

    def __init__(
        self, context: Context, entry: JournalEntry, *, public: bool, happy: int, ttl_s: int, report: Report
    ) -> None:
        self._context = context
        self._entry = entry
        self._public = public
        self._happy = happy
        self._report = report
        self._placed = 0
        self._manifest = Manifest.decode(entry.manifest)
        self._settling = Settling(context, self._manifest, lease_s=ttl_s, on_commit=self._note_commit)

    async def run(self, lanes: list[Lane], candidates: list[Contact], refusals: Counter[DropReason]) -> CommitOutcome:
        """All steps. `OtherBytes`, `Refused` or `NoPeers` when fewer than k shares are committed in the end."""
        refusals, settling = Counter(refusals), self._settling
        self._placed = sum(lane.alive for lane in lanes)
        self._report(Phase.COMMITTING, self._placed)
        await settling.commit(lanes)
        refusals.update(reasons_of(lanes))
        if len(settling.shares) < self._entry.k:
            raise self._not_kept(refusals)
        if len(settling.shares) < self._entry.n:
            lanes += await self._replace_lost(candidates, refusals)
        self._report(Phase.ANNOUNCING, len(settling.shares))
        findable = await settling.settle()
        hosts = {counted_host(self._context, contact) for contact in settling.contacts}
        return CommitOutcome(
            self._entry,
            self._manifest,
            self._public,
            self._happy,
            {each.share: each for each in settling.statements},
            len(hosts),
            findable,
            refusals,
        )

    def _note_commit(self, shares: int) -> None:
        """Tell of progress; what was placed counts until it is known to be lost."""
        self._report(Phase.COMMITTING, max(shares, self._placed))

    def _not_kept(self, refusals: Counter[DropReason]) -> Refused | NoPeers:
        text = (
            f"Hosts kept only {len(self._settling.shares)} of the {self._entry.k} shares needed, so there is no link. "
            f"Of the hosts asked, {in_words(refusals)}. Run the same command again: nothing needs to be sent twice."
        )
        kind = NoPeers if set(refusals) == {DropReason.NO_ANSWER} else Refused
        if DropReason.OTHER_BYTES in refusals:
            kind = OtherBytes
        return kind(text, causes=causes_of(refusals))

    async def _replace_lost(self, candidates: list[Contact], refusals: Counter[DropReason]) -> list[Lane]:
        """Rebuild the shares that nobody holds, on hosts that hold none."""
        if not candidates:
            candidates = await gather(self._context, 2 * self._entry.n)
        missing = [share for share in range(self._entry.n) if share not in self._settling.shares]
        try:
            return await self._settling.replace(missing, candidates, refusals)
        except NotOneFile:
            raise  # our own file: this must never be
        except (TooFewShares, BadData):
            return []  # holders left, or lied, while their file was being completed: what is placed is what is reported
