"""In which order hints are tried: no informant can fill the front."""

import random

from shoal.dht import Address, Contact, NodeId
from shoal.node.holders.announcers import Hint
from shoal.node.holders.leads import MAX_CLAIMS, MAX_HINTS, Leads

RNG = random.Random(1)


def contact() -> Contact:
    return Contact(NodeId(RNG.randbytes(32)), Address(f"10.0.{RNG.randrange(256)}.1", 4750))


def test_the_first_claim_of_everybody_comes_before_the_second_of_anybody() -> None:
    leads = Leads()
    leads.hear(Hint(3, contact()) for _ in range(64))
    honest = Hint(3, contact())
    leads.hear([honest])
    assert leads.hints().index(honest) == 1
    assert len(leads.hints()) == MAX_CLAIMS + 1


def test_signers_are_asked_before_those_they_name() -> None:
    leads, signers = Leads(), [contact() for _ in range(5)]
    for signer in signers:
        leads.hear([Hint(share, contact()) for share in range(10)], first=signer)
    assert [leads.next_contact() for _ in signers] == signers
    assert len(list(iter(leads.next_contact, None))) == 50
    assert not leads.pending


def test_a_node_at_two_addresses_is_two_leads() -> None:
    leads, true = Leads(), contact()
    leads.hear([Hint(1, Contact(true.node_id, Address("10.9.9.9", 1)))])
    leads.hear([Hint(1, true)])
    assert {hint.contact.address for hint in leads.hints()} == {Address("10.9.9.9", 1), true.address}


def test_a_flood_is_bounded() -> None:
    leads = Leads()
    for _ in range(100):
        leads.hear([Hint(share, contact()) for share in range(64)], first=contact())
    assert len(leads.hints()) <= MAX_HINTS
    assert len(leads) <= MAX_HINTS
