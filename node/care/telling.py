"""Passing on what a look at a file has shown: new statements to its holders, and to the next in rank that an announcer
is gone. What this node has to announce itself it takes up.
"""

import logging
from collections.abc import Iterable, Sequence

import trio

from shoal.dht import NodeId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.rounds import Charge
from shoal.node.channel import Announce, PeerError, TellHolders
from shoal.node.context import Context
from shoal.node.holders.announcers import announcers
from shoal.node.holders.companions import Companions
from shoal.node.holders.refresh import YOUNG_S
from shoal.node.holders.statements import (
    HolderStatement,
    MalformedStatement,
    check_statement,
    newest_by_share,
    pack_statements,
)
from shoal.node.nursery import open_nursery
from shoal.node.store import StoreError

NEWER_S = 86400.0  # a statement that is newer by less is not worth a message to every holder
ANNOUNCE_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class Teller:
    """Tells the holders of files. The connections of `context` prove that `me` does."""

    def __init__(self, context: Context, me: NodeId, companions: Companions, clocks: ClockComparison) -> None:
        self._context = context
        self._env = context.env
        self._me = me
        self._companions = companions
        self._clocks = clocks

    async def spread_news(self, charge: Charge, fresh: list[HolderStatement]) -> None:
        """Keep statements that are new, and give them to every living holder.

        Those that there is no place for here, as where too many say to keep the same share, have none elsewhere.
        """
        if not fresh:
            return
        try:
            await self._companions.keep(charge.file_id, fresh)
            kept = {each.signed for each in await self._companions.known(charge.file_id)}
            fresh = [each for each in fresh if each.signed in kept]
        except StoreError as error:
            log.warning("statements of other holders could not be kept: %s", error)  # but told they can be
        if fresh:
            told = newest_by_share([*fresh, *self._young(charge, max(each.issued for each in fresh))])
            await self._tell(charge, list(told.values()))

    def _young(self, charge: Charge, latest: int) -> list[HolderStatement]:
        """What goes along: the young statements of all that are there, which not everybody may have."""
        there, since = charge.there, latest - YOUNG_S
        return [each for each in charge.statements if each.issued > since and (each.share, each.node_id) in there]

    async def introduce(self, charge: Charge) -> int:
        """Tell all other holders that we keep what we keep; how many have heard it."""
        return await self._tell(charge, [each for each in charge.statements if each.node_id == self._me])

    def news(self, charge: Charge) -> list[HolderStatement]:
        """The statements that came with the surveys and are worth spreading; called in a worker."""
        known = newest_by_share(charge.statements)
        fresh = []
        for said_by, signed in charge.fresh:
            try:
                each = check_statement(signed, self._context.network, self._env.scheme, self._env.wall())
            except MalformedStatement:
                continue
            old = known.get((each.share, each.node_id))
            if each.file_id == charge.file_id and each.node_id == said_by and _is_news(each, old, charge):
                fresh.append(each)
        return fresh

    async def _tell(self, charge: Charge, statements: Sequence[HolderStatement]) -> int:
        """Give statements to all other holders, and note what most of them hear of us; how many have.

        Those of ours are left out while we do not know our address: in place of a good one they would do harm.
        """
        if not self._context.dht.own_addresses():
            statements = [each for each in statements if each.node_id != self._me]
        if not statements:
            return 0
        payload = pack_statements(each.signed for each in statements)
        heard = 0

        async def tell(statement: HolderStatement) -> None:
            nonlocal heard
            try:
                await self._context.ask(statement.contact, TellHolders(charge.file_id), payload=[payload])
                heard += 1
            except PeerError:
                return  # it hears of them when they are renewed the next time, or when it compares lists

        living = self.living(charge)
        async with open_nursery() as nursery:
            for statement in living:
                nursery.start_soon(tell, statement)
        if 2 * heard > len(living) and not self._clocks.misleads(trio.current_time()):
            await self.note_told(charge, statements)
        return heard

    async def note_told(self, charge: Charge, statements: Iterable[HolderStatement]) -> None:
        """Other holders have these statements: what they say of us need not be told again for a while."""
        try:
            await self._companions.keep(charge.file_id, [each for each in statements if each.node_id == self._me])
        except StoreError as error:
            log.warning("what others know of us could not be kept: %s", error)  # so it is told again

    def living(self, charge: Charge) -> list[HolderStatement]:
        """A statement of each other holder, those left out that were asked and not there with any share."""
        silent = {each.holder for each in charge.observations} - {holder for _, holder in charge.there}
        unique = {each.node_id: each for each in charge.statements if each.node_id not in silent}
        return [each for node_id, each in sorted(unique.items()) if node_id != self._me]

    async def see_to_announcers(self, charge: Charge) -> None:
        """Announce what is ours to announce. Where an announcer is gone, ask the next in rank to take over: at once
        where most of them are gone, else patiently (see `Companions.announce`), since what it announced stays for a
        while.
        """
        try:
            await self._companions.take_up(charge.file_id)
        except StoreError as error:
            log.warning("what is to be announced could not be read: %s", error)  # the next look does it
        everybody = sorted({each.node_id for each in charge.statements})
        living = sorted({each.node_id for each in self.living(charge)} | {self._me})
        before, now = announcers(charge.file_id, everybody), announcers(charge.file_id, living)
        successors = {node_id for number in now for node_id in now[number] if node_id not in before[number]}
        first = {node_id for number in before for node_id in before[number]}
        patient = 2 * len(first.intersection(living)) >= len(first)
        contacts = {each.node_id: each.contact for each in charge.statements}
        for node_id in sorted(successors):
            try:
                if node_id == self._me:
                    await self._companions.announce(charge.file_id, patient=patient, from_table=True)
                else:
                    request = Announce(charge.file_id, patient)
                    await self._context.ask(contacts[node_id], request, timeout_s=ANNOUNCE_TIMEOUT_S)
            except (PeerError, StoreError):
                continue


def _is_news(statement: HolderStatement, known: HolderStatement | None, charge: Charge) -> bool:
    """Whether it says more than what most holders know."""
    if known is None or (known.address != statement.address and statement.issued > known.issued):
        return True
    return statement.issued > charge.commonly_issued(known) + NEWER_S
