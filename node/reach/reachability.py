"""How others reach this node, as one value: for `Node.reachability`, `shoal node status` and whoever shows it."""

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any

import trio

from shoal.dht import Address, AddressSource, Contact, DhtService, OwnAddress
from shoal.node.reach.dial_back import DialBack
from shoal.node.reach.judgement import Judgement, Openness, verdict_of
from shoal.node.reach.mapping import Mapping, MappingState
from shoal.values import dataclass

SECOND_LOOK_S = 31.0  # a contact passes on a question of one place every 30 s


class Reachable(Enum):
    """In which way others reach a node."""

    DIRECT = "direct"  # at an address of its own
    MAPPED = "mapped"  # through a port that the router has opened
    RELAYED = "punched-or-relayed"  # nobody can dial it; relays ring it
    NO = "no"  # nobody can
    UNKNOWN = "unknown"  # nobody has tried yet


@dataclass(frozen=True, slots=True)
class Reachability:
    """How others reach this node.

    :ivar external_address: where it is dialled; else where most peers see it. None while that is not known.
    :ivar relays: nodes that ring it.
    :ivar relayed_for: how many nodes it rings.
    :ivar mapping: how it stands with a port of the home router.
    """

    state: Reachable = Reachable.UNKNOWN
    external_address: Address | None = None
    relays: tuple[Contact, ...] = ()
    relayed_for: int = 0
    mapping: Mapping = field(default_factory=lambda: Mapping(MappingState.OFF))

    def as_plain(self) -> dict[str, Any]:
        """For a status."""
        return {
            "reachable": self.state.value,
            "external_address": None if self.external_address is None else str(self.external_address),
            "relays": [str(relay.address) for relay in self.relays],
            "relayed_for": self.relayed_for,
        }

    def sentences(self) -> list[str]:
        """What is wrong, and what to do about it."""
        if self.state is not Reachable.NO:
            return []
        return [
            "Others cannot call this node, and no relay rings it. So it gets no shares to keep, and cannot serve those "
            "that it has. What to do is told by: shoal doctor"
        ]


class Reaching:
    """Judges this node's own addresses while `run` runs. The DHT asks it what to believe (`shoal.dht.Belief`).

    `relays` and `relayed_for` tell how it stands with relays.
    """

    def __init__(self, dht: DhtService, dial_back: DialBack, *, private: bool) -> None:
        self._dht = dht
        self._dial_back = dial_back
        self._changed = trio.Event()
        self._reopened = 0  # how often a router has opened or closed a port
        self._judgement = Judgement(
            lambda ipv6: dht.candidates(ipv6=ipv6), lambda ipv6: dht.peers.observed.voters(ipv6=ipv6), private=private
        )
        self.relays: Callable[[], tuple[Contact, ...]] = lambda: ()
        self.relayed_for: Callable[[], int] = lambda: 0
        self.on_verdict: Callable[[], None] = lambda: None  # called when another address is believed, or none any more

    # -- what the DHT asks -------------------------------------------------------------------------------

    def believes(self, own: OwnAddress) -> bool:
        """Whether strangers can reach us there."""
        return self._judgement.believes(own)

    def is_open(self, *, ipv6: bool) -> bool:
        """Whether peers of a family may take us for a node that serves."""
        return self._judgement.is_open(ipv6=ipv6, now=trio.current_time())

    def changed(self) -> None:
        """What may be our address may have changed."""
        self._changed.set()

    def reopened(self, *, ipv6: bool) -> None:
        """The home router has opened or closed a port: have strangers try anew."""
        self._reopened += 1
        self._judgement.forget(ipv6=ipv6)
        self._tell()

    # -- what others ask ---------------------------------------------------------------------------------

    @property
    def needs_relays(self) -> bool:
        """Whether peers of a family that matters cannot dial us: IPv4; or IPv6, where there is no way by IPv4."""
        now = trio.current_time()
        by_v4, by_v6 = (self._judgement.is_shut(ipv6=ipv6, now=now) for ipv6 in (False, True))
        has_v4 = any(not each.address.is_ipv6 for each in self._dht.located())
        return by_v4 or (by_v6 and not has_v4)

    @property
    def value(self) -> Reachability:
        """How it stands now."""
        located, relays = self._dht.located(), self.relays()
        seen = [self._dht.peers.observed.best(ipv6=ipv6) for ipv6 in (False, True)]
        external = next((each for each in (*(own.address for own in located), *seen) if each is not None), None)
        return Reachability(self._state(located, relays), external, relays, self.relayed_for())

    def _state(self, located: tuple[OwnAddress, ...], relays: tuple[Contact, ...]) -> Reachable:
        if located:
            return Reachable.MAPPED if located[0].source is AddressSource.MAPPED else Reachable.DIRECT
        if relays:
            return Reachable.RELAYED
        return Reachable.NO if self.needs_relays else Reachable.UNKNOWN

    # -- the task ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: have strangers call where we may be, when that may have changed and every few hours."""
        await self._dht.wait_acquainted()
        was_needed = self.needs_relays
        while True:
            self._changed = trio.Event()
            address, due = self._judgement.next_due(trio.current_time())
            if self.needs_relays != was_needed:
                was_needed = not was_needed
                self._tell()
            with trio.move_on_at(due):
                await self._changed.wait()
                continue
            if address is not None:
                await self._judge(address)

    async def _judge(self, address: Address) -> None:
        reopened = self._reopened
        knocks = await self._dial_back.have_called(address)
        if self._has_grounds(address) and verdict_of(knocks) is Openness.SHUT:
            await trio.sleep(SECOND_LOOK_S)  # two liars may have been asked; now others are
            knocks = await self._dial_back.have_called(address)
        if reopened != self._reopened:  # meanwhile: it is judged again
            return
        if self._judgement.note(address, knocks, trio.current_time()):
            self._tell()

    def _has_grounds(self, address: Address) -> bool:
        """Whether more than a guess speaks for an address: strangers got through, or machine or router know it."""
        found = self._judgement.verdict(address) is Openness.OPEN
        return any(
            own.address == address and (found or own.source is not AddressSource.OBSERVED)
            for own in self._dht.located()
        )

    def _tell(self) -> None:
        self._dht.on_belief()
        self.on_verdict()
