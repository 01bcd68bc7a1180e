"""Whether peers answer, and if not, whose fault it seems to be: this machine's line, or theirs.

Nothing is asked before somebody wants to know, and nothing while peers answer by themselves.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from enum import Enum

import trio

from shoal.dht import Address, Contact, QueryError
from shoal.node.channel import PeerError
from shoal.node.context import Context
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

FRESH_S = 60.0  # an answer so young shows that datagrams pass
# A connection so young shows that connections pass; what was found is looked at again after FRESH_S when it was bad.
CONNECTED_S = 900.0
ASKED = 8  # contacts that are pinged, by chance
DIALLED = 3  # contacts that are called
LOOK_S = 1.9  # for answers and connections
HEAD_START_S = 0.6  # of pings: nobody is called when one is answered at once
FAILED_LOOKS = 2  # in a row before it is said that connections fail: the three that were called may just be busy


class LineState(Enum):
    """What a node has found out about its line."""

    GOOD = "good"  # a peer has answered
    ALONE = "alone"  # there is nobody to ask
    NO_ADDRESS = "no_address"  # this machine cannot send to any peer
    NO_DATAGRAMS = "no_datagrams"  # connections pass, datagrams do not
    NO_CONNECTIONS = "no_connections"  # datagrams pass, connections do not
    THEY_ARE_GONE = "they_are_gone"  # their machines answer that no node listens there
    SILENCE = "silence"  # this machine has an address and a way, and nothing comes back


class Connectivity:
    """What the last look found. `look` takes two seconds at most."""

    def __init__(self) -> None:
        self.line = LineState.ALONE
        self._dialled_at = float("-inf")
        self._looking = trio.Lock()
        self._told = ""
        self._failed_looks = 0  # in a row, at which no connection could be made

    def sentences(self) -> list[str]:
        """What is wrong, and what to do about it. Nothing when peers answer, or when there is nobody to ask."""
        return [self._told] if self._told else []

    async def look(self, context: Context) -> None:
        """Find out. Where a peer has answered within the last minute, and a connection was made lately, ask nobody."""
        async with self._looking:
            self.line, self._told = await self._judge(context)

    async def _judge(self, context: Context) -> tuple[LineState, str]:
        begun = trio.current_time()
        contacts, lost = list(context.dht.contacts()), context.dht.lost_contacts()
        known = list({each.address: each for each in [*contacts, *lost]}.values())
        if not known:
            return LineState.ALONE, ""
        asked = context.env.rng.sample(known, min(ASKED, len(known)))
        signs = _Signs(answered=True) if _answered_lately(context) else await _signs_of(context, asked, asked[:DIALLED])
        if signs.answered:
            return await self._judge_connections(context, contacts, LOOK_S - (trio.current_time() - begun))
        self._failed_looks = 0
        peers = "The only peer that this node knows" if len(known) == 1 else f"None of the {len(known)} peers it knows"
        gone = [each for each in context.dht.addresses if not each.is_wildcard and not await context.dht.is_ours(each)]
        if gone:
            return LineState.NO_ADDRESS, (
                f"No peer answers: this machine no longer has the address {gone[0].host}, on which the node listens. "
                "Restart the node with another --listen, or connect the machine again."
            )
        if all(context.dht.local_host(each.address) is None for each in known):
            return LineState.NO_ADDRESS, (
                "No peer answers: this machine has no address or no route to any of them. Look at its network "
                "connection. The node goes on by itself when there is one."
            )
        if signs.reached:
            return LineState.NO_DATAGRAMS, (
                f"No peer answers datagrams (UDP), although connections (TCP) to {signs.reached[0]} work. A firewall "
                f"or router drops UDP: allow it, in and out, for port {_port(context)}."
            )
        if signs.refused:
            return LineState.THEY_ARE_GONE, (
                f"{peers} answers, while this machine's line works: {signs.refused[0].host} says that no node runs "
                "there. They have stopped, or moved. The node finds them when they come back. A new address is given "
                "with --bootstrap."
            )
        return LineState.SILENCE, (
            f"{peers} answers, neither datagrams nor connections. This machine has an address and a route, so the line "
            "behind it is cut, a firewall drops everything, or all peers are gone. Look whether other programs reach "
            "the internet."
        )

    async def _judge_connections(
        self, context: Context, contacts: Sequence[Contact], left_s: float
    ) -> tuple[LineState, str]:
        """Datagrams pass. Whether connections do is tried once in a while, and after a failure at each look."""
        now = trio.current_time()
        wait_s = FRESH_S if self._failed_looks else CONNECTED_S
        if now - _connected_at(context) < CONNECTED_S or not contacts:
            self._failed_looks = 0
            return LineState.GOOD, ""
        if now - self._dialled_at < wait_s:
            is_bad = self.line is LineState.NO_CONNECTIONS
            return (self.line, self._told) if is_bad else (LineState.GOOD, "")
        self._dialled_at = now
        dialled = contacts[:DIALLED]  # those that answered last
        signs = await _signs_of(context, [], dialled, left_s)
        self._failed_looks = 0 if signs.reached or signs.refused else self._failed_looks + 1
        if self._failed_looks < FAILED_LOOKS:
            return LineState.GOOD, ""
        return LineState.NO_CONNECTIONS, (
            f"Peers answer datagrams (UDP), but no connection (TCP) to {_told(dialled)} works, so no share can be "
            "moved or checked. A firewall or router drops TCP: allow connections out to any port, and in to port "
            f"{_port(context)}."
        )


def _answered_lately(context: Context) -> bool:
    _, last_s = context.dht.answers(FRESH_S)
    return last_s is not None and last_s < FRESH_S


def _connected_at(context: Context) -> float:
    """When a connection of ours last reached the peer that was meant."""
    return float("-inf") if context.pool.dials is None else context.pool.dials.succeeded_at


@dataclass
class _Signs:
    """What came back: any answer to a ping, where a connection was made, and where one was refused at once."""

    answered: bool = False
    reached: list[Address] = field(default_factory=list)
    refused: list[Address] = field(default_factory=list)


async def _signs_of(
    context: Context, pinged: Sequence[Contact], dialled: Sequence[Contact], within_s: float = LOOK_S
) -> _Signs:
    """Ping and call contacts. An answer to a ping ends it; without pings the first connection does."""
    signs = _Signs()

    async def ping(contact: Contact) -> None:
        with suppress(QueryError):
            await context.dht.peers.ping(contact.address, contact.node_id)
            signs.answered = True
            nursery.cancel_scope.cancel()

    async def dial(contact: Contact) -> None:
        await trio.sleep(HEAD_START_S if pinged else 0.0)
        try:
            (await context.env.streams.connect(contact.address)).abort()
        except PeerError as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                signs.refused.append(contact.address)
            return
        signs.reached.append(contact.address)
        if not pinged:
            nursery.cancel_scope.cancel()

    with trio.move_on_after(within_s):
        async with open_nursery() as nursery:
            for contact in pinged:
                nursery.start_soon(ping, contact)
            for contact in dialled:
                nursery.start_soon(dial, contact)
    return signs


def _port(context: Context) -> int:
    return context.dht.addresses[0].port


def _told(contacts: Sequence[Contact]) -> str:
    return ", ".join(str(each.address) for each in contacts)
