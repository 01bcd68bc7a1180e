"""Being found again: after an address has changed, after a sleep, and when a severed network has healed.

A peer takes a call for proven only when it shows the cookie that the peer gave to that address. So one ping from a new
address makes nobody know us. We ask until our address is proven, and look up our own id twice.

| what is noticed | how |
|---|---|
| another address of this machine, a sleep | the system tells (`DatagramNetwork.wait_for_change`) |
| another address of the line | what most peers see; a node that depends on them asks one every minute |
| our line, or the network, is cut | a contact is lost to silence: some others are asked, then more |
| it is whole again | one of the lost answers; while many are lost, a few of them are asked every minute |
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Protocol

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.errors import QueryError
from shoal.dht.identity import NodeId
from shoal.dht.routing import ContactTable
from shoal.dht.severed import LostContacts

SECOND_LOOK_S = 5.0  # between both look-ups: peers that were met in the first one ping us, and so come to name us
MAX_INTRODUCED = 512  # contacts that are asked until our address is proven to them
MAX_DOORS_ASKED = 8
INTRODUCTIONS_PER_S = 32.0  # two exchanges each

RETURN_SPACING_S = 20.0  # peers that fall silent and come back, on purpose, can have us return no more often

SEEK_PARTS = 240  # pauses grow to so small a part of the time since: a minute after 4 h, 6 after a day, 42 after a week
SEEK_S = 50.0  # while many are lost; three datagrams of 192 bytes to each of
SOUGHT = 4  # the lost, by chance, and one door
WAVE = 3  # contacts asked when one was lost; as many more for each that was lost within the last minute
MAX_WAVE = 64
LATELY_S = 60.0
WAVE_S = 3.0  # before they are asked: losses of one moment are one wave
FRESH_S = 30.0  # who answered within this time is not asked

# A node that knows its address only from its peers asks one of them when no answer came for so long.
PULSE_S = 50.0
QUIET_PULSE_S = 7200.0  # any other node: seldom, since it costs what all the rest of an idle node does


class Introducing(Protocol):
    """What this needs of `Peers`."""

    async def introduce(self, address: Address, node_id: NodeId | None) -> Contact:
        """Ask until our address is proven to the peer. Raises QueryError."""
        ...

    async def ping(self, address: Address, node_id: NodeId | None) -> Contact:
        """Ask once. Raises QueryError."""
        ...


class Reunion:
    """Sees to it that others know where we are.

    look_up: a look-up, which puts what it learns into the table.    doors: addresses given to us, with the ids met
    there.    depends: whether our own address is known from peers alone.    on_done: called when all neighbours were
    told.
    """

    def __init__(
        self,
        own_id: NodeId,
        table: ContactTable,
        peers: Introducing,
        look_up: Callable[[bytes], Awaitable[object]],
        doors: Callable[[], dict[Address, NodeId | None]],
        rng: Random,
        *,
        depends: Callable[[], bool],
        on_done: Callable[[], None],
    ) -> None:
        self._own_id = own_id
        self._table = table
        self._peers = peers
        self._look_up = look_up
        self._doors = doors
        self._rng = rng
        self._depends = depends
        self._on_done = on_done
        self._lost = LostContacts()
        self._losses: list[float] = []  # when contacts were lost, within the last minute; at most MAX_WAVE
        self._answered_at = -math.inf
        self._is_noticed = False
        self._stirred = trio.Event()
        self._a_loss = trio.Event()

    # -- what is noticed -----------------------------------------------------------------------------------

    def notice(self) -> None:
        """We may have another address, or have slept."""
        self._is_noticed = True
        self._stirred.set()

    def on_answer(self, node_id: NodeId) -> None:
        """A peer has answered."""
        self._answered_at = now = trio.current_time()
        severed = self._lost.is_severed(now)
        if self._lost.found(node_id) and severed:
            self.notice()

    def on_lost(self, contact: Contact) -> None:
        """A contact has left the table by silence."""
        now = trio.current_time()
        was_severed = self._lost.is_severed(now)
        self._lost.lost(contact, len(self._table), now)
        if not was_severed and self._lost.is_severed(now):
            self._stirred.set()
        self._losses = [*[at for at in self._losses if now - at < LATELY_S][-MAX_WAVE:], now]
        self._a_loss.set()

    def lost(self) -> list[Contact]:
        """Contacts that fell silent, those lost last at the end."""
        return self._lost.contacts()

    # -- tasks ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._return_when_noticed)
            nursery.start_soon(self._ask_around_after_losses)
            nursery.start_soon(self._pulse)

    async def _return_when_noticed(self) -> None:
        while True:
            with trio.move_on_after(self._seek_pause_s()):
                await self._stirred.wait()
            self._stirred = trio.Event()
            if self._is_noticed:
                self._is_noticed = False
                await self._return()
                await trio.sleep(RETURN_SPACING_S)
            elif self._is_severed():
                await self._seek()

    def _seek_pause_s(self) -> float:
        """Until the lost are sought again: longer the longer they are away, endless while none are sought."""
        now = trio.current_time()
        if not self._lost.is_severed(now):
            return math.inf
        pause_s = max(SEEK_S, self._lost.severed_for_s(now) / SEEK_PARTS)
        return pause_s * self._rng.uniform(0.8, 1.0)

    def _is_severed(self) -> bool:
        return self._lost.is_severed(trio.current_time())

    async def _seek(self) -> None:
        """Ask some of the lost. An answer is noticed as any other is."""
        lost, doors = self._lost.contacts(), list(self._doors().items())
        some = [(each.address, each.node_id) for each in self._rng.sample(lost, min(SOUGHT, len(lost)))]
        await self._introduce([*some, *self._rng.sample(doors, min(1, len(doors)))])

    async def _return(self) -> None:
        """Make ourselves known to our neighbours, to the lost, and then to all contacts."""
        begun = trio.current_time()
        lost, doors = self._lost.contacts(), list(self._doors().items())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_up, self._own_id)
            known = [(each.address, each.node_id) for each in lost]
            nursery.start_soon(self._introduce, [*known, *self._rng.sample(doors, min(MAX_DOORS_ASKED, len(doors)))])
        await trio.sleep(SECOND_LOOK_S)
        await self._look_up(self._own_id)
        self._on_done()
        await self._introduce([(each.address, each.node_id) for each in self._table.contacts()[:MAX_INTRODUCED]])
        if self._answered_at >= begun:
            self._lost.give_up()
        self._on_done()

    async def _ask_around_after_losses(self) -> None:
        """One lost contact may be alone or the first of many. Ask some others. Each of these that is lost asks more."""
        while True:
            await self._a_loss.wait()
            await trio.sleep(WAVE_S)
            self._a_loss = trio.Event()
            now = trio.current_time()
            silent = self._table.silent_since(now - FRESH_S)
            count = min(WAVE * len([at for at in self._losses if now - at < LATELY_S]), MAX_WAVE, len(silent))
            await self._introduce([(each.address, each.node_id) for each in self._rng.sample(silent, count)])

    async def _pulse(self) -> None:
        while True:
            every_s = PULSE_S if self._depends() else QUIET_PULSE_S
            await trio.sleep(every_s * self._rng.uniform(0.9, 1.0))
            contacts = self._table.contacts()
            if contacts and trio.current_time() - self._answered_at >= every_s / 2:
                contact = self._rng.choice(contacts)
                with suppress(QueryError):  # the table has been told
                    await self._peers.ping(contact.address, contact.node_id)

    async def _introduce(self, peers: Sequence[tuple[Address, NodeId | None]]) -> None:
        async def introduce(address: Address, node_id: NodeId | None) -> None:
            with suppress(QueryError):  # the table has been told
                await self._peers.introduce(address, node_id)

        async with trio.open_nursery() as nursery:
            for number, (address, node_id) in enumerate(peers):
                if number:
                    await trio.sleep(1 / INTRODUCTIONS_PER_S)
                nursery.start_soon(introduce, address, node_id)
