"""Whether peers answer, and if not, whose fault it seems to be: this machine's line, or theirs.

Nothing is asked before somebody wants to know, and nothing while peers answer by themselves.
"""

from collections.abc import Sequence
from enum import Enum
from functools import partial

import trio

from shoal.dht import Address, Contact, QueryError
from shoal.node.channel import PeerError
from shoal.node.context import Context
from shoal.node.nursery import open_nursery

FRESH_S = 60.0  # an answer so young shows that datagrams pass
# A connection so young shows that connections pass; what was found is looked at again after FRESH_S when it was bad.
CONNECTED_S = 900.0
ASKED = 8  # contacts that are pinged, by chance
DIALLED = 3  # contacts that are called
PINGS_S = 1.0  # for the first answer; two attempts fit into it
DIALS_S = 1.0  # for the first connection


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

    def sentences(self) -> list[str]:
        """What is wrong, and what to do about it. Nothing when peers answer, or when there is nobody to ask."""
        return [self._told] if self._told else []

    async def look(self, context: Context) -> None:
        """Find out. Where a peer has answered within the last minute, and a connection was made lately, ask nobody."""
        async with self._looking:
            self.line, self._told = await self._judge(context)

    async def _judge(self, context: Context) -> tuple[LineState, str]:
        contacts, lost = list(context.dht.contacts()), context.dht.lost_contacts()
        known = list({each.address: each for each in [*contacts, *lost]}.values())
        if not known:
            return LineState.ALONE, ""
        asked = context.env.rng.sample(known, min(ASKED, len(known)))
        if _answered_lately(context) or await _is_answered(context, asked):
            return await self._judge_connections(context, contacts)
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
        reached, refused = await _dial(context, asked[:DIALLED])
        if reached:
            return LineState.NO_DATAGRAMS, (
                f"No peer answers datagrams (UDP), although connections (TCP) to {reached[0]} work. A firewall or "
                f"router drops UDP: allow it, in and out, for port {_port(context)}."
            )
        if refused:
            return LineState.THEY_ARE_GONE, (
                f"{peers} answers, while this machine's line works: {refused[0].host} says that no node runs there. "
                "They have stopped, or moved. The node finds them when they come back; a new address can be given "
                "with --bootstrap."
            )
        return LineState.SILENCE, (
            f"{peers} answers, neither datagrams nor connections. This machine has an address and a route, so the line "
            "behind it is cut, a firewall drops everything, or all peers are gone. Look whether other programs reach "
            "the internet."
        )

    async def _judge_connections(self, context: Context, contacts: Sequence[Contact]) -> tuple[LineState, str]:
        """Datagrams pass. Whether connections do is tried once in a while, and after a failure at each look."""
        now = trio.current_time()
        wait_s = FRESH_S if self.line is LineState.NO_CONNECTIONS else CONNECTED_S
        if now - _connected_at(context) < CONNECTED_S or not contacts:
            return LineState.GOOD, ""
        if now - self._dialled_at < wait_s:
            is_bad = self.line is LineState.NO_CONNECTIONS
            return (self.line, self._told) if is_bad else (LineState.GOOD, "")
        self._dialled_at = now
        dialled = contacts[:DIALLED]  # those that answered last
        reached, refused = await _dial(context, dialled)
        if reached or refused:
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


async def _is_answered(context: Context, contacts: Sequence[Contact]) -> bool:
    """Whether any of them answers a ping in time."""
    answered = False
    with trio.move_on_after(PINGS_S):
        async with open_nursery() as nursery:

            async def ping(contact: Contact) -> None:
                nonlocal answered
                try:
                    await context.dht.peers.ping(contact.address, contact.node_id)
                except QueryError:
                    return
                answered = True
                nursery.cancel_scope.cancel()

            for contact in contacts:
                nursery.start_soon(ping, contact)
    return answered


async def _dial(context: Context, contacts: Sequence[Contact]) -> tuple[list[Address], list[Address]]:
    """Call them: where a connection was made, and where one was refused at once. The first of either is enough."""
    reached: list[Address] = []
    refused: list[Address] = []
    with trio.move_on_after(DIALS_S):
        async with open_nursery() as nursery:

            async def dial(contact: Contact) -> None:
                try:
                    (await context.env.streams.connect(contact.address)).abort()
                except PeerError as error:
                    if isinstance(error.__cause__, ConnectionRefusedError):
                        refused.append(contact.address)
                    return
                reached.append(contact.address)
                nursery.cancel_scope.cancel()

            for contact in contacts:
                nursery.start_soon(partial(dial, contact))
    return reached, refused


def _port(context: Context) -> int:
    return context.dht.addresses[0].port


def _told(contacts: Sequence[Contact]) -> str:
    return ", ".join(str(each.address) for each in contacts)
