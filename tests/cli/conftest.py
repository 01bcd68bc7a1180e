"""What the tests of the command line share: outputs to read back, real processes of the command."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from shoal.cli.output import Output


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

    def run(
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
            timeout=30,
            check=False,
        )

    return run
