"""What the tests of the command line share: its outputs, processes and swarms."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from kit.commands import COMMAND_LIMIT_S, RecordedOutput, RunningSwarm, Shoal
from shoal.cli.main import run


@pytest.fixture
def recorded() -> Callable[..., RecordedOutput]:
    """Makes outputs that can be read back; `terminal=True` for one that a person watches."""
    return RecordedOutput


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """Our environment without any SHOAL_ variable of the user's. The home is its own, and nothing is called out to the
    local network of this machine.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    return kept | {"SHOAL_HOME": str(tmp_path / "home"), "SHOAL_NO_LAN": "1"}


@pytest.fixture
def shoal(clean_environment: dict[str, str]) -> Shoal:
    """Runs the real command in a process of its own; `environment` adds variables, `stdin` is its input."""

    def run_process(
        *arguments: str | bytes,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        stdout: IO[Any] | int = subprocess.PIPE,
    ) -> subprocess.CompletedProcess[str]:
        command: Sequence[str | bytes] = (sys.executable, "-m", "shoal.cli", *arguments)
        return subprocess.run(
            command,
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=clean_environment | dict(environment or {}),
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )

    return run_process


@pytest.fixture
def inside(
    clean_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Shoal]:
    """Runs a command as `shoal` does, in this process: the libraries are loaded once. It has no standard input."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run_inside(
        *arguments: str | bytes, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SHOAL_")]:
                patch.delenv(name)
            for name, value in (clean_environment | dict(environment or {})).items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", None)
            capfd.readouterr()
            code = run([os.fsdecode(argument) for argument in arguments])
            out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    yield run_inside
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def start_swarm(clean_environment: dict[str, str]) -> Iterator[Callable[[Path, int], RunningSwarm]]:
    """Starts swarms; those still running at the end of the test are ended."""
    started: list[RunningSwarm] = []

    def start(folder: Path, nodes: int) -> RunningSwarm:
        started.append(RunningSwarm(folder, nodes, clean_environment))
        return started[-1]

    yield start
    for swarm in started:
        swarm.stop()


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSwarm]:
    """A network of six nodes for all tests of a module."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    running = RunningSwarm(tmp_path_factory.mktemp("swarm") / "nodes", 6, environment)
    yield running
    running.stop()
