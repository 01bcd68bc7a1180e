"""Whether this node's own line is good: a node that suddenly hears nobody suspects itself first."""

from collections.abc import Collection

import trio

from shoal.dht import Contact, NodeId, QueryError
from shoal.erasure import HASH_BYTES, FileId
from shoal.node.care.polls import MalformedPoll, poll
from shoal.node.context import Context
from shoal.node.nursery import open_nursery

ASKED = 16  # other peers, by chance
ANSWERING_PART = 2  # one in so many of those asked has to answer
FRESH_S = 60.0  # an answer holds for so long: several files may ask at once


class OwnLine:
    """Asks peers that have nothing to do with a suspicion. Nothing is asked while no file is in danger."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._checked_at = float("-inf")
        self._was_good = False
        self._lock = trio.Lock()

    async def is_good(self, suspects: Collection[NodeId]) -> bool:
        """Whether at least half of some other peers answer. `suspects` are silent, and are not asked.

        False where there is nobody to ask: then there is no host for a share either.
        """
        async with self._lock:
            if trio.current_time() - self._checked_at >= FRESH_S:
                self._was_good = await self._check(suspects)
                self._checked_at = trio.current_time()
            return self._was_good

    async def _check(self, suspects: Collection[NodeId]) -> bool:
        others = [each for each in self._context.dht.contacts() if each.node_id not in suspects]
        asked = self._context.env.rng.sample(others, min(ASKED, len(others)))
        answered: list[Contact] = []

        async def ask(contact: Contact) -> None:
            no_file = FileId(self._context.env.entropy(HASH_BYTES))  # a poll is about a file, and this one is none
            try:
                await poll(self._context, contact, [no_file])
            except (QueryError, MalformedPoll):
                return
            answered.append(contact)

        async with open_nursery() as nursery:
            for contact in asked:
                nursery.start_soon(ask, contact)
        return len(answered) > 0 and ANSWERING_PART * len(answered) >= len(asked)
