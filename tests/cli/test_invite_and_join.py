"""Invites by the command line: a home joins by a line of text, and is on one network from then on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.commands.publish import fetch_words
from shoal.cli.context import Globals
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import Invitation, Network, NetworkParameters, Peer, Published, invite_to, parse_invite

LAN = Network(NetworkParameters("lan", 0, True), (Peer("192.168.1.20:4750"),))
LINK = Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32))


@pytest.fixture
def run(inside: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A command in a home of the folder, without a network file unless one is given."""
    return lambda *arguments, home="here", **variables: inside(
        *arguments, environment={"SHOAL_HOME": str(tmp_path / home), **variables}
    )


def last(done: Any) -> dict[str, Any]:
    message = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(message, dict)
    return message


def test_what_one_home_publishes_another_fetches_by_an_invite_alone(
    run: Callable[..., Any], swarm: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1000))
    published = last(run("--json", "publish", str(tmp_path / "file"), SHOAL_NETWORK=swarm.network_file))
    link, invite = published["link"], published["invite"]
    fetched = run("--network", invite, "fetch", link, "-o", str(tmp_path / "one"), home="elsewhere")
    assert fetched.returncode == 0, fetched.stderr
    made = last(run("--json", "invite", SHOAL_NETWORK=swarm.network_file))
    assert made["answered"] == len(made["peers"]) == 3
    assert {peer["node_id"] for peer in made["peers"]} <= {node["node_id"] for node in swarm.ready["nodes"]}
    joined = last(run("--json", "join", made["invite"], home="third"))
    assert joined["answers"]
    assert joined["network"] == made["network"]
    fetched = run("fetch", link, "-o", str(tmp_path / "two"), home="third")
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "file").read_bytes()


def test_an_invite_that_leads_nowhere(run: Callable[..., Any], swarm: Any) -> None:
    home = swarm.ready["nodes"][0]["home"]
    refused = run("join", invite_to(LAN), home=home)
    assert refused.returncode == 2
    assert "belongs to the network 'swarm-" in refused.stderr
    assert "not to 'lan'" in refused.stderr
    assert not (Path(home) / "network.toml").exists()
    local = run("invite", SHOAL_NETWORK=swarm.network_file)
    assert "on this machine" in local.stderr
    assert parse_invite(local.stdout).parameters.name.startswith("swarm-")


def test_a_home_on_a_network_where_nobody_is(run: Callable[..., Any], tmp_path: Path) -> None:
    alone = Network(NetworkParameters("alone", 0, True), (Peer("127.0.0.1:9"),))
    (tmp_path / "alone.toml").write_text(alone.to_toml())
    made = run("node", "init", "--listen", "127.0.0.1:0", SHOAL_NETWORK=str(tmp_path / "alone.toml"))
    assert made.returncode == 0, made.stderr
    assert run("node", "status").returncode == 1, "its network need not be named again"
    other = run("node", "run", SHOAL_NETWORK=invite_to(LAN))
    assert other.returncode == 2
    assert "belongs to the network 'alone', not to 'lan'" in other.stderr
    printed = run("invite")
    assert printed.returncode == 0
    assert "untried" in printed.stderr
    assert parse_invite(printed.stdout) == alone
    (tmp_path / "empty.toml").write_text(Network(alone.parameters).to_toml())
    assert run("invite", home="other", SHOAL_NETWORK=str(tmp_path / "empty.toml")).returncode == 13


def test_an_invite_to_a_network_that_needs_no_peer(run: Callable[..., Any], tmp_path: Path) -> None:
    meeting = Network(NetworkParameters("meeting", 0, True), (), ("127.0.0.1:9",))
    (tmp_path / "meeting.toml").write_text(meeting.to_toml())
    printed = run("invite", SHOAL_NETWORK=str(tmp_path / "meeting.toml"))
    assert printed.returncode == 0, printed.stderr
    assert "through the Mainline DHT" in printed.stderr
    assert parse_invite(printed.stdout) == meeting


@pytest.mark.parametrize(
    ("arguments", "word"), [(["join", "shoal-net:abc"], "not whole"), (["join", "x"], "not an invite")]
)
def test_no_invite(run: Callable[..., Any], arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_join_takes_its_network_from_the_invite_alone(run: Callable[..., Any]) -> None:
    done = run("join", invite_to(LAN), SHOAL_NETWORK="some.toml")
    assert done.returncode == 2
    assert "leave --network" in done.stderr


def test_the_command_for_another_machine_has_the_network_in_it() -> None:
    settings = Globals.of({"network": "/somewhere/on/this/machine.toml", "home": "/here"})
    done = Published(LINK, 1, 1, 3, 3, 3, 3, 0.1, 3, 0, 1_800_000_000.0)
    invitation = Invitation(invite_to(LAN), LAN, 1, False)
    here, there = [line for line in fetch_words(settings, done, invitation).splitlines() if line.startswith("  shoal")]
    assert "/somewhere/on/this/machine.toml" in here
    assert there == f"  shoal --network {invitation.text} fetch '{LINK}'"
    local = fetch_words(settings, done, Invitation(invite_to(LAN), LAN, 1, True))
    assert "from another one it cannot be fetched" in local
    assert "shoal-net:" not in fetch_words(settings, done, None)
