"""Asking everybody at once, in an order that nobody can spoil by naming many who do not answer."""

import pytest
import trio
import trio.testing

from shoal.dht import Address, Contact, NodeId
from shoal.node.channel import Unreachable
from shoal.node.holders.everyone import ASKED_AT_ONCE, ask_everyone

REAL = 20


def contact(number: int, port: int = 4750) -> Contact:
    return Contact(NodeId(number.to_bytes(32, "big")), Address.of("198.51.100.7", port))


@pytest.mark.parametrize("attempt", range(8))  # tasks of one batch run in any order
async def test_who_stands_first_is_asked_before_many_who_are_silent(
    autojump_clock: trio.testing.MockClock, attempt: int
) -> None:
    async def ask(asked: Contact, on_busy: object) -> int:
        number = int.from_bytes(asked.node_id, "big")
        if number >= REAL:
            await trio.sleep_forever()
        return number

    nodes = [[contact(number)] for number in range(REAL + 3 * ASKED_AT_ONCE)]
    answers = await ask_everyone(nodes, ask, timeout_s=3.0)
    assert [answers[contacts[0]] for contacts in nodes] == [*range(REAL), *[None] * (3 * ASKED_AT_ONCE)]


async def test_further_addresses_are_tried_where_one_does_not_answer() -> None:
    async def ask(asked: Contact, on_busy: object) -> int:
        if asked.address.port == 1:
            raise Unreachable("gone")
        return asked.address.port

    answers = await ask_everyone([[contact(1, 1), contact(1, 2), contact(1, 3)], [contact(2, 1)]], ask, timeout_s=3.0)
    assert answers[contact(1, 1)] == 2
    assert isinstance(answers[contact(2, 1)], Unreachable)
