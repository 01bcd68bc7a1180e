"""Outputs that can be read back, and real processes of the command."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

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


Shoal = Callable[..., subprocess.CompletedProcess[str]]


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
