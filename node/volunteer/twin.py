"""Another process that runs with this node's key, as when a backup was restored on a second machine.

Peers keep one address for an id, the latest. So two processes with one key take each other's calls, and each fails the
audits of the shares that the other has. Neither can be told to be the false one, and a thief of the key could end the
right one if a node ended itself for that. So a node goes on, and says it loudly.

Peers that know our id at another address say so when we ask them (docs/dht.md). Anybody may lie about that. So we call
the address: the handshake proves the key, and the status says which process answers. That call tells the other one as
well: nobody else has the key to ask for its status from another machine.

Each host that says so has one address that waits to be called, and these are called in turn. So a liar does not keep
an honest peer's word from us. A call counts among the node's other calls that brought no peer (`Dials`). While that
budget is used up for a host, an address there goes on waiting.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from shoal.dht import Address, Identity, NetworkParameters
from shoal.node.care.problems import Problems
from shoal.node.channel import Dials, GetStatus, LeftAlone, PeerError, Role, StreamNetwork, open_connection
from shoal.node.formats import unpack
from shoal.values import dataclass

MAX_SUSPECTS = 64  # hosts that say where our id is, each with one address; more are not listened to
LOOK_EVERY_S = 60.0  # one address: all that a liar can have us call
LOOK_TIMEOUT_S = 20.0
AGAIN_S = 3600.0  # a twin is called again so long after it has answered,
LATER_S = 600.0  # or after we might not call it
INSTANCE_BYTES = 8

log = logging.getLogger(__name__)


class Senseless(Exception):
    """The answer is no status."""


@dataclass(frozen=True)
class Myself:
    """This process. `addresses` are where it listens and where others reach it."""

    identity: Identity
    network: NetworkParameters
    instance: Callable[[], str]
    addresses: Callable[[], Iterable[Address]]


class TwinWatch:
    """Looks where our id is said to be, and tells `problems` of a twin for as long as it answers."""

    def __init__(self, streams: StreamNetwork, dials: Dials | None, myself: Myself, problems: Problems) -> None:
        self._streams = streams
        self._dials = dials
        self._myself = myself
        self._problems = problems
        self._suspects: OrderedDict[bytes, Address] = OrderedDict()  # by the place that said so, longest waiting first
        self._news = trio.Event()
        self._twin: Address | None = None
        self._look_at_twin_at = math.inf

    def heard(self, address: Address, said_by: Address) -> None:
        """A peer says that our id is at this address."""
        self._suspect(address, said_by.place(private=self._myself.network.private))

    def _suspect(self, address: Address, place: bytes) -> None:
        known = (self._twin, *self._suspects.values(), *self._myself.addresses())
        if address not in known and place not in self._suspects and len(self._suspects) < MAX_SUSPECTS:
            self._suspects[place] = address
            self._news.set()

    def asked(self, remote: Address) -> None:
        """Somebody with our key has asked for our status. From another machine that is a twin, at ports like ours."""
        if not remote.is_loopback:
            for port in {address.port for address in self._myself.addresses()}:
                address = Address(remote.host, port)
                self._suspect(address, address.pack())  # it has proven our key: each port counts by itself

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with trio.move_on_at(self._look_at_twin_at):
                await self._news.wait()
            if self._twin is not None and trio.current_time() >= self._look_at_twin_at:
                self._look_at_twin_at = trio.current_time() + LATER_S
                with suppress(LeftAlone):
                    await self._look(self._twin)
            elif self._suspects:
                place, address = self._suspects.popitem(last=False)
                try:
                    await self._look(address)
                except LeftAlone:
                    self._suspects[place] = address  # the last of those that wait
            if not self._suspects:
                self._news = trio.Event()
            await trio.sleep(LOOK_EVERY_S)

    async def _look(self, address: Address) -> None:
        """Call one address. Where a twin answers, it is called again after a while. Raises LeftAlone."""
        if await self._is_twin(address):
            self._look_at_twin_at = trio.current_time() + AGAIN_S
            self._tell(address)
        elif self._twin == address:
            self._twin, self._look_at_twin_at, self._problems.twin = None, math.inf, ""

    async def _is_twin(self, address: Address) -> bool:
        me = self._myself
        with trio.move_on_after(LOOK_TIMEOUT_S):
            try:
                async with open_connection(self._streams, address, me.identity.node_id, dials=self._dials) as peer:
                    await peer.identify(me.identity, me.network, Role.ADMIN, timeout_s=LOOK_TIMEOUT_S)
                    reply = await peer.request(GetStatus(), timeout_s=LOOK_TIMEOUT_S)
                status = unpack(bytes(reply.payload), Senseless, most_items=1024, most_pairs=1024)
            except LeftAlone:
                raise
            except (PeerError, Senseless):
                return False
            return isinstance(status, dict) and status.get("instance") != me.instance()
        return False

    def _tell(self, address: Address) -> None:
        own = next(iter(self._myself.addresses()), None)
        self._problems.twin = (
            f"Another node runs with this node's key: it is at {address}, this one is at {own}. Each takes the calls "
            "meant for the other, and files lose shares by that. Stop one of them. If both machines are to have a "
            "node, make a new home for one with: shoal node init"
        )
        if self._twin != address:
            log.warning("%s", self._problems.twin)
        self._twin = address
