"""Whole networks on this machine: the demo, the swarm, and that nothing of them is ever left behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.commands.demo import DemoOutcome, choose_victims, node_count, summary_fields, words
from shoal.cli.commands.swarm import SwarmState, load_state, save_state
from shoal.cli.exits import BadUsageError, CommandError
from shoal.cli.local_network import NODES_MAX, NODES_MIN, LocalNetwork, LocalNode, last_words, network_text
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import Address, Fetched, Network, Published

DEMO_FIELDS = {"link", "size", "k", "n", "stopped", "publish_s", "fetch_s", "identical"}
GONE_LIMIT_S = 10.0


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes whose command line names `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command:
                found.append(int(entry.name))
    return found


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_LIMIT_S
    while processes_in(folder):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.05)


def published(holders: dict[int, int], k: int, n: int) -> Published:
    """A publish whose share i is on port holders[i]."""
    return Published(
        link=Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32)),
        size=1000,
        k=k,
        n=n,
        happy=n,
        shares=n,
        hosts=n,
        seconds=0.5,
        sent_bytes=3000,
        resumed_bytes=0,
        lease_until=1_800_000_000.0,
        holders={share: Address("127.0.0.1", port) for share, port in holders.items()},
    )


def network_of(count: int) -> LocalNetwork:
    nodes = [
        LocalNode(number, Path(f"/{number}"), addresses=(f"127.0.0.1:{number}",)) for number in range(1, count + 1)
    ]
    return LocalNetwork(Path("/"), Path("/network.toml"), nodes)


@pytest.mark.parametrize("seed", range(20))
async def test_as_many_holders_are_killed_as_the_file_survives_and_the_first_node(seed: int) -> None:
    rng = random.Random(seed)
    network = network_of(16)
    ports = rng.sample(range(1, 17), 12)
    file = published(dict(enumerate(ports)), 4, 12)
    victims = [node.number for node in choose_victims(network, file, rng)]
    assert victims == sorted(set(victims))
    assert 1 in victims
    assert len(set(victims) & set(ports)) == 8
    assert len(victims) == (8 if 1 in ports else 9)


def test_the_words_and_fields_of_the_demo() -> None:
    outcome = DemoOutcome(
        published=published({0: 1, 1: 2, 2: 3}, 1, 3),
        fetched=Fetched(Path("/x"), "x", 1000, 0.25, 1000, 0),
        stopped_holders=2,
        stopped_nodes=3,
        identical=True,
    )
    assert summary_fields(outcome).keys() >= DEMO_FIELDS
    assert (summary_fields(outcome)["stopped"], summary_fields(outcome)["identical"]) == (2, True)
    assert "2 of 3 holders, and the node all others started from" in words(outcome)
    assert "from the 1 holder left" in words(outcome)


def test_a_network_file_reads_back() -> None:
    network = Network.parse(network_text("swarm-ab12", ["127.0.0.1:4750", "127.0.0.1:4751"]).encode(), "x")
    assert network.parameters.private
    assert network.parameters.pow_bits == 0
    assert [peer.address for peer in network.peers] == ["127.0.0.1:4750", "127.0.0.1:4751"]


def test_the_number_of_nodes() -> None:
    assert node_count("16") == 16
    assert node_count(str(NODES_MIN)) == NODES_MIN
    assert node_count(str(NODES_MAX)) == NODES_MAX
    for text in (str(NODES_MIN - 1), str(NODES_MAX + 1), "many"):
        with pytest.raises(BadUsageError):
            node_count(text)


async def test_what_a_node_says(tmp_path: Path) -> None:
    node = LocalNode(3, tmp_path)
    for line in (b"", b"not json", b"[]", b'"x"', b'{"event": "other"}', b"\xff\xfe"):
        node.handle(line)
    assert not node.listening.is_set()
    node.handle(json.dumps({"event": "listening", "node_id": "ab", "addresses": ["127.0.0.1:77"]}).encode())
    node.handle(b'{"event": "joined", "peers": 2}')
    assert (node.name, node.port, node.node_id) == ("node 03", 77, "ab")
    assert node.joined.is_set()


async def test_the_last_words_of_a_node(tmp_path: Path) -> None:
    node = LocalNode(1, tmp_path)
    assert "No such file" in last_words(node)
    node.log_file.write_bytes(b"")
    assert last_words(node) == "It printed nothing."
    node.log_file.write_bytes(b"x\n" * 10_000 + b"the \xff end\n")
    assert len(last_words(node).splitlines()) == 1 + 12
    assert last_words(node).startswith("It printed at the end:\n  x\n")
    assert last_words(node).endswith("  the \ufffd end")
    node.handle(b'{"message_type": "error", "code": 1, "message": "The disk is full."}')
    assert last_words(node).endswith("  the \ufffd end\n  The disk is full.")


def test_a_swarm_remembers_its_ports(tmp_path: Path) -> None:
    state = SwarmState("swarm-12ab", {1: 4750, 16: 65535})
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state


def test_a_new_swarm_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert load_state(tmp_path).name != load_state(tmp_path).name


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"network": "a b", "ports": {}}',
        '{"network": "x\\"\\n", "ports": {}}',
        '{"network": "x", "ports": []}',
        '{"network": "x", "ports": {"1": 0}}',
        '{"network": "x", "ports": {"one": 80}}',
    ],
)
def test_a_damaged_swarm_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "swarm.json").write_text(content)
    with pytest.raises(CommandError, match="is damaged"):
        load_state(tmp_path)


def test_the_demo(shoal: Any, tmp_path: Path) -> None:
    done = shoal("--json", "demo", "--nodes", "4", "--size", "200kB", environment={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["message_type"] == "summary"
    assert summary.keys() >= DEMO_FIELDS
    assert (summary["size"], summary["k"], summary["n"], summary["stopped"]) == (200_000, 1, 3, 2)
    assert summary["identical"] is True
    assert list(tmp_path.iterdir()) == []
    wait_until_gone(tmp_path)


def test_a_demo_that_cannot_fit_says_so(shoal: Any) -> None:
    done = shoal("demo", "--nodes", "3", "--size", "999999TB")
    assert done.returncode == 1
    assert "are free" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(clean_environment: dict[str, str], tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "shoal.cli", "demo", "--nodes", "3", "--size", "50MB"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "listens on" in line:
                break
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "have ended, and its files are removed" in err
    assert list(tmp_path.iterdir()) == []
    wait_until_gone(tmp_path)


def test_a_swarm_comes_back_with_its_files(start_swarm: Callable[..., Any], inside: Any, tmp_path: Path) -> None:
    first = start_swarm(tmp_path / "swarm", 3)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(50_000))
    environment = {"SHOAL_NETWORK": first.network_file}
    link = inside("publish", str(source), environment=environment).stdout.strip()
    assert first.stop(signal.SIGINT) == 130
    wait_until_gone(tmp_path / "swarm")
    second = start_swarm(tmp_path / "swarm", 3)
    assert [node["address"] for node in second.ready["nodes"]] == [node["address"] for node in first.ready["nodes"]]
    done = inside("fetch", link, "-o", str(tmp_path / "copy"), environment=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    os.kill(second.node_pids()[2], signal.SIGKILL)
    deadline = time.monotonic() + GONE_LIMIT_S
    while "node 02 ended with exit code -9" not in second.process.stdout.readline():
        assert time.monotonic() < deadline
    second.process.kill()  # its nodes have to notice by themselves
    wait_until_gone(tmp_path / "swarm")


def test_a_node_that_cannot_start_is_told_with_its_last_words(shoal: Any, tmp_path: Path) -> None:
    home = tmp_path / "swarm" / "nodes" / "02"
    home.mkdir(parents=True)
    (home / "node.key").write_bytes(b"short")
    (home / "node.key").chmod(0o600)
    (home / "config.toml").write_text("")
    done = shoal("swarm", "--nodes", "3", "--dir", str(tmp_path / "swarm"))
    assert done.returncode == 1
    assert "node 02 ended (exit code 1) before it listened" in done.stderr
    assert "node.key is damaged" in done.stderr
    wait_until_gone(tmp_path / "swarm")
