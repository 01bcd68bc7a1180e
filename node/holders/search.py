"""From a file's id to its manifest and its holders.

Three DHT keys are searched, one a moment after the other. Each announcement found is used at once, while the search
goes on. The manifest is whatever hashes to the id, whoever sends it. The holders that are asked for it name each other
in signed statements.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial

import trio

from shoal.dht import Contact, Record, RecordKey, RecordKind
from shoal.erasure import FileId, MalformedManifest, Manifest
from shoal.node.channel import GetHolders, GetManifest, PeerError
from shoal.node.context import BUSY_PATIENCE_S, Context
from shoal.node.errors import Cause, NoPeers, NotFound, in_words
from shoal.node.holders.announcers import CLASSES, Hint, class_key, hints_of
from shoal.node.holders.leads import Leads
from shoal.node.holders.statements import (
    HolderStatement,
    MalformedStatement,
    check_batch,
    check_statement,
    newest_by_share,
    unpack_statements,
)
from shoal.node.nursery import open_nursery
from shoal.node.results import Holder
from shoal.values import dataclass

SEARCH_TIMEOUT_S = 30.0  # each: a first search that liars hold up takes nothing from the thorough one
NEXT_CLASS_S = 0.1  # after so long the next key is searched as well: one nearly always does, and costs a third
ASKED_AT_ONCE = 4  # holders asked for the manifest at the same time
ASK_ANOTHER_S = 0.25  # as long as none has it, one more is asked so often: those named by liars do not answer at all
MOST_AT_ONCE = 32  # half of the connections a node keeps
ENOUGH_LISTS = 3  # holder lists that are taken together; a liar among them can only add names
ENOUGH_LISTS_THOROUGH = 12
LISTS_TIMEOUT_S = 5.0


@dataclass
class Located:
    """A file's manifest and where its shares are said to be."""

    manifest: Manifest
    hints: list[Hint]
    statements: list[HolderStatement] = field(default_factory=list)

    def holders(self) -> tuple[Holder, ...]:
        """The signed part of what is known, by share."""
        return tuple(
            Holder(each.share, each.node_id, each.address, float(each.lease_end))
            for each in sorted(self.statements, key=lambda each: (each.share, each.node_id))
        )


class Search:
    """One search for one file. With `manifest` the file is known, and it is holders that are looked for."""

    def __init__(self, context: Context, file_id: FileId, *, manifest: Manifest | None = None) -> None:
        self._context = context
        self._file_id = file_id
        self._manifest = manifest
        self._leads = Leads()
        self._news = trio.Event()
        self._heard_all = False
        self._asking = 0
        self._answers: dict[Contact, Cause] = {}  # why each of those asked gave no manifest
        self._giver: Contact | None = None
        self._statements: list[HolderStatement] = []
        self._checked: dict[bytes, HolderStatement] = {}  # statements that were found valid: lists are mostly alike
        self._asked_for_lists: set[Contact] = set()
        self._listing: set[Contact] = set()  # of these, those that have not answered
        self._lists = 0  # that had something valid
        self._list_came = trio.Event()
        self._checking = trio.Lock()
        self._ask_list: Callable[[Contact], None] = lambda contact: None

    async def run(self, *, thorough: bool = False) -> Located:
        """Find the manifest and the holders; `thorough` hears every announcement. NotFound or NoPeers.

        Nothing is called not found before it was sought on the many paths that liars cannot all stand in.
        """
        enough = ENOUGH_LISTS_THOROUGH if thorough else ENOUGH_LISTS
        async with open_nursery() as lists:
            self._ask_list = partial(self._ask_for_list, lists, 2 * enough)
            await self._seek(thorough=thorough, hear_all=thorough)
            if self._manifest is None and not thorough and self._context.dht.contacts():
                await self._seek(thorough=True, hear_all=False)
            if self._manifest is None:
                raise self._not_found()
            await self._wait_for_lists(enough)
            lists.cancel_scope.cancel()
        statements = list(newest_by_share(self._statements).values())
        hints = [hint for hint in self._leads.hints() if hint.share < self._manifest.n]
        return Located(self._manifest, hints, statements)

    async def _seek(self, *, thorough: bool, hear_all: bool) -> None:
        """Until the manifest is found or nobody is left to ask; then on, until all announcements are heard, where they
        are wanted; SEARCH_TIMEOUT_S at most.
        """
        self._heard_all = False
        with trio.move_on_after(SEARCH_TIMEOUT_S):
            async with open_nursery() as nursery:
                nursery.start_soon(self._hear_announcements, thorough)
                await self._ask_for_manifest()
                if not hear_all:
                    nursery.cancel_scope.cancel()

    @property
    def named(self) -> list[Hint]:
        """The peers that were said to keep the file, even where nobody has proven to know it."""
        return self._leads.hints()

    async def _hear_announcements(self, thorough: bool) -> None:
        classes = list(range(CLASSES))
        self._context.env.rng.shuffle(classes)
        async with open_nursery() as nursery:
            for number in classes:
                nursery.start_soon(self.search_class, number, thorough)
                if not thorough and number != classes[-1]:
                    await trio.sleep(NEXT_CLASS_S)
        self._heard_all = True
        self._news.set()

    async def search_class(self, number: int, thorough: bool) -> None:
        key = RecordKey(class_key(self._file_id, number))
        async with self._context.dht.search(RecordKind.PROVIDER, key, thorough=thorough) as records:
            async for record in records:
                self._take(record)

    def _take(self, record: Record) -> None:
        """Note what an announcement says."""
        announcer = record.provider
        self._leads.hear(hints_of(record, announcer, self._context.network), first=announcer)
        self._news.set()

    # --- the manifest

    async def _ask_for_manifest(self) -> None:
        """Ask those heard of, in order of promise, until one has it or no further ones will be heard of."""
        most = ASKED_AT_ONCE
        async with open_nursery() as nursery:
            while self._manifest is None and (self._asking or self._leads.pending or not self._heard_all):
                self._news = trio.Event()
                contact = self._leads.next_contact() if self._asking < most else None
                if contact is not None:
                    self._asking += 1
                    nursery.start_soon(self._ask_manifest, contact)
                    self._ask_list(contact)
                    continue
                with trio.move_on_after(ASK_ANOTHER_S) as patience:
                    await self._news.wait()
                if patience.cancelled_caught and self._leads.pending:
                    most = min(MOST_AT_ONCE, most + 1)
            nursery.cancel_scope.cancel()

    async def _ask_manifest(self, contact: Contact) -> None:
        def note(error: PeerError) -> None:
            self._answers[contact] = error.cause

        try:
            reply = await self._context.ask(
                contact, GetManifest(self._file_id), patience_s=BUSY_PATIENCE_S, on_busy=note
            )
            manifest = Manifest.decode(bytes(reply.payload))
            if manifest.id != self._file_id:
                self._answers[contact] = Cause.LIED
            elif self._manifest is None:
                self._manifest, self._giver = manifest, contact
        except PeerError as error:
            note(error)
        except MalformedManifest:
            self._answers[contact] = Cause.LIED
        finally:
            self._asking -= 1
            self._news.set()

    # --- the holders' own lists

    async def _wait_for_lists(self, enough: int) -> None:
        """Union of a few holders' lists. The hints say already which peer keeps what, so no list is waited for long.

        Those that were asked for the manifest were asked for their lists as well.
        """
        for contact in [*([] if self._giver is None else [self._giver]), *self._leads.contacts()]:
            self._ask_list(contact)
        with trio.move_on_after(LISTS_TIMEOUT_S):
            while self._lists < enough and self._listing:
                self._list_came = trio.Event()
                await self._list_came.wait()

    def _ask_for_list(self, nursery: trio.Nursery, most: int, contact: Contact) -> None:
        """Ask a peer which holders it knows, unless it was asked or `most` were; in any case the manifest's giver."""
        is_wanted = contact == self._giver or len(self._asked_for_lists) < most
        if is_wanted and contact not in self._asked_for_lists:
            self._asked_for_lists.add(contact)
            self._listing.add(contact)
            nursery.start_soon(self._take_list, contact)

    async def _take_list(self, contact: Contact) -> None:
        try:
            reply = await self._context.ask(contact, GetHolders(self._file_id), patience_s=LISTS_TIMEOUT_S)
            self._lists += await self._take_statements(unpack_statements(bytes(reply.payload)))
        except (PeerError, MalformedStatement):
            return
        finally:
            self._listing.discard(contact)
            self._list_came.set()

    async def _take_statements(self, signed: list[bytes]) -> bool:
        """Note what a list says; whether there was anything valid in it. Raises MalformedStatement as `check_batch`."""
        async with self._checking:  # one after another: what is in several lists is checked once
            if any(each not in self._checked for each in signed):
                valid = await self._context.env.call(self._valid_statements, signed)
            else:
                valid = [self._checked[each] for each in signed]
            self._checked |= {each.signed: each for each in valid}
        self._statements += valid
        self._leads.hear(Hint(each.share, each.contact) for each in valid)
        return bool(valid)

    def _valid_statements(self, signed: list[bytes]) -> list[HolderStatement]:
        """Checks signatures, hence called in a worker."""
        env, network = self._context.env, self._context.network

        def check(item: bytes) -> HolderStatement:
            return self._checked.get(item) or check_statement(item, network, env.scheme, env.wall())

        return check_batch(signed, self._file_id, check)

    def _not_found(self) -> NotFound | NoPeers:
        if not self._context.dht.contacts():
            return NoPeers(
                "No peer of the network answered. Check the connection, and name a peer with --bootstrap HOST:PORT."
            )
        if self._leads:
            causes = Counter(self._answers.values())
            causes[Cause.SILENT] += len(self._leads) - causes.total()
            return NotFound(_said_to_hold(len(self._leads), causes), causes=causes)
        return NotFound(
            "This file was not found on this network. Either all its hosts are away, or it has expired, "
            "or it was published on another network."
        )


def _said_to_hold(named: int, causes: Mapping[Cause, int]) -> str:
    """What to say when none of the hosts that are listed has the manifest.

    A few that deny prove nothing: the others may merely be away, or busy.
    """
    listed = "1 host was listed" if named == 1 else f"{named} hosts were listed"
    denied = causes.get(Cause.MISSING, 0)
    if denied >= named:
        return f"This file is gone: deleted by its owner, or expired. ({listed}.)"
    if denied:
        return (
            f"This file was not found. {listed}: {in_words(causes)}. The owner may have deleted it, or it may have "
            "expired. Try again later."
        )
    if causes.get(Cause.SILENT, 0) >= named:
        return f"This file cannot be reached now. {listed}, but none answered. Try again later."
    return f"This file cannot be reached now. {listed}: {in_words(causes)}. Try again later."
