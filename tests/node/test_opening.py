"""Putting a node together, and taking it apart."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.dht import Address
from shoal.node import AlreadyRunning, Home, Network, NodeSettings, UsageError, init_node, open_node

NETWORK = Network.parse(b'network = "opening"\npow_bits = 0\nprivate = true\n', "here")


async def test_the_last_requests_are_answered_while_a_node_closes(tmp_path: Path) -> None:
    init_node(Home.at(tmp_path), NodeSettings(), NETWORK.parameters)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    async with open_node(tmp_path, network=NETWORK, serve=True, settings=settings) as node:
        before = node.context.me()
    assert node.addresses == ()
    assert node.context.me() == before, "statements name the same address to the end"


async def test_a_start_removes_what_interrupted_writes_have_left(tmp_path: Path) -> None:
    """They bear the numbers of threads that are no more, so nothing else would ever replace them."""
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    init_node(Home.at(tmp_path), settings, NETWORK.parameters)
    (tmp_path / "publishing").mkdir()
    old = [tmp_path / name for name in ("daemon.json.71.tmp", "contacts-ab.json.72.tmp", "publishing/x.journal.73.tmp")]
    young, other = tmp_path / "contacts-ab.json.74.tmp", tmp_path / "mine.tmp"
    for path in [*old, young, other]:
        path.write_bytes(b"half")
    for path in [*old, other]:
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    async with open_node(tmp_path, network=NETWORK, serve=True, settings=settings):
        assert not [path for path in old if path.exists()]
        assert young.exists(), "another process may be writing it"
        assert other.exists(), "it is none of ours"


async def test_two_homes_do_not_use_one_store(tmp_path: Path) -> None:
    """Each has a lock of its own; the store that both link to has another."""
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    for name in ("one", "two"):
        init_node(Home.at(tmp_path / name), settings, NETWORK.parameters)
    (tmp_path / "disk").mkdir()
    for name in ("one", "two"):
        (tmp_path / name / "store").symlink_to(tmp_path / "disk")
    async with open_node(tmp_path / "one", network=NETWORK, serve=True, settings=settings):
        with pytest.raises(AlreadyRunning, match="store"):
            async with open_node(tmp_path / "two", network=NETWORK, serve=True, settings=settings):
                pass
    async with open_node(tmp_path / "two", network=NETWORK, serve=True, settings=settings):
        pass


async def test_a_node_is_not_started_on_another_network(tmp_path: Path) -> None:
    """It would serve its shares there, and repair them into it."""
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    init_node(Home.at(tmp_path), settings, NETWORK.parameters)
    other = Network.parse(b'network = "elsewhere"\npow_bits = 0\nprivate = true\n', "there")
    with pytest.raises(UsageError, match="belongs to the network 'opening', not to 'elsewhere'"):
        async with open_node(tmp_path, network=other, serve=True, settings=settings):
            pass
    assert not (tmp_path / "store").exists()


def test_a_client_does_not_load_what_only_volunteers_need() -> None:
    """A command is mostly its own start: so much less makes it a fifth shorter."""
    program = "import sys, shoal.node; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[2] for name in done.stdout.split() if name.startswith("shoal.node.")}
    assert "publishing" in loaded
    assert not loaded & {"care", "volunteer", "repairing"}
