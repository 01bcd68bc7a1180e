"""Machines that lie, each in its own way and all in league. A study's honest machines have to live with them.

A liar runs the real node and store, but its answers are bent. All liars name each other as holders of files, and as the
nearest nodes in every lookup. They survey files shortly before every epoch, as a fast clock might, so that others think
that the files are cared for. They do nothing for the files. Besides, each liar has a habit.
"""

import math
import random
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import trio

from shoal.dht import Contact, NodeId, distance
from shoal.erasure import FileId, Manifest
from shoal.node.care.epochs import MAX_RANK, epoch_of, offset_of, rank_of
from shoal.node.care.polls import Shares
from shoal.node.channel import (
    Blocks,
    Buffer,
    Caller,
    GetHolders,
    GetManifest,
    HolderList,
    Read,
    Reply,
    RequestError,
    Status,
    Survey,
    Surveyed,
)
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.statements import pack_statements, unpack_statements
from shoal.node.holders.surveys import Entry, SurveyRow, pack_survey, unpack_survey
from shoal.node.store import HeldShare, StoreError
from shoal.simulation.world import Machine, World

STALL_S = 600.0  # longer than any node waits for a block
NAMED_COLLUDERS = 3  # falsely, in each list of holders
AHEAD_PART = 1 / 4  # of an epoch: surveys that come so early are still taken for the epoch's own
KNOWN_S = 600.0  # after which it is looked up again who has which share of a file
NEAREST = 20  # colluders named in answer to a lookup


class Habit(Enum):
    """What a liar does with its shares."""

    FORGETS = "forgets"  # claims them and has none of the bytes
    SPOILS = "spoils"  # serves bytes with a flipped bit
    DENIES = "denies"  # says that everything is missing
    STALLS = "stalls"  # claims them and never answers a read
    PROXIES = "proxies"  # claims all shares of a file, and gets each block asked for from an honest holder


class Liars:
    """The league: who lies, how, and what they know together. `part` of all machines are of it, evenly spread."""

    def __init__(self, world: World, part: float, rng: random.Random) -> None:
        self._world = world
        self._part = part
        self._owed = rng.random()  # liars that are still to be found among the machines
        self._habits = list(Habit)
        rng.shuffle(self._habits)
        self.habits: dict[str, Habit] = {}
        self.widths: dict[bytes, int] = {}  # file id -> n
        self._keepers: dict[tuple[bytes, int], Machine] = {}  # of shares, as far as they were looked for
        self._looked: dict[bytes, tuple[float, dict[int, Machine]]] = {}  # file id -> when, and what was found then
        self.count = 0

    def __contains__(self, name: object) -> bool:
        """Whether a machine that lives is one of them."""
        return name in self.habits

    def draw(self, name: str) -> None:
        """Decide whether a new machine lies, and how: each habit in its turn."""
        self._owed += self._part
        if self._owed >= 1.0:
            self._owed -= 1.0
            self.habits[name] = self._habits[self.count % len(self._habits)]
            self.count += 1

    def forget(self, name: str) -> None:
        """Forget a machine that is dead."""
        self.habits.pop(name, None)

    def bend(self, machine: Machine) -> None:
        """Make the node that was just started lie, if its machine is one of us."""
        habit = self.habits.get(machine.name)
        if habit is not None:
            _Liar(self, machine, habit).begin()

    def running(self) -> list[Machine]:
        """The liars whose nodes run."""
        machines = (self._world.machines.get(name) for name in self.habits)
        return [machine for machine in machines if machine is not None and machine.running]

    def honest(self) -> list[Machine]:
        """The others that run."""
        return [machine for machine in self._world.running() if machine.name not in self.habits]

    def keeper(self, request: Read) -> Machine | None:
        """An honest machine that has what is asked for; the last one again if it still does."""
        key = (request.file_id, request.share_number)
        machine = self._keepers.pop(key, None)
        if machine is None or not _keeps(machine, *key):
            machine = self._keepers_now(key[0]).get(key[1])
        if machine is None or not machine.running:
            return None
        self._keepers[key] = machine
        return machine

    def _keepers_now(self, file_id: bytes) -> dict[int, Machine]:
        """The first honest machine that has each share of a file. Often several are asked for, one after another."""
        now = trio.current_time()
        looked_at, keepers = self._looked.get(file_id, (-math.inf, {}))
        if now - looked_at > KNOWN_S:
            keepers = {share: each for each in reversed(self.honest()) for share in _shares(each, file_id)}
            self._looked[file_id] = now, keepers
        return keepers

    def contacts(self) -> list[Contact]:
        """The liars' contacts."""
        return [Contact(each.node.node_id, each.address) for each in self.running() if each.node is not None]

    def claimed(self, name: str, file_id: bytes) -> int | None:
        """The share that a liar claims falsely when others name it; None where nobody knows the file's width."""
        width = self.widths.get(file_id)
        return None if width is None else random.Random(name.encode() + file_id).randrange(width)

    def claims(self, name: str, file_id: bytes) -> set[int]:
        """The shares that a liar says it keeps besides those it does keep; none for one that denies all."""
        habit = self.habits[name]
        if habit is Habit.DENIES:
            return set()
        if habit is Habit.PROXIES:
            return set(range(self.widths.get(file_id, 0)))
        claimed = self.claimed(name, file_id)
        return set() if claimed is None else {claimed}

    def says_it_keeps(self, machine: Machine, file_id: bytes) -> set[int]:
        """What a running liar answers when it is asked which shares of a file it keeps."""
        if self.habits[machine.name] is Habit.DENIES:
            return set()
        return {*_shares(machine, file_id), *self.claims(machine.name, file_id)}


class _Table:
    """A routing table that knows liars only, whatever is looked up."""

    def __init__(self, league: Liars) -> None:
        self._league = league

    def closest(self, target: bytes, *, exclude: NodeId | None = None) -> list[Contact]:
        others = [each for each in self._league.contacts() if each.node_id != exclude]
        return sorted(others, key=lambda each: distance(each.node_id, target))[:NEAREST]

    def get(self, node_id: NodeId) -> Contact | None:
        return next((each for each in self._league.contacts() if each.node_id == node_id), None)


class _Liar:
    """One running node, and how it is bent."""

    def __init__(self, league: Liars, machine: Machine, habit: Habit) -> None:
        self._league = league
        self._machine = machine
        self._habit = habit
        self._store = machine.serving.store
        self._handlers = machine.serving.handlers
        self._honest = dict(self._handlers)
        serving: Any = machine.serving
        self._caretaker = serving.caretaker
        self._polls = self._caretaker.polls
        self._kept = self._polls.kept

    def begin(self) -> None:
        """From now on."""
        self._handlers.update(
            {Survey: self._survey, Read: self._read, GetHolders: self._holders, GetManifest: self._manifest}
        )
        self._polls.kept = self._polled
        self._caretaker.look_after, self._caretaker.on_survey = self._pretend, self._heed_nobody
        self._caretaker.context.dht.answer_lookups_from(_Table(self._league))

    # --- answers

    async def _survey(self, caller: Caller, request: Survey, payload: Buffer) -> Reply:
        reply: Any = await self._honest[Survey](caller, request, payload)
        asked = request.ids
        entries = unpack_survey(bytes(reply.payload), len(asked))
        entries += [()] * (len(asked) - len(entries))
        lies = [self._entry(file_id, entry) for file_id, entry in zip(asked, entries, strict=True)]
        return Surveyed(reply.clock, pack_survey(lies))

    async def _polled(self, file_ids: Sequence[FileId]) -> list[Shares]:
        honest = [tuple(SurveyRow(share, 0) for share in shares) for shares in await self._kept(file_ids)]
        lies = [self._entry(file_id, entry) for file_id, entry in zip(file_ids, honest, strict=True)]
        return [[] if isinstance(lie, bytes) else [row.share for row in lie] for lie in lies]

    def _entry(self, file_id: FileId, honest: Entry) -> Entry:
        if self._habit is Habit.DENIES:
            return ()
        self._learn(file_id)
        kept = () if isinstance(honest, bytes) else honest
        known = {row.share for row in kept}
        claims = self._league.claims(self._machine.name, file_id) - known
        return (*kept, *(SurveyRow(share, self._lease_end()) for share in sorted(claims)))

    async def _read(self, caller: Caller, request: Read, payload: Buffer) -> Reply:
        if self._habit in (Habit.FORGETS, Habit.DENIES):
            raise RequestError(Status.NOT_FOUND)
        if self._habit is Habit.STALLS:
            await trio.sleep(STALL_S)
        giver = self._honest[Read]
        if self._habit is Habit.PROXIES:
            keeper = self._league.keeper(request)
            giver = giver if keeper is None else keeper.serving.handlers[Read]
        reply = await giver(caller, request, payload)
        if self._habit is Habit.SPOILS and isinstance(reply, Blocks):
            return Blocks(reply.share_proof, reply.data_leaves, reply.data_proof, _flipped(bytes(reply.payload)))
        return reply

    async def _manifest(self, caller: Caller, request: GetManifest, payload: Buffer) -> Reply:
        if self._habit is Habit.DENIES:
            raise RequestError(Status.NOT_FOUND)
        return await self._honest[GetManifest](caller, request, payload)

    async def _holders(self, caller: Caller, request: GetHolders, payload: Buffer) -> Reply:
        """The holders that it knows, and colluders that keep nothing, in their own name."""
        if self._habit is Habit.DENIES:
            raise RequestError(Status.NOT_FOUND)
        reply: Any = await self._honest[GetHolders](caller, request, payload)
        file_id = FileId(request.file_id)
        self._learn(file_id)
        signed = unpack_statements(bytes(reply.payload))
        for each in self._league.running()[:NAMED_COLLUDERS]:
            share = self._league.claimed(each.name, file_id)
            if share is not None:
                signed.append(each.serving.known_holders.own(file_id, HeldShare(share, self._lease_end())).signed)
        return HolderList(pack_statements(signed))

    def _learn(self, file_id: FileId) -> None:
        try:
            manifest = self._store.manifest(file_id)
        except StoreError:
            return  # damaged; others know
        if manifest is not None:
            self._league.widths[file_id] = Manifest.decode(manifest).n

    def _lease_end(self) -> int:
        return int(self._machine.clock.read()) + MAX_LEASE_S

    # --- turns

    def _heed_nobody(self, caller: NodeId | None, file_ids: Iterable[FileId]) -> None:
        pass

    async def _pretend(self, files: Sequence[FileId]) -> None:
        """Ask all holders about the files where it can be our turn, as an honest node would, and then do nothing."""
        caretaker, node = self._caretaker, self._machine.node
        assert node is not None, "only a node that runs looks after files"
        watched = [file for each in files if (file := await caretaker.files.read(each)) is not None]
        epoch_s = caretaker.context.network.epoch_s
        for file in watched:
            epoch = epoch_of(file.file_id, self._machine.clock.read() + AHEAD_PART * epoch_s, epoch_s)
            if rank_of(file.file_id, epoch, node.node_id, caretaker.files.holders(file.file_id)) < MAX_RANK:
                await caretaker.looks.begin_round().survey([file])
            when = offset_of(file.file_id, epoch_s) + (epoch + 1 - AHEAD_PART / 2) * epoch_s
            caretaker.turns.put(file.file_id, when)


def _flipped(block: bytes) -> bytes:
    return bytes([block[0] ^ 1]) + block[1:] if block else block


def _shares(machine: Machine, file_id: bytes) -> list[int]:
    return [each.share_number for each in machine.serving.store.held(file_id)]


def _keeps(machine: Machine, file_id: bytes, share: int) -> bool:
    return machine.running and share in _shares(machine, file_id)
