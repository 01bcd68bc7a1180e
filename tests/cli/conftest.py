"""What the tests of the command line share: outputs to read back, real processes of the command."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from shoal.cli.main import run
from shoal.cli.output import Output

COMMAND_LIMIT_S = 120.0  # longer than a command waits for its own parts, on a machine that is busy


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class RecordedOutput(Output):
    """An Output whose two streams can be read back."""

    def __init__(self, *, terminal: bool = False, **settings: Any) -> None:
        self.out = io.StringIO()
        self.err: io.StringIO = Terminal() if terminal else io.StringIO()
        super().__init__(stdout=self.out, stderr=self.err, **settings)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON objects on standard output."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


@pytest.fixture
def recorded() -> Callable[..., RecordedOutput]:
    """Makes outputs that can be read back; `terminal=True` for one that a person watches."""
    return RecordedOutput


Shoal = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """Our environment without any SHOAL_ variable, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    return kept | {"SHOAL_HOME": str(tmp_path / "home")}


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


class RunningSwarm:
    """A `shoal swarm` in a process of its own; `ready` is what it said once its nodes had found each other."""

    def __init__(self, folder: Path, nodes: int, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.errors = folder.with_suffix(".log")
        with open(self.errors, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "shoal.cli", "--json"),
                    *("swarm", "--nodes", str(nodes), "--dir", str(folder)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                text=True,
            )
        self.ready: dict[str, Any] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.ready = json.loads(line)
            if self.ready.get("event") == "ready":
                return
        self.process.wait(timeout=10)
        pytest.fail(f"the swarm did not come up: {self.ready} {self.errors.read_text()}")

    @property
    def network_file(self) -> str:
        """What a client is given."""
        return str(self.ready["network_file"])

    def node_pids(self) -> dict[int, int]:
        """Process ids by node number."""
        return {node["number"]: node["pid"] for node in self.ready["nodes"]}

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit code."""
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode


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
