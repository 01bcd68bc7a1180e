"""Being a relay: ringing nodes that cannot be dialled, and passing bytes on between them and their callers.

A relay sees addresses, times and amounts. TLS runs end to end, to the key of the node that was rung. What a relay
spends is bounded: bytes per second and per day, circuits in all and of one place, and time without a byte.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import trio

from shoal.dht import Address, NodeId
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    ConnectionSlots,
    GetRelayed,
    PeerError,
    RawStream,
    Reason,
    RelayedNodes,
    Reply,
    RequestError,
    Reserve,
    Reserved,
    Ring,
    Role,
    Rung,
    Status,
    Throttle,
)
from shoal.node.channel.circuits import JOINED, PREAMBLE_BYTES, RINGING, End, unpack_preamble
from shoal.node.channel.messages import MAX_RELAYED_COUNT
from shoal.node.channel.slots import Slot
from shoal.node.nursery import open_nursery
from shoal.node.reach.reservations import PendingCircuit, Reservation, Reservations
from shoal.values import dataclass

RELAY_BYTES_PER_S = 2 * 10**6  # on a line without caps
RELAY_PART = 4  # of the cap on what a node sends, where there is one: relaying takes a quarter at most
DAY_S = 86_400.0
BUSY_PART = 5  # of a day in which the rate may be used: 35 GB a day at 2 MB/s
DAY_PART = 8  # of a day's bytes for the nodes of one place
MAX_PLACES = 1_024  # that this is known of; the one that used least is forgotten first
MAX_CIRCUITS = 1_024
PREAMBLE_S = 5.0  # to say it; a connection and one round trip
IDLE_S = 60.0  # without a byte; both ends close idle connections before that
MAX_CIRCUIT_S = 3_600.0
# What the system keeps of a circuit, for each direction at each end: the more circuits there are, the less. So all that
# 1,024 of them can hold is 261 MiB in the system, and 108 MiB here.
BUFFER_BYTES = 256 * 1024
LEAST_BUFFER_BYTES = 32 * 1024  # at 50 ms of round trip 0.6 MB/s
BUFFERS_BYTES = 64 * 2**20

Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """What a relay does and has done since the start."""

    reservations: int
    circuits: int
    circuits_made: int
    refused: int
    passed_bytes: int


class Relay:
    """One node's work as a relay: answers requests (`handlers`) and serves plain connections (`serve_raw`)."""

    def __init__(self, reservations: Reservations, throttle: Throttle, *, private: bool) -> None:
        """`throttle`: of what is passed on, within the node's own."""
        self._reservations = reservations
        self._throttle = throttle
        self._slots = ConnectionSlots(total=MAX_CIRCUITS, private=private)
        rate = throttle.up.bytes_per_s or RELAY_BYTES_PER_S
        self._day_bytes = rate * DAY_S / BUSY_PART
        self._day_began = trio.current_time()
        self._today_bytes = self._passed_bytes = 0
        self._of_place: Counter[bytes] = Counter()  # today
        self._circuits = self._made = self._refused = 0

    def statistics(self) -> RelayStatistics:
        """A snapshot."""
        return RelayStatistics(len(self._reservations), self._circuits, self._made, self._refused, self._passed_bytes)

    def handlers(self) -> Mapping[type[AnyRequest], Handler]:
        """What this part answers."""
        return {Reserve: self._reserve, Ring: self._ring, GetRelayed: self._relayed}

    async def _reserve(self, caller: Caller, request: Reserve, payload: Buffer) -> Reserved:
        if caller.role is not Role.PEER or caller.node_id is None:
            raise RequestError(Status.FORBIDDEN, Reason.NOT_PROVEN, "a relay rings for nodes that prove their id")
        known = self._reservations.ask(caller.node_id, caller.remote, request.space, trio.current_time())
        if known is None:
            self._refuse("this relay rings for as many nodes as it can")
        try:
            with trio.move_on_after(request.wait_s):
                token, address = await known.next_ring()
                return Reserved(caller.remote.pack(), token, address.pack() if address else b"")
            return Reserved(caller.remote.pack(), b"", b"")
        finally:
            self._reservations.answered(known, trio.current_time())

    async def _ring(self, caller: Caller, request: Ring, payload: Buffer) -> Rung:
        now = trio.current_time()
        known = self._reservations.find(NodeId(request.node_id), now)
        if known is None:
            raise RequestError(Status.NOT_FOUND, text="this relay does not ring for that node")
        if self._is_used_up(known):
            self._refuse("this relay has passed on enough for today")
        pending = self._reservations.begin(known, caller.remote, now)
        if pending is None:
            raise RequestError(Status.BUSY, Reason.CONNECTIONS, "too many circuits are being set up")
        return Rung(pending.token, known.remote.pack())

    async def _relayed(self, caller: Caller, request: GetRelayed, payload: Buffer) -> RelayedNodes:
        some = self._reservations.some(MAX_RELAYED_COUNT, trio.current_time())
        return RelayedNodes(b"".join(each.node_id + bytes([each.space]) for each in some))

    def _refuse(self, text: str) -> NoReturn:
        self._refused += 1
        raise RequestError(Status.FULL, text=text)

    async def serve_raw(self, raw: RawStream, slot: Slot) -> None:
        """Serve one plain connection to its end. Nothing that the other end does makes this raise."""
        with suppress(PeerError):
            preamble = b""
            with trio.move_on_after(PREAMBLE_S):
                preamble = await raw.receive(PREAMBLE_BYTES)
            if not preamble:
                return
            end, token = unpack_preamble(preamble)
            pending = self._reservations.pending(token, trio.current_time())
            if pending is None:
                return
            if end is End.HOLDER:
                await self._holder_came(raw, slot, pending)
            else:
                await self._caller_came(raw, slot, pending, raw.remote if end is End.PUNCHING_CALLER else None)

    async def _holder_came(self, raw: RawStream, slot: Slot, pending: PendingCircuit) -> None:
        """Hand the stream to the caller's task, and keep it open while that needs it."""
        if not pending.is_rung or pending.holder is not None:
            return
        slot.release()  # from here on the circuit counts, for the caller's place
        pending.holder = raw
        pending.came.set()
        await pending.over.wait()

    async def _caller_came(self, raw: RawStream, slot: Slot, pending: PendingCircuit, punch: Address | None) -> None:
        if pending.is_rung:
            return
        pending.is_rung = True
        scope, now = trio.CancelScope(), trio.current_time()
        place = self._slots.take(raw.remote, now, scope.cancel)
        try:
            if place is None or not place.settle(now):
                self._refused += 1
                return
            slot.release()
            with scope:
                await self._ring_and_join(raw, place, pending, punch)
        finally:
            if place is not None:
                place.release()
            self._reservations.settle(pending)
            pending.over.set()

    async def _ring_and_join(self, raw: RawStream, place: Slot, pending: PendingCircuit, punch: Address | None) -> None:
        if not pending.reservation.ring(pending.token, punch):
            self._refused += 1
            return
        await raw.send(RINGING)
        with trio.move_on_at(pending.ends_at):
            await pending.came.wait()
        if pending.holder is None:
            return  # it was punched, or does not answer
        self._reservations.settle(pending)
        await self._join(raw, pending.holder, place, pending.reservation)

    async def _join(self, caller: RawStream, holder: RawStream, place: Slot, reservation: Reservation) -> None:
        """Pass bytes on in both directions, until either end leaves, or a bound is reached."""
        now = trio.current_time()
        place.begin(now)
        self._circuits += 1
        self._made += 1
        try:
            size = buffer_bytes(self._circuits)
            for each in (caller, holder):
                each.bound_buffers(size)
                await each.send(JOINED)
            async with open_nursery() as nursery:
                circuit = _Circuit(nursery.cancel_scope, place, reservation, now + MAX_CIRCUIT_S)
                circuit.moved(now)
                nursery.start_soon(self._pass_on, caller, holder, circuit)
                nursery.start_soon(self._pass_on, holder, caller, circuit)
        finally:
            self._circuits -= 1

    async def _pass_on(self, source: RawStream, target: RawStream, circuit: "_Circuit") -> None:
        """Pass on what comes from one end, in turns with all other circuits."""
        slice_bytes = self._throttle.up.slice_bytes
        with suppress(PeerError):
            while not self._is_used_up(circuit.reservation):
                count = await source.pass_on(target, min(slice_bytes, buffer_bytes(self._circuits)))
                if not count:
                    break
                circuit.moved(trio.current_time())
                self._count(circuit.reservation.place, count)
                await self._throttle.wait_after_receiving(count)
                await self._throttle.wait_to_send(count)
        circuit.scope.cancel()

    def _is_used_up(self, reservation: Reservation) -> bool:
        """Whether enough was passed on today, for the place of that node or for all together."""
        now = trio.current_time()
        if now - self._day_began >= DAY_S:
            self._day_began, self._today_bytes = now, 0
            self._of_place.clear()
        of_place = self._of_place[reservation.place]
        return self._today_bytes >= self._day_bytes or of_place >= self._day_bytes / DAY_PART

    def _count(self, place: bytes, count: int) -> None:
        """So many bytes were passed on for a node of that place. It counts for the day, whatever the node does."""
        self._passed_bytes += count
        self._today_bytes += count
        self._of_place[place] += count
        if len(self._of_place) > MAX_PLACES:
            del self._of_place[min(self._of_place, key=self._of_place.__getitem__)]


@dataclass(frozen=True, slots=True)
class _Circuit:
    """A circuit that is joined: the scope that ends it, its place among others, and when it ends at the latest."""

    scope: trio.CancelScope
    place: Slot
    reservation: Reservation
    ends_at: float

    def moved(self, now: float) -> None:
        """Bytes have moved."""
        self.place.used_at = now
        self.scope.deadline = min(self.ends_at, now + IDLE_S)


def buffer_bytes(circuits: int) -> int:
    """What the system may keep for each direction at each end of a circuit, and what is moved at once."""
    return max(LEAST_BUFFER_BYTES, min(BUFFER_BYTES, BUFFERS_BYTES // (4 * max(1, circuits))))


def relay_throttle(within: Throttle, up_bytes_per_s: float | None) -> Throttle:
    """What a node with this cap on what it sends passes on for others, as a part of all that it moves."""
    rate = RELAY_BYTES_PER_S if up_bytes_per_s is None else min(RELAY_BYTES_PER_S, up_bytes_per_s / RELAY_PART)
    return Throttle(rate, within=within)
