"""`shoal node leave` beside a node that runs: one command, and nothing is lost."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.node import Home
from shoal.node.home.home import daemon_lock

END_LIMIT_S = 10.0


class Volunteer:
    """A real `shoal node run`, up and with peers once it is made."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shoal.cli", "--json", "node", "run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["addresses"][0]
        assert json.loads(self.process.stdout.readline())["event"] == "joined"

    def wait(self) -> tuple[int, str, str]:
        """Exit code and what it said last."""
        out, err = self.process.communicate(timeout=END_LIMIT_S)
        return self.process.returncode, out, err

    def end(self) -> None:
        """End it if it runs."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def volunteer(
    clean_environment: dict[str, str], inside: Any, tmp_path: Path
) -> Iterator[Callable[[str, str], Volunteer]]:
    """Sets up a home under a name, and starts its node on a port of the system's choice.

    The address in the home's settings is taken: whoever takes the node's place has to listen where it did.
    """
    started: list[Volunteer] = []
    taken = socket.create_server(("127.0.0.1", 0))

    def start(name: str, network_file: str) -> Volunteer:
        variables = {"SHOAL_HOME": str(tmp_path / name), "SHOAL_NETWORK": network_file}
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert inside("node", "init", "--listen", address, environment=variables).returncode == 0
        started.append(Volunteer(clean_environment | variables, "--listen", "127.0.0.1:0"))
        return started[-1]

    yield start
    for each in started:
        each.end()
    taken.close()


def test_leaving_beside_the_node_that_runs(
    start_swarm: Callable[..., Any], volunteer: Callable[[str, str], Volunteer], inside: Any, tmp_path: Path
) -> None:
    swarm = start_swarm(tmp_path / "swarm", 3)
    there = {"SHOAL_NETWORK": swarm.network_file}
    leaver = volunteer("leaver", swarm.network_file)
    status = ("--home", swarm.ready["nodes"][0]["home"], "--json", "node", "status")
    deadline = time.monotonic() + 20
    while json.loads(inside(*status, environment=there).stdout.splitlines()[-1])["peers"] < 3:
        assert time.monotonic() < deadline, "the leaver is not known yet"
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 400)
    done = inside("--json", "publish", str(source), "--needed", "2", "--total", "4", environment=there)
    published = json.loads(done.stdout.splitlines()[-1])
    assert published["hosts"] == 4, "the leaver is one of them"
    volunteer("taker", swarm.network_file)

    left = inside("--json", "node", "leave", environment=there | {"SHOAL_HOME": str(tmp_path / "leaver")})
    assert left.returncode == 0, left.stdout
    assert {"handed_over": 1, "remaining": 0}.items() <= json.loads(left.stdout.splitlines()[-1]).items()
    code, out, err = leaver.wait()
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["message_type"] == "summary"
    with daemon_lock(Home.at(tmp_path / "leaver")):
        pass  # nobody has it any more

    checked = inside("--json", "check", published["link"], environment=there)
    assert json.loads(checked.stdout.splitlines()[-1])["good_shares"] == 4
    done = inside("fetch", published["link"], "-o", str(tmp_path / "copy"), environment=there)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_node_that_cannot_be_ended_is_told(inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.node.home.daemon.ANSWER_TIMEOUT_S", 0.3)
    variables = {"SHOAL_HOME": str(tmp_path / "home"), "SHOAL_NETWORK": network_file(tmp_path)}
    inside("node", "init", "--listen", "127.0.0.1:0", environment=variables)
    with daemon_lock(Home.at(tmp_path / "home")):
        done = inside("node", "leave", environment=variables)
    assert done.returncode == 11
    assert "does not answer the request to end. Stop it first" in done.stderr


def network_file(folder: Path) -> str:
    path = folder / "network.toml"
    path.write_text('network = "test"\npow_bits = 0\nprivate = true\n')
    return str(path)
