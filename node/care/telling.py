"""Telling the holders of a file what a look has shown: new statements, and that announcers are gone.

Each holder has to announce some files in the DHT. What this node has to announce, it takes up here as well.
"""

import logging
from collections.abc import Iterable, Sequence

import trio

from shoal.dht import NodeId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.findings import Findings
from shoal.node.care.verdict import Verdict, hand_over, is_news
from shoal.node.channel import Announce, PeerError, TellHolders
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.known import KnownHolders
from shoal.node.holders.refresh import YOUNG_S
from shoal.node.holders.statements import (
    HolderStatement,
    MalformedStatement,
    NotNow,
    check_statement,
    newest_by_share,
    pack_statements,
)
from shoal.node.nursery import open_nursery
from shoal.node.store import StoreError

ANNOUNCE_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class Teller:
    """Tells the holders of files. The connections of `context` prove that `me` does."""

    def __init__(
        self, context: Context, me: NodeId, known_holders: KnownHolders, announcing: Announcing, clocks: ClockComparison
    ) -> None:
        self._context = context
        self._env = context.env
        self._me = me
        self._known_holders = known_holders
        self._announcing = announcing
        self._clocks = clocks

    async def spread(self, verdict: Verdict) -> None:
        """Tell the living holders what is new of a file, and see to its announcers."""
        await self._spread_news(verdict.findings, list(verdict.news))
        await self._see_to_announcers(verdict.findings)

    async def _spread_news(self, findings: Findings, fresh: list[HolderStatement]) -> None:
        """Keep statements that are new, and give them to every living holder.

        Where too many nodes say that they keep the same share, some find no place here. Those are not told.
        """
        if not fresh:
            return
        try:
            await self._known_holders.keep(findings.file_id, fresh)
            kept = {each.signed for each in await self._known_holders.known(findings.file_id)}
            fresh = [each for each in fresh if each.signed in kept]
        except StoreError as error:
            log.warning("statements of other holders could not be kept: %s", error)  # but they can be told
        if fresh:
            told = newest_by_share([*fresh, *_young(findings, max(each.issued for each in fresh))])
            await self.tell(findings, list(told.values()))

    async def introduce(self, findings: Findings) -> int:
        """Tell all other holders what we keep; how many have heard it."""
        return await self.tell(findings, [each for each in findings.statements if each.node_id == self._me])

    async def has_heard_of_more(self, findings: Findings) -> bool:
        """Whether somebody has told us of holders since then that nobody knew. Raises StoreError."""
        before = {(each.share, each.node_id) for each in findings.statements}
        known = await self._known_holders.known(findings.file_id)
        return any((each.share, each.node_id) not in before for each in known)

    def news(self, findings: Findings) -> list[HolderStatement]:
        """The statements that holders showed and that are worth telling. Checks signatures: called in a worker.

        A holder that shows one that no honest holder makes is not listened to further.
        """
        known = newest_by_share(findings.statements)
        fresh = []
        liars: set[NodeId] = set()
        for said_by, signed in findings.shown.statements:
            if said_by in liars:
                continue
            try:
                each = check_statement(signed, self._context.network, self._env.scheme, self._env.wall())
            except NotNow:
                continue
            except MalformedStatement:
                liars.add(said_by)
                continue
            old = known.get((each.share, each.node_id))
            if each.file_id == findings.file_id and each.node_id == said_by and is_news(each, old, findings):
                fresh.append(each)
        return fresh

    async def tell(self, findings: Findings, statements: Sequence[HolderStatement]) -> int:
        """Give statements to all other holders, and note what most of them hear of us; how many have heard it.

        While we do not know how we are reached, our own statements are left out: they would replace good ones.
        """
        if self._context.dht.own_reach() is None:
            statements = [each for each in statements if each.node_id != self._me]
        if not statements:
            return 0
        payload = pack_statements(each.signed for each in statements)
        heard = 0

        async def tell(statement: HolderStatement) -> None:
            nonlocal heard
            try:
                await self._context.ask(
                    statement.contact, TellHolders(findings.file_id), payload=[payload], patience_s=BUSY_PATIENCE_S
                )
                heard += 1
            except PeerError:
                return  # it hears of them at the next renewal, or when it compares lists

        living = findings.living(self._me)
        async with open_nursery() as nursery:
            for statement in living:
                nursery.start_soon(tell, statement)
        if 2 * heard > len(living) and not self._clocks.misleads(trio.current_time()):
            await self.note_told(findings, statements)
        return heard

    async def note_told(self, findings: Findings, statements: Iterable[HolderStatement]) -> None:
        """Other holders have these statements: what they say of us need not be told again for a while."""
        try:
            await self._known_holders.keep(findings.file_id, [each for each in statements if each.node_id == self._me])
        except StoreError as error:
            log.warning("what others know of us could not be kept: %s", error)  # so it is told again

    async def _see_to_announcers(self, findings: Findings) -> None:
        """Announce what is ours to announce. Where an announcer is gone, ask its successor to announce: at once where
        most announcers are gone, else patiently (see `Announcing.announce`).
        """
        try:
            await self._announcing.take_up(findings.file_id)
        except StoreError as error:
            log.warning("what is to be announced could not be read: %s", error)  # the next look does it
        handover = hand_over(findings, self._me)
        contacts = {each.node_id: each.contact for each in findings.statements}
        for node_id in handover.successors:
            try:
                if node_id == self._me:
                    await self._announcing.announce(findings.file_id, patient=handover.patient)
                else:
                    request = Announce(findings.file_id, handover.patient)
                    await self._context.ask(
                        contacts[node_id], request, timeout_s=ANNOUNCE_TIMEOUT_S, patience_s=BUSY_PATIENCE_S
                    )
            except (PeerError, StoreError):
                continue


def _young(findings: Findings, latest: int) -> list[HolderStatement]:
    """What goes along: the young statements of all that are there, which not everybody may have."""
    there, since = findings.there, latest - YOUNG_S
    return [each for each in findings.statements if each.issued > since and (each.share, each.node_id) in there]
