"""The tutorial's commands, run against real processes in a temporary folder; their output is the page's.

What varies from run to run (ids, links, times, rates, ports) is compared by its shape alone. When a wording of the
command line has changed, renew the page and look at the difference:

    python tests/docs/test_tutorial.py
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
HOW_TO_RENEW = f"When the new output is right, renew the page: {Path(sys.executable).name} tests/docs/test_tutorial.py"
SHOWN_FOLDER = "/home/you"
PORTS = [f"475{number}" for number in range(1, 9)]
LIMIT_S = 300.0  # of all commands together; on a machine with nothing else to do they take 20 s
END = "@@ end of command @@"

# The page waits with `sleep` until its nodes have met. Here the same word waits until they say so.
PROLOGUE = """
sleep() {
  for node in node*.pid; do
    for try in $(seq 600); do grep -qs joined "${node%.pid}.log" && break; command sleep 0.1; done
  done
}
"""

VARYING = [  # (what, how it is written in a comparison), in this order
    (r"shoal:[a-z2-7]{64}#[a-z2-7]{64}", "LINK"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[a-z2-7]{64}\b", "HASH"),
    (r"\b[0-9a-f]{16}\b", "SHORT_ID"),
    (r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", "DATE"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\d[\d.]* ([kMGT]?B/s)", "RATE"),
    (r"\d[\d.]* (ms|s|min|h)\b", "TIME"),
    (r"(?m)^(codec|peers|free disk|used|traffic):.*$", r"\1: VARIES"),
    (r"\b\d+ peers? so far", "PEERS so far"),
]


@dataclass(frozen=True)
class Step:
    """A command of the page, and the output that follows it there."""

    command: str
    output: str


def steps_of(page: str) -> list[Step]:
    """The commands of all `console` blocks, in order. A command begins with `$ ` and goes on in lines with `> `."""
    steps = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            match = re.match(r"[^\n]*\n(?:>[^\n]*\n)*", part)
            assert match is not None, part
            command = re.sub(r"(?m)^> ?", "", match[0].rstrip("\n"))
            steps.append(Step(command, part[match.end() :]))
    return steps


def run(commands: Sequence[str], folder: Path) -> list[str]:
    """The output of each command, all of them given to one shell; whatever they leave behind is ended."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    script = PROLOGUE + "".join(f"{command}\necho '{END}'\n" for command in commands)
    script = script.replace("127.0.0.1:475$number", '127.0.0.1:$(port "$number")')
    script = re.sub(r"127\.0\.0\.1:(475\d)", lambda match: f"127.0.0.1:{ports[match[1]]}", script)
    cases = " ".join(f"{port[-1]}) echo {free} ;;" for port, free in ports.items())
    script = f'port() {{ case "$1" in {cases} esac; }}\n{script}'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    shell = subprocess.Popen(
        ["bash"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(script, timeout=LIMIT_S)
    finally:
        end_session(shell.pid)
        shell.wait()
    parts = as_shown(output, folder, ports).split(f"{END}\n")
    assert parts[-1] == "", parts[-1]
    return parts[:-1]


def as_shown(output: str, folder: Path, ports: dict[str, int]) -> str:
    """The output as the page shows it: in its folder, on its ports, without what the shell says of killed jobs."""
    output = output.replace(str(folder), SHOWN_FOLDER)
    for shown, port in ports.items():
        output = output.replace(f"127.0.0.1:{port}", f"127.0.0.1:{shown}")
    return re.sub(r"(?m)^bash: line \d+: +\d+ Killed.*\n", "", output)


def end_session(leader: int) -> None:
    """End the shell and the nodes that it started, and wait for them."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
    time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, for TCP at least."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def shape(output: str) -> str:
    """The output without what varies, and without how columns are filled up."""
    for pattern, name in VARYING:
        output = re.sub(pattern, name, output)
    return re.sub(r" +", " ", output)


def renewed(page: str, folder: Path) -> str:
    """The page as it is where nothing differs but what varies; else with all the output of one run."""
    steps = steps_of(page)
    found = run([step.command for step in steps], folder)
    if [shape(output) for output in found] == [shape(step.output) for step in steps]:
        return page
    outputs = iter(found)

    def renew(block: re.Match[str]) -> str:
        lines = []
        for step in steps_of(block[0]):
            prompt = "$ " + step.command.replace("\n", "\n> ")
            lines.append(f"{prompt}\n{next(outputs)}")
        return "```console\n" + re.sub(r"(?m)^> $", ">", "".join(lines)) + "```"

    return re.sub(r"```console\n.*?```", renew, page, flags=re.DOTALL)


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    steps = steps_of(PAGE.read_text())
    outputs = run([step.command for step in steps], tmp_path)
    assert len(outputs) == len(steps), f"only {len(outputs)} of {len(steps)} commands came to an end"
    for step, output in zip(steps, outputs, strict=True):
        assert shape(output) == shape(step.output), f"$ {step.command}\n{output}\n{HOW_TO_RENEW}"


def test_what_varies_is_compared_by_its_shape() -> None:
    assert shape("Published 1.00 MB in 0.2 s (5.63 MB/s)") == shape("Published 1.00 MB in 12 s (70 kB/s)")
    assert shape("on 127.0.0.1:4751, node id " + "0a" * 32) == shape("on 127.0.0.1:9, node id " + "f3" * 32)
    assert shape("6 shares") != shape("5 shares")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        PAGE.write_text(renewed(PAGE.read_text(), Path(temporary)))
