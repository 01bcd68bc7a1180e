"""Comparing lists: what the holders of a file know of each other.

A holder that was away has missed what the others stated meanwhile, and would take their shares for lost. So at each
look some of the others are asked which holders they know. After an absence they are asked whether they still know us.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import replace

import trio

from shoal.dht import NodeId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.rounds import Round
from shoal.node.care.telling import Teller
from shoal.node.channel import GetHolders, PeerError
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.errors import ShoalError
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.refresh import Place, commonly_known, worth_keeping
from shoal.node.holders.search import Search
from shoal.node.holders.statements import HolderStatement, MalformedStatement, newest_by_share
from shoal.node.store import StoreError

COMPARED_LISTS = 2  # of other holders
MAX_ASKED = 8  # for these: some are too busy, or away. With fewer lists a search has to do, which costs hundreds
ALONE_EPOCHS = 3.5  # between searches of a holder that knows no other holder and found none
INTRODUCE_EVERY_S = 3 * 86400.0  # to the same holders with the same address: one that does not believe us never will

log = logging.getLogger(__name__)


class ListComparison:
    """Compares what the holders of files know. The connections of `context` prove that `me` asks."""

    def __init__(
        self, context: Context, me: NodeId, known_holders: KnownHolders, teller: Teller, clocks: ClockComparison
    ) -> None:
        self._context = context
        self._env = context.env
        self._rng = context.env.rng
        self._me = me
        self._known_holders = known_holders
        self._teller = teller
        self._clocks = clocks
        self._epoch_s = context.network.epoch_s
        self._introduced: dict[bytes, HolderStatement] = {}  # by what we introduced ourselves; of files kept
        self._alone_at: dict[bytes, float] = {}  # when no other holder was found (monotonic); of files kept

    def forget(self, file_id: bytes) -> None:
        """Nothing of a file is kept here any more."""
        self._introduced.pop(file_id, None)
        self._alone_at.pop(file_id, None)

    async def compare(self, findings: Findings, round_: Round) -> Findings:
        """Ask some of those who are there for their lists, and look at holders that we did not know.

        The findings after that say what is commonly known. Where no list names us, we introduce ourselves.

        Raises StoreError where our disk fails.
        """
        living = findings.living(self._me)
        lists = await self._ask_for_lists(findings.file, self._rng.sample(living, min(MAX_ASKED, len(living))))
        views = [_times(findings.statements), *(_times(said, without=giver) for giver, said in lists.items())]
        findings = replace(findings, common=commonly_known(views))
        await self._learn(findings.file, lists.values())
        findings = await self._look_at_unknown(findings, round_)
        if lists and not any(self._are_we_in(said, findings.file) for said in lists.values()):
            await self._introduce(findings)
        return findings

    async def search(self, findings: Findings, round_: Round) -> Findings:
        """Learn of every holder that can be found, and look at those that we did not know.

        A node that knows no other holder is probably not known either, so it introduces itself. It may be the file's
        last holder, or its clock may be wrong, so that it takes the others' statements for old. Such a node looks in
        every epoch; what it seeks in vain it seeks seldom.

        Raises StoreError where our disk fails.
        """
        knew_nobody, now = self._is_alone(findings.file), trio.current_time()
        last = self._alone_at.get(findings.file_id, -math.inf)
        if knew_nobody and now - last < ALONE_EPOCHS * self._epoch_s:
            return findings
        await self._search(findings.file)
        findings = await self._look_at_unknown(findings, round_)
        if knew_nobody:
            await self._introduce(findings)
            if self._is_alone(findings.file):
                self._alone_at[findings.file_id] = now
        return findings

    async def rejoin(self, file: WatchedFile) -> bool:
        """After an absence: learn which nodes keep a file by now, and tell them that we are here if some may not know.

        Statements expire. If no other holder has a statement of ours, none surveys us, however long we have been back.
        Our share would be made once more, or a reader would miss it. False where nobody could be told, so that it has
        to be done again.
        """
        before = Findings(file)
        others = before.living(self._me)
        self._rng.shuffle(others)
        lists = await self._ask_for_lists(file, others[:MAX_ASKED])
        if len(lists) == COMPARED_LISTS and all(self._are_we_in(said, file) for said in lists.values()):
            await self._teller.note_told(before, min(lists.values(), key=self._latest_of_us))
            return True
        await self._learn(file, lists.values())
        found = len(lists) == COMPARED_LISTS or await self._search(file) or bool(lists)
        try:
            after = before.with_statements(await self._known_holders.known(file.file_id))
        except StoreError as error:
            log.warning("statements of other holders could not be read: %s", error)
            return False
        return found and await self._introduce(after)

    async def _ask_for_lists(
        self, file: WatchedFile, statements: Iterable[HolderStatement]
    ) -> dict[NodeId, list[HolderStatement]]:
        """The lists of the first holders that answer, by holder."""
        lists: dict[NodeId, list[HolderStatement]] = {}
        for statement in statements:
            if len(lists) == COMPARED_LISTS:
                break
            try:
                reply = await self._context.ask(statement.contact, GetHolders(file.file_id), patience_s=BUSY_PATIENCE_S)
                lists[statement.node_id] = await self._known_holders.read(file.file_id, bytes(reply.payload))
            except (PeerError, MalformedStatement):
                continue
        return lists

    async def _learn(self, file: WatchedFile, lists: Iterable[list[HolderStatement]]) -> None:
        """Keep what is worth it of others' lists. Where our disk cannot, we go on with what we know."""
        said = [[each for each in one if each.node_id != self._me] for one in lists]
        worth_it = worth_keeping(file.statements, said, self._env.wall(), self._epoch_s)
        try:
            await self._known_holders.keep(file.file_id, worth_it)
        except StoreError as error:
            log.warning("statements of other holders could not be kept: %s", error)

    def _latest_of_us(self, said: Iterable[HolderStatement]) -> int:
        return max(each.issued for each in said if each.node_id == self._me)

    def _are_we_in(self, said: Iterable[HolderStatement], file: WatchedFile) -> bool:
        """Whether another's list has what we keep of a file."""
        return self._known_holders.is_named([each.share for each in file.statements if each.node_id == self._me], said)

    async def _introduce(self, findings: Findings) -> bool:
        """Tell the others of us, unless they have been told. False where nobody hears it, or nobody would believe it
        because our clock is wrong.
        """
        own = next((each for each in findings.statements if each.node_id == self._me), None)
        if own is None or self._is_told(own):
            return True
        if self._clocks.misleads(trio.current_time()) or not await self._teller.introduce(findings):
            return False
        self._introduced[findings.file_id] = own
        return True

    def _is_told(self, own: HolderStatement) -> bool:
        """Whether the others were told much the same. (By its times, since a clock may have been wrong, or asleep.)"""
        told = self._introduced.get(own.file_id)
        if told is None or not own.reach.is_found_by(told.reach):
            return False
        return 0 <= own.issued - told.issued < INTRODUCE_EVERY_S

    def _is_alone(self, file: WatchedFile) -> bool:
        return all(each.node_id == self._me for each in file.statements)

    async def _search(self, file: WatchedFile) -> bool:
        """Learn of every holder that can be found; whether any other was."""
        try:
            located = await Search(self._context, file.file_id, manifest=file.manifest).run(thorough=True)
        except ShoalError:
            return False
        others = [each for each in located.statements if each.node_id != self._me]
        await self._learn(file, [others])
        return bool(others)

    async def _look_at_unknown(self, findings: Findings, round_: Round) -> Findings:
        """Go on with what is stated by now: newer statements of the known, and holders that were unknown."""
        stated = newest_by_share(await self._known_holders.known(findings.file_id))
        known = {(each.share, each.node_id): each for each in findings.statements}
        findings = findings.with_statements(stated.get(place, each) for place, each in known.items())
        unknown = [each for place, each in stated.items() if place not in known]
        return await round_.look_also(findings, unknown) if unknown else findings


def _times(statements: Iterable[HolderStatement], *, without: NodeId | None = None) -> dict[Place, int]:
    """When each was issued, those of one holder left out."""
    newest = newest_by_share(statements)
    return {place: each.issued for place, each in newest.items() if each.node_id != without}
