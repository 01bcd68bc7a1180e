"""What a node knows of the other holders of the files kept here, and what it states of itself.

Holders name each other in signed statements (`statements.py`). A peer that asks for a file's holders gets this node's
own statements, made now, and the newest valid ones of others.
"""

from collections.abc import Callable, Iterable, Sequence

from shoal.dht import Identity, Reach
from shoal.erasure import MAX_SHARES, FileId, Manifest
from shoal.node.context import Context
from shoal.node.holders.refresh import GOOD_S, LOOKS
from shoal.node.holders.statements import (
    LIFETIME_S,
    MAX_STATEMENTS,
    HolderStatement,
    MalformedStatement,
    StatementChecker,
    check_batch,
    make_statement,
    newest_by_share,
    unchecked_statement,
    unpack_statements,
)
from shoal.node.store import HeldShare, KeptStatement, ShareStore, StoreError

MAX_REMEMBERED_COUNT = 4096  # widths of files, some 100 bytes each
REUSE_S = LIFETIME_S / 7  # this node signs its statement anew after a day, long before the old one expires
MAX_REUSED_COUNT = 4096  # 250 bytes each; a node with more shares signs the others whenever it is asked


class KnownHolders:
    """The statements that one holder makes and keeps. `own_reach` gives the ways to put into its own."""

    def __init__(self, context: Context, identity: Identity, store: ShareStore, own_reach: Callable[[], Reach]) -> None:
        self._context = context
        self._env = context.env
        self._identity = identity
        self._store = store
        self._own_reach = own_reach
        self._checker = StatementChecker(context.network, context.env.scheme)
        self._signed: dict[tuple[bytes, int], HolderStatement] = {}
        self._widths: dict[bytes, int] = {}  # how many shares a file has

    def by_clock(self, context: Context) -> "KnownHolders":
        """The same holder, by the clock of another context."""
        return KnownHolders(context, self._identity, self._store, self._own_reach)

    def own(self, file_id: FileId, held: HeldShare) -> HolderStatement:
        """This node's statement that it keeps a share. It stays the same for a day while nothing in it changes."""
        key, now = (file_id, held.share_number), self._env.wall()
        known = self._signed.get(key)
        says = (held.lease_end, self._own_reach())
        if known is not None and (known.lease_end, known.reach) == says and 0 <= now - known.issued < REUSE_S:
            return known
        self._signed.pop(key, None)
        while len(self._signed) >= MAX_REUSED_COUNT:
            del self._signed[next(iter(self._signed))]
        statement = make_statement(
            self._identity,
            self._context.network.network_id,
            file_id,
            held.share_number,
            self._own_reach(),
            held.lease_end,
            now,
        )
        self._signed[key] = statement
        return statement

    async def known(self, file_id: FileId) -> list[HolderStatement]:
        """This node's statements and the newest valid ones of others; empty when it keeps nothing of the file.

        Raises StoreError where the disk fails.
        """
        return self.with_own(file_id, *await self._env.call(self.kept, file_id))

    def with_own(
        self, file_id: FileId, held: Sequence[HeldShare], others: Iterable[HolderStatement]
    ) -> list[HolderStatement]:
        """The same from what `kept` has given: this node's statements are made, or used again."""
        own = [self.own(file_id, each) for each in held]
        return list(newest_by_share([*own, *others]).values()) if held else []

    def kept(self, file_id: FileId) -> tuple[list[HeldShare], list[HolderStatement]]:
        """This node's shares of a file, and the valid statements of others where it has any share. Blocking."""
        held = self._store.held(file_id)
        return held, self._valid([each.statement for each in self.kept_of_others(file_id)] if held else [])

    def kept_of_others(self, file_id: FileId) -> list[KeptStatement]:
        """What is kept of other holders, expired statements too. Blocking; raises StoreError where the disk fails."""
        me, width = self._identity.node_id, self._width(file_id)
        kept = self._store.statements(file_id)
        return [each for each in kept if each.holder_id != me and each.share_number < width]

    def _width(self, file_id: FileId) -> int:
        """How many shares a file has: nobody keeps one beyond that. Where the manifest is not at hand it is 256, the
        most that there can be. Blocking.
        """
        width = self._widths.get(file_id)
        if width is None:
            try:
                encoded = self._store.manifest(file_id)
            except StoreError:
                encoded = None  # damaged; the call that needs it says so
            if encoded is None:
                return MAX_SHARES
            if len(self._widths) >= MAX_REMEMBERED_COUNT:
                self._widths.clear()  # all at once, because several workers may be here
            width = self._widths[file_id] = Manifest.decode(encoded).n
        return width

    async def learn(self, file_id: FileId, payload: bytes) -> int:
        """Keep the valid statements of a payload; the number that is known afterwards.

        Raises MalformedStatement for what is no list of statements or has junk in it, StoreError where the disk fails.
        """
        return await self._env.call(self.take_in, file_id, payload)

    def take_in(self, file_id: FileId, payload: bytes) -> int:
        """As `learn`, but blocking. Lists are mostly alike, so what is kept already is neither checked nor written
        again. Statements of this node itself are kept too: they show what others were told (see `was_told`).
        """
        signed = unpack_statements(payload)[:MAX_STATEMENTS]
        now = self._env.wall()
        known = {each.statement for each in self._store.statements(file_id) if each.expires > now}
        new = self._checked(file_id, [item for item in signed if item not in known])
        return self._keep(file_id, new) if new else len(known)

    async def read(self, file_id: FileId, payload: bytes) -> list[HolderStatement]:
        """The valid statements of another's list, this node's too; nothing is kept. Raises MalformedStatement, for a
        list with junk in it as well.
        """
        return await self._env.call(self._checked, file_id, unpack_statements(payload)[:MAX_STATEMENTS])

    async def keep(self, file_id: FileId, valid: Sequence[HolderStatement]) -> None:
        """Keep what others state, or what they were told of this node. Raises StoreError where the disk fails."""
        if valid:
            await self._env.call(self._keep, file_id, valid)

    async def was_told(self, file_id: FileId) -> bool:
        """Whether the others know that this node keeps what it keeps of a file, so that they need not hear it now.

        A list that somebody told this node counts too: the others heard it as well. Raises StoreError.
        """
        held, told = await self._env.call(self._told, file_id)
        return self.is_named(held, told)

    def _told(self, file_id: FileId) -> tuple[list[int], list[HolderStatement]]:
        kept = [each for each in self._store.statements(file_id) if each.holder_id == self._identity.node_id]
        held = [each.share_number for each in self._store.held(file_id)]
        return held, self._valid([each.statement for each in kept])

    def is_named(self, held: Iterable[int], said: Iterable[HolderStatement]) -> bool:
        """Whether a list names this node for all shares `held` here, where it is found, and for a good while."""
        good_until = self._env.wall() + min(LOOKS * self._context.network.epoch_s, GOOD_S)
        named = {
            each.share
            for each in said
            if each.node_id == self._identity.node_id
            and self._own_reach().is_found_by(each.reach)
            and each.expires > good_until
        }
        return named.issuperset(held)

    def _keep(self, file_id: FileId, valid: Iterable[HolderStatement]) -> int:
        """Keep statements; the number that is known afterwards. Blocking."""
        width = self._width(file_id)
        kept = [
            KeptStatement(each.share, each.node_id, each.expires, each.lease_end, each.signed)
            for each in valid
            if each.share < width
        ]
        self._store.add_statements(file_id, kept, self._env.wall())
        return self._store.statement_count(file_id)

    def _checked(self, file_id: FileId, signed: Sequence[bytes]) -> list[HolderStatement]:
        width, now = self._width(file_id), self._env.wall()
        valid = check_batch(signed, file_id, lambda item: self._checker.check(item, now))
        return [each for each in valid if each.share < width]

    def _valid(self, signed: Sequence[bytes]) -> list[HolderStatement]:
        """Those that are valid here and now. Blocking: each costs the check of a signature."""
        valid = []
        for item in signed:
            try:
                valid.append(self._checker.check(item, self._env.wall()))
            except MalformedStatement:
                continue  # broken, or expired since it was kept
        return valid

    def forget(self, file_id: FileId) -> None:
        """A file is kept here no longer."""
        for key in [key for key in self._signed if key[0] == file_id]:
            del self._signed[key]


def as_kept(kept: Iterable[KeptStatement]) -> list[HolderStatement]:
    """The newest of kept statements by share and holder. They were checked when they came, not again here."""
    read = []
    for each in kept:
        try:
            read.append(unchecked_statement(each.statement))
        except MalformedStatement:
            continue  # damaged on disk
    return list(newest_by_share(read).values())
