"""Asking every known holder of a file the same thing, all at once."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import trio

from shoal.dht import Address, Contact, NodeId
from shoal.node.channel import Misbehaved, PeerError, Unreachable
from shoal.node.holders.announcers import Hint
from shoal.node.nursery import open_nursery

T = TypeVar("T")

ASKED_AT_ONCE = 48  # of the 64 connections a node keeps
MAX_ADDRESSES = 3  # tried of one node


def by_node(hints: Iterable[Hint]) -> list[tuple[list[Contact], set[int]]]:
    """The nodes that are named: each with the addresses it is said to have, and the shares it is said to keep."""
    addresses: dict[NodeId, list[Address]] = {}
    shares: dict[NodeId, set[int]] = {}
    for hint in hints:
        known = addresses.setdefault(hint.contact.node_id, [])
        if hint.contact.address not in known and len(known) < MAX_ADDRESSES:
            known.append(hint.contact.address)
        shares.setdefault(hint.contact.node_id, set()).add(hint.share)
    return [([Contact(node_id, address) for address in known], shares[node_id]) for node_id, known in addresses.items()]


async def ask_everyone(
    nodes: Sequence[Sequence[Contact]], ask: Callable[[Contact], Awaitable[T]], *, timeout_s: float
) -> dict[Contact, T | PeerError | None]:
    """What each node answered: a reply, an error, or None when the time was up. Several addresses are tried in turn.

    Who stands first is asked first: when time is short, many names that were invented stand in nobody's way.
    """
    slots = trio.Semaphore(ASKED_AT_ONCE)
    answers: dict[Contact, T | PeerError | None] = {contacts[0]: None for contacts in nodes}

    async def ask_node(contacts: Sequence[Contact]) -> None:
        try:
            for contact in contacts:
                try:
                    answers[contacts[0]] = await ask(contact)
                    return
                except (Unreachable, Misbehaved) as error:
                    answers[contacts[0]] = error
                except PeerError as error:
                    answers[contacts[0]] = error
                    return
        finally:
            slots.release()

    with trio.move_on_after(timeout_s):
        async with open_nursery() as nursery:
            for contacts in nodes:
                await slots.acquire()
                nursery.start_soon(ask_node, contacts)
    return answers
