"""Who keeps a file: what its holders know of each other, compared.

Whoever was away has missed what the others stated meanwhile, and would take their shares for lost. So at each look some
of the others are asked whom they know, and after an absence whether they still know us.
"""

import logging
import math
from collections.abc import Iterable

import trio

from shoal.dht import NodeId
from shoal.node.care.clocks import ClockComparison
from shoal.node.care.rounds import Charge, Round
from shoal.node.care.telling import Teller
from shoal.node.channel import GetHolders, PeerError
from shoal.node.context import Context
from shoal.node.errors import ShoalError
from shoal.node.holders.companions import Companions
from shoal.node.holders.refresh import Place, commonly_known, worth_keeping
from shoal.node.holders.search import Search
from shoal.node.holders.statements import HolderStatement, MalformedStatement, newest_by_share
from shoal.node.store import StoreError

COMPARED_LISTS = 2  # of other holders
MAX_ASKED = 8  # for these: some are too busy, or away; with fewer lists a search would have to do, which costs hundreds
ALONE_EPOCHS = 3.5  # between searches of a holder that knows nobody and found nobody
INTRODUCE_EVERY_S = 3 * 86400.0  # to the same holders with the same address: who does not take our word now never will

log = logging.getLogger(__name__)


class ListComparison:
    """Compares what the holders of files know. The connections of `context` prove that `me` asks."""

    def __init__(
        self, context: Context, me: NodeId, companions: Companions, teller: Teller, clocks: ClockComparison
    ) -> None:
        self._context = context
        self._env = context.env
        self._rng = context.env.rng
        self._me = me
        self._companions = companions
        self._teller = teller
        self._clocks = clocks
        self._epoch_s = context.network.epoch_s
        self._introduced: dict[bytes, HolderStatement] = {}  # by what; of files kept
        self._alone_at: dict[bytes, float] = {}  # when nobody else was found (monotonic); likewise

    def forget(self, file_id: bytes) -> None:
        """Nothing of a file is kept here any more."""
        self._introduced.pop(file_id, None)
        self._alone_at.pop(file_id, None)

    async def compare(self, charge: Charge, looker: Round) -> None:
        """Ask some of those who are there for their lists, and look at holders that we did not know. StoreError.

        Notes what is commonly known. Whom none of them names makes itself known.
        """
        living = self._teller.living(charge)
        lists = await self._ask_for_lists(charge, self._rng.sample(living, min(MAX_ASKED, len(living))))
        views = [_times(charge.statements), *(_times(said, without=giver) for giver, said in lists.items())]
        charge.common = commonly_known(views)
        await self._learn(charge, lists.values())
        await self._look_at_unknown(charge, looker)
        if lists and not any(self._are_we_in(said, charge) for said in lists.values()):
            await self._introduce(charge)

    async def search(self, charge: Charge, looker: Round) -> None:
        """Learn of everybody who can be found, and look at those that we did not know. StoreError.

        Who knew nobody is not likely to be known either. Whoever is a file's last holder, or takes what the others
        state for old because its clock is wrong, looks in every epoch: what it seeks in vain it seeks seldom.
        """
        knew_nobody, now = self._is_alone(charge), trio.current_time()
        if knew_nobody and now - self._alone_at.get(bytes(charge.file_id), -math.inf) < ALONE_EPOCHS * self._epoch_s:
            return
        await self._search(charge)
        await self._look_at_unknown(charge, looker)
        if knew_nobody:
            await self._introduce(charge)
            if self._is_alone(charge):
                self._alone_at[bytes(charge.file_id)] = now

    async def rejoin(self, charge: Charge) -> bool:
        """After an absence: learn who keeps a file by now, and tell them that we are here if some may not know.

        Statements expire. A holder that nobody has a statement of is not surveyed, however long it is there again; its
        share would be made once more, or be missed by a reader where it is the one that matters. False where nobody
        could be told, so that it has to be done again.
        """
        others = self._teller.living(charge)
        self._rng.shuffle(others)
        lists = await self._ask_for_lists(charge, others[:MAX_ASKED])
        if len(lists) == COMPARED_LISTS and all(self._are_we_in(said, charge) for said in lists.values()):
            await self._teller.note_told(charge, min(lists.values(), key=self._latest_of_us))
            return True
        await self._learn(charge, lists.values())
        found = len(lists) == COMPARED_LISTS or await self._search(charge) or bool(lists)
        try:
            charge.statements = await self._companions.known(charge.file_id)
        except StoreError as error:
            log.warning("statements of other holders could not be read: %s", error)
            return False
        return found and await self._introduce(charge)

    async def _ask_for_lists(
        self, charge: Charge, statements: Iterable[HolderStatement]
    ) -> dict[NodeId, list[HolderStatement]]:
        """The lists of the first holders that answer, by holder."""
        lists: dict[NodeId, list[HolderStatement]] = {}
        for statement in statements:
            if len(lists) == COMPARED_LISTS:
                break
            try:
                reply = await self._context.ask(statement.contact, GetHolders(charge.file_id))
                lists[statement.node_id] = await self._companions.read(charge.file_id, bytes(reply.payload))
            except (PeerError, MalformedStatement):
                continue
        return lists

    async def _learn(self, charge: Charge, lists: Iterable[list[HolderStatement]]) -> None:
        """Keep what is worth it of others' lists; where our disk cannot, we go on with what we know."""
        said = [[each for each in one if each.node_id != self._me] for one in lists]
        worth_it = worth_keeping(charge.statements, said, self._env.wall(), self._context.network.epoch_s)
        try:
            await self._companions.keep(charge.file_id, worth_it)
        except StoreError as error:
            log.warning("statements of other holders could not be kept: %s", error)

    def _latest_of_us(self, said: Iterable[HolderStatement]) -> int:
        return max(each.issued for each in said if each.node_id == self._me)

    def _are_we_in(self, said: Iterable[HolderStatement], charge: Charge) -> bool:
        """Whether another's list has what we keep of a file."""
        return self._companions.is_named([each.share for each in charge.statements if each.node_id == self._me], said)

    async def _introduce(self, charge: Charge) -> bool:
        """Tell the others of us, unless they have been told. False where nobody hears it, or nobody would believe it
        because our clock is wrong.
        """
        own = next((each for each in charge.statements if each.node_id == self._me), None)
        if own is None or self._is_told(own):
            return True
        if self._clocks.misleads(trio.current_time()) or not await self._teller.introduce(charge):
            return False
        self._introduced[bytes(charge.file_id)] = own
        return True

    def _is_told(self, own: HolderStatement) -> bool:
        """Whether the others were told much the same. (By its times, since a clock may have been wrong, or asleep.)"""
        told = self._introduced.get(bytes(own.file_id))
        return told is not None and told.address == own.address and 0 <= own.issued - told.issued < INTRODUCE_EVERY_S

    def _is_alone(self, charge: Charge) -> bool:
        return all(each.node_id == self._me for each in charge.statements)

    async def _search(self, charge: Charge) -> bool:
        """Learn of everybody who can be found; whether anybody else was."""
        try:
            located = await Search(self._context, charge.file_id, manifest=charge.manifest).run(thorough=True)
        except ShoalError:
            return False
        others = [each for each in located.statements if each.node_id != self._me]
        await self._learn(charge, [others])
        return bool(others)

    async def _look_at_unknown(self, charge: Charge, looker: Round) -> None:
        """Go on with what is stated by now: newer statements of the known, and holders that were unknown."""
        stated = newest_by_share(await self._companions.known(charge.file_id))
        known = {(each.share, each.node_id): each for each in charge.statements}
        charge.statements = [stated.get(place, each) for place, each in known.items()]
        unknown = [each for place, each in stated.items() if place not in known]
        if unknown:
            await looker.look_also(charge, unknown)


def _times(statements: Iterable[HolderStatement], *, without: NodeId | None = None) -> dict[Place, int]:
    """When each was issued, those of one holder left out."""
    newest = newest_by_share(statements)
    return {place: each.issued for place, each in newest.items() if each.node_id != without}
