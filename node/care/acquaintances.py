"""Who keeps a file: what its holders know of each other, compared.

Whoever was away has missed what the others stated meanwhile, and would take their shares for lost. So at each look some
of the others are asked whom they know, and after an absence whether they still know us.
"""

import logging
from collections.abc import Iterable

from shoal.dht import NodeId
from shoal.node.care.refresh import Place, commonly_known
from shoal.node.care.rounds import Charge, Round
from shoal.node.care.telling import Teller
from shoal.node.channel import GetHolders, PeerError
from shoal.node.companions import Companions
from shoal.node.context import Context
from shoal.node.errors import ShoalError
from shoal.node.search import Search
from shoal.node.statements import HolderStatement, MalformedStatement, newest_by_share, pack_statements
from shoal.node.store import StoreError

COMPARED_LISTS = 2  # of other holders

log = logging.getLogger(__name__)


class Acquaintances:
    """Compares what the holders of files know. The connections of `context` prove that `me` asks."""

    def __init__(self, context: Context, me: NodeId, companions: Companions, teller: Teller) -> None:
        self._context = context
        self._rng = context.env.rng
        self._me = me
        self._companions = companions
        self._teller = teller

    async def compare(self, charge: Charge, looker: Round) -> None:
        """Ask some of those who are there for their lists, and look at holders that we did not know. StoreError.

        Notes what is commonly known. Whom none of them names makes itself known.
        """
        living = self._teller.living(charge)
        lists = await self._ask_for_lists(charge, self._rng.sample(living, min(COMPARED_LISTS, len(living))))
        charge.common = commonly_known([_times(each) for each in (charge.statements, *lists)])
        if lists and not any(self._are_we_in(each, charge) for each in lists):
            await self._teller.introduce(charge)
        await self._look_at_unknown(charge, looker)

    async def search(self, charge: Charge, looker: Round) -> None:
        """Learn of everybody who can be found, and look at those that we did not know. StoreError."""
        await self._search(charge)
        await self._look_at_unknown(charge, looker)

    async def rejoin(self, charge: Charge) -> None:
        """After a long absence: learn who keeps a file by now, and tell them that we are here if some may not know.

        Statements expire. A holder that nobody has a statement of is not surveyed, however long it is there again; its
        share would be made once more, or be missed by a reader where it is the one that matters.
        """
        others = [each for each in charge.statements if each.node_id != self._me]
        self._rng.shuffle(others)
        try:
            lists = await self._ask_for_lists(charge, others)
            if len(lists) < COMPARED_LISTS:
                await self._search(charge)
            elif all(self._are_we_in(each, charge) for each in lists):
                return
            charge.statements = await self._companions.known(charge.file_id)
        except StoreError as error:
            log.warning("statements of other holders could not be kept: %s", error)
        await self._teller.introduce(charge)

    async def _ask_for_lists(
        self, charge: Charge, statements: Iterable[HolderStatement]
    ) -> list[list[HolderStatement]]:
        """The lists of the first holders that answer."""
        lists: list[list[HolderStatement]] = []
        for statement in statements:
            if len(lists) == COMPARED_LISTS:
                break
            try:
                reply = await self._context.ask(statement.contact, GetHolders(charge.file_id))
                lists.append(await self._companions.hear(charge.file_id, bytes(reply.payload)))
            except (PeerError, MalformedStatement):
                continue
        return lists

    def _are_we_in(self, said: Iterable[HolderStatement], charge: Charge) -> bool:
        """Whether another's list has what we keep of a file."""
        return self._companions.is_named([each.share for each in charge.statements if each.node_id == self._me], said)

    async def _search(self, charge: Charge) -> None:
        try:
            located = await Search(self._context, charge.file_id, manifest=charge.manifest).run(thorough=True)
        except ShoalError:
            return
        await self._companions.learn(charge.file_id, pack_statements(each.signed for each in located.statements))

    async def _look_at_unknown(self, charge: Charge, looker: Round) -> None:
        """Go on with what is stated by now: newer statements of the known, and holders that were unknown."""
        stated = newest_by_share(await self._companions.known(charge.file_id))
        known = {(each.share, each.node_id): each for each in charge.statements}
        charge.statements = [stated.get(place, each) for place, each in known.items()]
        unknown = [each for place, each in stated.items() if place not in known]
        if unknown:
            await looker.look_also(charge, unknown)


def _times(statements: Iterable[HolderStatement]) -> dict[Place, int]:
    """When each was issued."""
    return {place: each.issued for place, each in newest_by_share(statements).items()}
