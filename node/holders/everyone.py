"""Asking every known holder of a file the same thing, all at once."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

import trio

from shoal.dht import Contact, NodeId
from shoal.node.channel import Misbehaved, PeerError, Unreachable
from shoal.node.errors import Cause
from shoal.node.holders.announcers import Hint
from shoal.node.nursery import open_nursery

T = TypeVar("T")
OnBusy: TypeAlias = Callable[[PeerError], None]

ASKED_AT_ONCE = 48  # of the 64 connections a node keeps
MAX_CONTACTS = 3  # of one node, which was said to be reached in several ways


def by_node(hints: Iterable[Hint]) -> list[tuple[list[Contact], set[int]]]:
    """The nodes that are named: each as it is said to be reached, and the shares it is said to keep."""
    contacts: dict[NodeId, list[Contact]] = {}
    shares: dict[NodeId, set[int]] = {}
    for hint in hints:
        known = contacts.setdefault(hint.contact.node_id, [])
        if hint.contact not in known and len(known) < MAX_CONTACTS:
            known.append(hint.contact)
        shares.setdefault(hint.contact.node_id, set()).add(hint.share)
    return [(known, shares[node_id]) for node_id, known in contacts.items()]


async def ask_everyone(
    nodes: Sequence[Sequence[Contact]], ask: Callable[[Contact, OnBusy], Awaitable[T]], *, timeout_s: float
) -> dict[Contact, T | PeerError | None]:
    """What each node answered: a reply, an error, or None when the time was up. Several addresses are tried in turn.

    `ask` may try a busy node again; it tells its second argument of each answer, in case the time is up meanwhile.
    The node that stands first is asked first. So when time is short, invented names stand in nobody's way.
    """
    slots = trio.Semaphore(ASKED_AT_ONCE)
    answers: dict[Contact, T | PeerError | None] = {contacts[0]: None for contacts in nodes}

    async def ask_node(contacts: Sequence[Contact]) -> None:
        def note(error: PeerError) -> None:
            answers[contacts[0]] = error

        try:
            for contact in contacts:
                try:
                    answers[contacts[0]] = await ask(contact, note)
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


def causes_of_answers(answers: Iterable[object]) -> Counter[Cause]:
    """Why nodes did not do what everybody was asked, as `ask_everyone` gives it."""
    errors = (each for each in answers if each is None or isinstance(each, PeerError))
    return Counter(Cause.SILENT if each is None else each.cause for each in errors)
