"""What a status comes to: what is wrong, what it means, what to do."""

from typing import Any

import pytest

from shoal.cli.commands.doctor import lines
from shoal.node import Diagnosis, Level, Symptom, diagnose

GOOD: dict[str, Any] = {
    "version": "1",
    "reachable": "mapped",
    "external_address": "5.5.5.1:4750",
    "observed_address": "5.5.5.1:4750",
    "observed_ipv6": "[2a00::1]:4750",
    "own_ipv6": "2a00::1",
    "mapping": {
        "state": "mapped",
        "protocol": "UPnP",
        "router": "192.168.1.1",
        "external": "5.5.5.1:4750",
        "lease_s": 3600,
        "reason": "",
    },
    "relays": [],
    "relayed_for": 2,
    "addresses": ["0.0.0.0:4750", "[::]:4750"],
    "line": "good",
    "peers": 17,
    "last_answer_s": 4,
    "clock_ahead_s": 0.4,
    "used_bytes": 2 * 10**9,
    "capacity_bytes": 50 * 10**9,
    "available_bytes": 48 * 10**9,
    "free_disk_bytes": 600 * 10**9,
    "problems_of": {"node": [], "disk": [], "clock": [], "line": []},
}
UNMAPPED = {"state": "no_router", "protocol": "", "router": "", "external": None, "lease_s": None, "reason": ""}


def found(**changes: Any) -> dict[str, Symptom]:
    return {each.subject: each for each in diagnose(GOOD | changes).findings}


def problems(**changes: Any) -> list[str]:
    return [each.subject for each in diagnose(GOOD | changes).findings if each.level is Level.PROBLEM]


def mapping(**changes: Any) -> dict[str, Any]:
    return {**GOOD["mapping"], **changes}


def test_all_is_well() -> None:
    diagnosis = diagnose(GOOD, version="1")
    assert diagnosis.is_well
    assert all(each.level is Level.OK and not each.advice for each in diagnosis.findings)
    assert lines(diagnosis.findings).splitlines() == [
        "ok       reachable: Others call this node at 5.5.5.1:4750 through a port that the router opened.",
        "ok       router: The router at 192.168.1.1 opened port 5.5.5.1:4750 by UPnP, for 60 minutes at a time.",
        "ok       address: Peers see this node at 5.5.5.1. That is the router's own address.",
        "ok       relays: This node needs no relay. It rings 2 other nodes.",
        "ok       line: This node knows 17 peers; the last answered 4 seconds ago.",
        "ok       datagrams: Peers answer datagrams (UDP).",
        "ok       connections: Connections (TCP) to peers work.",
        "ok       ipv6: Peers see this node by IPv6 at [2a00::1]:4750.",
        "ok       clock: The clock agrees with those of the peers.",
        "ok       disk: 2.0 GB of 50.0 GB are in use, and the disk has 600.0 GB free.",
        "ok       version: The node runs Shoal 1.",
    ]


def test_what_it_means_and_what_to_do_stand_below() -> None:
    finding = Symptom("x", Level.PROBLEM, "It is so.", "It means that.", "Do this.\x1b[1m")
    assert lines(Diagnosis((finding,)).findings).splitlines() == [
        "problem  x: It is so.",
        "         It means that.",
        "         Do this.\\x1b[1m",
    ]


def test_a_node_that_nobody_can_call_is_a_problem_with_a_way_out() -> None:
    told = found(reachable="no", mapping=UNMAPPED)
    assert (told["reachable"].level, told["router"].level) == (Level.PROBLEM, Level.PROBLEM)
    assert "forward the port by hand" in told["reachable"].advice
    firewall = found(reachable="no")["reachable"]  # the router has opened the port, and nobody gets in
    assert "firewall on this machine" in firewall.advice
    shared = found(reachable="no", mapping=mapping(external="100.64.7.2:4750"))[
        "reachable"
    ]  # what it opened is of no use
    assert "firewall on this machine" not in shared.advice


def test_a_relayed_node_is_well_and_is_told_how_it_would_do_better() -> None:
    changes = {"reachable": "punched-or-relayed", "relays": ["5.1.0.1:4750", "5.2.0.1:4750"], "mapping": UNMAPPED}
    assert problems(**changes) == []
    told = found(**changes)
    assert told["relays"].says.startswith("2 of 3 relays ring this node: 5.1.0.1:4750, 5.2.0.1:4750.")
    assert (told["relays"].level, told["reachable"].level) == (Level.NOTE, Level.NOTE)


@pytest.mark.parametrize("state", ["no_router", "refused", "off"])
def test_no_port_is_no_problem_where_others_get_in(state: str) -> None:
    changed = mapping(state=state, external=None, reason="it does not map ports")
    told = found(reachable="direct", mapping=changed)
    assert told["router"].level is Level.NOTE
    assert told["router"].advice == ""
    assert problems(reachable="direct", mapping=changed) == []
    assert problems(reachable="no", mapping=changed) == ["reachable", "router"]


@pytest.mark.parametrize(
    ("outside", "words"),
    [("100.64.7.2:4750", "carrier-grade NAT"), ("192.168.0.9:4750", "second router"), ("9.9.9.9:4750", "mistaken")],
)
def test_an_address_that_peers_do_not_see_is_told_as_what_it_is(outside: str, words: str) -> None:
    told = found(mapping=mapping(external=outside), reachable="no")["address"]
    assert (told.level, words in told.means, bool(told.advice)) == (Level.PROBLEM, True, True)
    assert problems(mapping=mapping(external=outside), reachable="punched-or-relayed") == []
    assert found(mapping=mapping(external=outside), reachable="direct")["address"].advice == ""


@pytest.mark.parametrize(
    ("line", "bad", "unknown"),
    [
        ("no_datagrams", "datagrams", set()),
        ("no_connections", "connections", set()),
        ("silence", "line", {"datagrams", "connections"}),
        ("no_address", "line", {"datagrams", "connections"}),
        ("they_are_gone", "line", {"datagrams", "connections"}),
    ],
)
def test_what_is_wrong_with_the_line_is_told_once(line: str, bad: str, unknown: set[str]) -> None:
    changes = {"line": line, "problems_of": {"line": ["A firewall drops it."]}}
    assert problems(**changes) == [bad]
    told = found(**changes)
    assert told[bad].says == "A firewall drops it."
    assert {name for name in ("datagrams", "connections") if told[name].level is Level.NOTE} == unknown


def test_another_port_outside_is_worth_a_note() -> None:
    told = found(mapping=mapping(external="5.5.5.1:4752"))["router"]
    assert (told.level, "another port to listen on" in told.advice) == (Level.NOTE, True)


def test_the_first_node_of_a_network_is_not_ill() -> None:
    changes = {"line": "alone", "peers": 0, "last_answer_s": None, "reachable": "unknown", "observed_address": None}
    assert problems(**changes) == []
    assert "shoal join" in found(**changes)["line"].advice


def test_clock_disk_version_and_the_rest() -> None:
    assert problems(problems_of={"clock": ["It is 3 hours behind."]}) == ["clock"]
    assert found(clock_ahead_s=-300.0)["clock"].says == "The clock is 5 minutes ahead of those of the peers."
    assert found(clock_ahead_s=None)["clock"].level is Level.NOTE
    assert problems(problems_of={"disk": ["The disk is full."]}) == ["disk"]
    assert found(available_bytes=0)["disk"].level is Level.NOTE
    assert found(used_bytes=None)["disk"].level is Level.NOTE
    assert problems(problems_of={"node": ["Another node runs with this key."]}) == ["node"]
    stale = next(each for each in diagnose(GOOD, version="2").findings if each.subject == "version")
    assert (stale.level, stale.advice) == (Level.PROBLEM, "Restart the node.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"own_ipv6": None}, "no IPv6 to the internet"),
        ({"addresses": ["0.0.0.0:4750"]}, "does not listen on it"),
        ({"observed_ipv6": None}, "No peer has seen it there yet"),
    ],
)
def test_ipv6_is_never_a_problem(changes: dict[str, Any], words: str) -> None:
    told = found(**changes)["ipv6"]
    assert (told.level, words in told.says) == (Level.NOTE, True)


def test_a_firewall_that_the_router_opened_is_told() -> None:
    assert found(mapping_ipv6={"state": "mapped"})["ipv6"].says.endswith(":4750. The router lets calls in.")


def test_a_status_that_lacks_everything_has_a_diagnosis() -> None:
    """One of another version."""
    assert {each.subject for each in diagnose({}).findings} >= {"reachable", "line", "clock", "disk", "version"}
    odd = {"mapping": {"state": "later"}, "reachable": "by-pigeon", "line": "new", "observed_address": "no:1:2"}
    assert diagnose(odd).is_well
