"""What a node's reachability says to its volunteer."""

import pytest

from shoal.dht import Address, Contact, NodeId
from shoal.node import Level, diagnose
from shoal.node.reach.reachability import Reachability, Reachable

RELAY = Contact(NodeId(bytes(32)), Address("5.1.0.1", 4750))


def test_only_a_node_that_nobody_reaches_has_a_problem() -> None:
    assert [each for each in Reachable if Reachability(each).sentences()] == [Reachable.NO]


@pytest.mark.parametrize("state", list(Reachable))
def test_the_doctor_knows_every_word_of_it(state: Reachable) -> None:
    """The doctor reads plain values: a word that only one of the two knows would be a rule that never applies."""
    reached = Reachability(state, Address("5.5.5.1", 4750), (RELAY,) * 3)
    (told,) = [each for each in diagnose(reached.as_plain()).findings if each.subject == "reachable"]
    level = {Reachable.NO: Level.PROBLEM, Reachable.DIRECT: Level.OK, Reachable.MAPPED: Level.OK}
    assert told.level is level.get(state, Level.NOTE)
    assert ("Nobody outside has tried" in told.says) == (state is Reachable.UNKNOWN)
    assert ("Relays ring it" in told.says) == (state is Reachable.RELAYED)
