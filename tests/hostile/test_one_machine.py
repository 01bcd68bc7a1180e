"""One hostile machine against eight real daemons: they live, honest users are served, and each bound is a number.

Every attack goes on for two seconds, and on until an honest newcomer has published and fetched meanwhile. The public
network is in network namespaces that the test makes itself. `benchmarks/under_attack.py` does the same for minutes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hostile.attacks import ATTACKS
from hostile.rig import Outcome, Times
from hostile.stage import NotAllowedError, Stage, open_stage

EPOCH_S = 5.0  # each file is looked after once or twice while the attacks go on
TIMES = Times(during_s=2.0)
MEMORY_MIB = 30.0  # a daemon may grow by that much
# Under unread reads: 11 MiB of payloads for one place, what TLS holds beside, and honest transfers of the same time.
UNREAD_MIB = 45.0
MOST = {  # of what an attack notes
    "bytes out per byte in": 1.0,
    "expired records revived": 0,
    "nodes that adopted it": 0,
    "datagrams to it from one node": 32,
}
ON_PUBLIC = (  # where a /48 can do more than one address, or the rules differ; the benchmark runs all on both
    *("certificates", "dictators", "pointers", "record flood", "junk signatures", "amplification"),
    *("hellos", "silent", "withheld payloads", "large offers"),
)


@contextmanager
def staged(network: str, factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One network for all tests of a module; the tests are left out where the system forbids it."""
    try:
        with open_stage(network, factory.mktemp(network), epoch_s=EPOCH_S) as opened:
            yield opened
    except NotAllowedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged("private", tmp_path_factory) as opened:
        yield opened


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged("public", tmp_path_factory) as opened:
        yield opened


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_private_network_serves_honest_users(private: Stage, attack: str) -> None:
    check(private.run(attack, TIMES))


@pytest.mark.parametrize("attack", ON_PUBLIC)
def test_a_public_network_serves_honest_users(public: Stage, attack: str) -> None:
    check(public.run(attack, TIMES))


def check(outcome: Outcome) -> None:
    """What holds under every attack."""
    assert outcome.attacker_failure == ""
    assert outcome.ended == [], "daemons ended"
    assert outcome.complaints == ""
    assert outcome.during["publish"]["succeeded"] > 0, outcome.during["failures"]
    assert outcome.during["fetch"]["succeeded"] > 0, outcome.during["failures"]
    grown = [most - before for before, most in zip(outcome.memory_before, outcome.memory_most, strict=True)]
    assert max(grown) < (UNREAD_MIB if outcome.attack == "unread reads" else MEMORY_MIB)
    for name, value in outcome.notes.items():
        assert value <= MOST.get(name, float("inf")), name
