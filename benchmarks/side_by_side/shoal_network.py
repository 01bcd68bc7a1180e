"""Shoal: a network of node processes (`shoal swarm`), a publishing and a fetching client, and the command line."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .environments import bare_variables
from .processes import (
    OPERATION_LIMIT_S,
    MeasureError,
    Spent,
    cpu_s,
    memory_mib,
    read_line,
    reset_peak,
    run_command,
    started,
    tree_bytes,
    wait_gone,
)
from .results import CLIENT

START_LIMIT_S = 180.0  # the swarm gives up before, with words in its log
CLIENT_SCRIPT = Path(__file__).with_name("shoal_client.py")


class Client:
    """A process that embeds Shoal."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process
        read_line(process, START_LIMIT_S)

    def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """Have it do something; MeasureError when it cannot."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(read_line(self._process, OPERATION_LIMIT_S))
        if "error" in answer:
            raise MeasureError(answer["error"])
        return answer


class ShoalNetwork:
    """A running network. Made by `open_shoal`."""

    def __init__(self, name: str, python: str, folder: Path, code: tuple[int, int] | None, stack: ExitStack) -> None:
        self.name = name
        self.code = code or (0, 0)
        self._width = {} if code is None else {"needed": code[0], "total": code[1]}
        self._python, self._folder, self._stack = python, folder, stack
        self._nodes: list[dict[str, Any]] = []  # as `shoal swarm` tells of them
        self._network_file = ""
        self._holders: dict[str, str] = {}  # addresses of the last published file's holders, by share number
        self._clients = 0
        self._has_lost = False

    def start(self, count: int) -> None:
        """Start the nodes and the two clients."""
        argv = self._shoal("--json", "swarm", "--nodes", str(count), "--dir", str(self._folder / "swarm"))
        swarm = self._stack.enter_context(
            started(argv, self._folder / "swarm.log", environment=bare_variables(), talks=True)
        )
        ready = json.loads(read_line(swarm, START_LIMIT_S))
        if ready.get("event") != "ready":
            raise MeasureError(str(ready.get("message", ready)))
        self._nodes, self._network_file = ready["nodes"], ready["network_file"]
        self._publisher, self._fetcher = self._new_client(), self._new_client()

    def publish(self, source: Path, through: str) -> tuple[str, Spent]:
        """Publish a file."""
        if through == CLIENT:
            answer, spent = self._ask(self._publisher, {"publish": str(source), "code": self._width})
            self._holders = answer["holders"]
        else:
            width = [word for name, value in self._width.items() for word in (f"--{name}", str(value))]
            answer, spent = self._command("publisher", "publish", str(source), *width)
        self.code = answer["k"], answer["n"]
        return answer["link"], spent

    def publish_all(self, sources: list[Path], at_once: int) -> Spent:
        """Publish files through the client, so many at a time."""
        paths = [str(source) for source in sources]
        return self._ask(self._publisher, {"publish_all": paths, "at_once": at_once, "code": self._width})[1]

    def fetch(self, link: str, target: Path, through: str) -> Spent:
        """Fetch into a file. When holders are gone, by a client that has not met their absence before."""
        if through != CLIENT:
            return self._command("fetcher", "fetch", link, "-o", str(target))[1]
        if self._has_lost:
            self._fetcher = self._new_client()
        return self._ask(self._fetcher, {"fetch": link, "target": str(target)})[1]

    def lose(self) -> None:
        """Kill the holders of the first n-k shares."""
        k, n = self.code
        lost = {self._holders[str(share)] for share in range(n - k)}
        pids = [node["pid"] for node in self._nodes if node["address"] in lost]
        if len(pids) != n - k:
            raise MeasureError(f"{len(pids)} nodes hold the first {n - k} shares: cannot leave only the last {k}")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_gone(pids)
        self._nodes = [node for node in self._nodes if node["pid"] not in pids]
        self._has_lost = True

    def stored_bytes(self) -> int:
        """What the nodes have stored."""
        return sum(tree_bytes(Path(node["home"]) / "store") for node in self._nodes)

    def storage_pids(self) -> list[int]:
        """The nodes that run."""
        return [node["pid"] for node in self._nodes]

    def _shoal(self, *words: str) -> list[str]:
        return [self._python, "-P", "-m", "shoal.cli", *words]

    def _new_client(self) -> Client:
        self._clients += 1
        home = self._folder / f"client-{self._clients}"
        argv = [self._python, "-P", str(CLIENT_SCRIPT), str(home), self._network_file]
        log = self._folder / "clients.log"
        return Client(self._stack.enter_context(started(argv, log, environment=bare_variables(), talks=True)))

    def _ask(self, client: Client, request: dict[str, object]) -> tuple[dict[str, Any], Spent]:
        pids = [client.pid, *self.storage_pids()]
        reset_peak(client.pid)
        before = cpu_s(pids)
        answer = client.ask(request)
        spent = Spent(answer["seconds"], cpu_s(pids) - before, memory_mib(client.pid, "VmHWM"))
        return answer, spent

    def _command(self, home: str, *words: str) -> tuple[dict[str, Any], Spent]:
        options = ["--json", "--home", str(self._folder / home), "--network", self._network_file]
        before = cpu_s(self.storage_pids())
        spent, output = run_command(self._shoal(*options, *words), self._folder / "commands.log", bare_variables())
        nodes_s = cpu_s(self.storage_pids()) - before
        return json.loads(output.splitlines()[-1]), replace(spent, cpu_s=spent.cpu_s + nodes_s)


@contextmanager
def open_shoal(
    name: str, python: str, folder: Path, nodes: int, code: tuple[int, int] | None
) -> Iterator[ShoalNetwork]:
    """A network in `folder`, of the Shoal that `python` has, publishing at `code` or, with None, at its own choice."""
    with ExitStack() as stack:
        network = ShoalNetwork(name, python, folder, code, stack)
        network.start(nodes)
        yield network
