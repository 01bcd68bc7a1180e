"""Commands that are killed at the n-th call by which they change what is on disk.

A process that has loaded everything forks one for each command, so that many commands cost little.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

SCRIPT = """
import json, os, signal, sys
import shoal.cli.app, shoal.cli.progress, shoal.cli.runner, shoal.node, shoal.node.fetching.tar_stream
from shoal.cli.main import run

CHANGING = (
    "chmod", "fsync", "ftruncate", "link", "mkdir", "open", "pwrite", "rename", "replace", "rmdir", "symlink",
    "unlink", "utime",
)
calls, most = 0, None

def counted(name, really):
    def call(*args, **named):
        global calls
        if name != "open" or args[1] & (os.O_CREAT | os.O_TRUNC):
            calls += 1
            if calls == most:
                if name == "pwrite":
                    really(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
                os.kill(os.getpid(), signal.SIGKILL)
        return really(*args, **named)
    return call

def command(arguments, environment, end):
    os.environ.update(environment)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0), os.dup2(null, 1), os.dup2(end, 2)
    sys.stdin, sys.stdout, sys.stderr = open(os.devnull), open(os.devnull, "w"), open(os.dup(end), "w", buffering=1)
    for name in CHANGING:
        setattr(os, name, counted(name, getattr(os, name)))
    code = run(arguments)
    sys.stderr.flush()
    os.write(end, b"\\n%d" % calls)
    os._exit(code)

for line in sys.stdin:
    arguments, environment, most = json.loads(line)
    said, end = os.pipe()
    pid = os.fork()
    if not pid:
        command(arguments, environment, end)
    os.close(end)
    with os.fdopen(said, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, text]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or the negative number of a signal; what it said; its calls, if it lived."""

    code: int
    said: str
    calls: int


class Killer:
    """Runs commands. Used in a `with` block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Killer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, arguments: Sequence[str], *, kill_at: int | None = None) -> Ended:
        """Run a command to its end, or to just before its `kill_at`th call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), self._environment, kill_at]) + "\n")
        self._process.stdin.flush()
        code, text = json.loads(self._process.stdout.readline())
        said, _, calls = text.rpartition("\n")
        return Ended(code, said, int(calls) if code >= 0 else 0)
