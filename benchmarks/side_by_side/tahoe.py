"""Tahoe-LAFS: an introducer, storage nodes and a client node; files go through the client's web door or its command.

Files are put and got by HTTP from this process, whose CPU time counts. Every node would end by itself with us, because
`tahoe run` ends when its standard input does.
"""

import configparser
import http.client
import json
import os
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from .environments import Environment, bare_variables
from .processes import (
    OPERATION_LIMIT_S,
    MeasureError,
    Spent,
    cpu_s,
    memory_mib,
    reset_peak,
    run_command,
    started,
    tree_bytes,
)
from .results import CLIENT, MIB

HAPPY = 7  # its default at 3-of-10
START_LIMIT_S = 180.0
FOOLSCAP_SIGN = " via "  # it says how it is connected; by HTTPS a client says no more than that it is
NOTICE_LIMIT_S = 10.0  # for the client to see that servers are gone
POLL_S = 0.25
PIECE_BYTES = MIB


class TahoeGrid:
    """A running grid. Made by `open_tahoe`."""

    def __init__(
        self, name: str, tahoe: Environment, folder: Path, code: tuple[int, int], foolscap: bool, stack: ExitStack
    ) -> None:
        self.name, self.code = name, code
        self._command, self._folder, self._foolscap, self._stack = tahoe.script("tahoe"), folder, foolscap, stack
        self._variables = bare_variables() | {"PYTHONWARNINGS": "ignore"}
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._web_port = 0
        self._holders: dict[int, str] = {}  # names of the last published file's holders, by share number

    def start(self, count: int) -> None:
        """Make and start all nodes, and wait until the client is connected to each storage node."""
        introducer_port, self._web_port, *ports = free_ports(count + 2)
        self._tahoe("create-introducer", *listening(introducer_port), str(self._folder / "introducer"))
        self._run("introducer")
        introducer = ["--introducer", self._introducer_furl()]
        web = f"--webport=tcp:{self._web_port}:interface=127.0.0.1"
        shares = [f"--shares-{what}={count}" for what, count in zip(("needed", "total"), self.code, strict=True)]
        orders = [
            ("create-client", web, "--nickname=client", *introducer, *shares, f"--shares-happy={HAPPY}", "client")
        ]
        for number, port in enumerate(ports):
            options = [*listening(port), "--webport=none", f"--nickname=storage-{number}", *introducer]
            orders.append(("create-node", *options, f"storage-{number}"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each is an interpreter's start, all of it CPU
            list(pool.map(lambda order: self._tahoe(*order[:-1], str(self._folder / order[-1])), orders))
        names = [order[-1] for order in orders]
        for name in names:
            if self._foolscap:
                force_foolscap(self._folder / name / "tahoe.cfg")
            self._run(name)
        self._wait_connected(count, START_LIMIT_S)

    def publish(self, source: Path, through: str) -> tuple[str, Spent]:
        """Put a file as an immutable one; its capability is the link."""
        before = self._shares()
        if through == CLIENT:
            spent, capability = self._by_http(lambda: self._put(source))
        else:
            spent, capability = self._by_command("put", str(source))
        if not capability.startswith("URI:"):
            raise MeasureError(f"put answered {capability[:200]!r}")
        self._holders = {int(path.name): node for path, node in self._shares().items() if path not in before}
        return capability, spent

    def fetch(self, link: str, target: Path, through: str) -> Spent:
        """Get a file."""
        if through == CLIENT:
            return self._by_http(lambda: self._get(link, target))[0]
        return self._by_command("get", link, str(target))[0]

    def lose(self) -> None:
        """Kill the holders of the first n-k shares, and give the client a moment to see it."""
        k, n = self.code
        names = {self._holders[share] for share in range(n - k)}
        if len(names) != n - k:
            raise MeasureError(f"{len(names)} nodes hold the first {n - k} shares: cannot leave only the last {k}")
        for name in names:
            process = self._running.pop(name)
            process.kill()
            process.wait()
        self._wait_connected(len(self.storage_pids()), NOTICE_LIMIT_S, must=False)

    def stored_bytes(self) -> int:
        """What the storage nodes have stored."""
        return sum(tree_bytes(self._share_folder(name)) for name in self._storage_names())

    def storage_pids(self) -> list[int]:
        """The storage nodes that run."""
        return [self._running[name].pid for name in self._storage_names()]

    def _storage_names(self) -> list[str]:
        return [name for name in self._running if name.startswith("storage-")]

    def _share_folder(self, name: str) -> Path:
        return self._folder / name / "storage" / "shares"

    def _shares(self) -> dict[Path, str]:
        """All share files, which are named for their number, and the nodes that have them."""
        return {
            path: name
            for name in self._storage_names()
            for path in self._share_folder(name).rglob("*")
            if path.name.isdecimal() and path.is_file()
        }

    def _tahoe(self, *words: str) -> None:
        run_command([self._command, *words], self._folder / "commands.log", self._variables)

    def _run(self, name: str) -> None:
        argv = [self._command, "run", str(self._folder / name)]
        log = self._folder / f"{name}.log"
        self._running[name] = self._stack.enter_context(started(argv, log, environment=self._variables))

    def _introducer_furl(self) -> str:
        path = self._folder / "introducer" / "private" / "introducer.furl"
        deadline = time.monotonic() + START_LIMIT_S
        while not (path.exists() and path.read_text().strip()):
            if time.monotonic() > deadline:
                raise MeasureError("the introducer did not start")
            time.sleep(POLL_S)
        return path.read_text().strip()

    def _wait_connected(self, count: int, limit_s: float, *, must: bool = True) -> None:
        """Wait until the client is connected to `count` storage nodes, by the protocol that is to be measured."""
        deadline = time.monotonic() + limit_s
        while len(connections := self._connections()) != count and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if must and len(connections) != count:
            raise MeasureError(f"the client found {len(connections)} of {count} storage nodes")
        if any((FOOLSCAP_SIGN in text) != self._foolscap for text in connections):
            raise MeasureError(f"the client uses another protocol than it should: {connections[0]}")

    def _connections(self) -> list[str]:
        """What the client says of each storage node that it is connected to; nothing while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._web_port, timeout=POLL_S * 20)
        try:
            connection.request("GET", "/?t=json")
            servers = json.loads(connection.getresponse().read())["servers"]
        except (OSError, http.client.HTTPException, ValueError):
            return []
        finally:
            connection.close()
        texts = [str(server["connection_status"]) for server in servers]
        return [text for text in texts if text.lower().startswith("connected")]

    def _by_http(self, work: Callable[[], str]) -> tuple[Spent, str]:
        """Do something by HTTP: our own CPU time is part of it, as that of any program that uses a client would be."""
        pids, client = [process.pid for process in self._running.values()], self._running["client"].pid
        reset_peak(client)
        before_s, own_s, begun = cpu_s(pids), time.process_time(), time.perf_counter()
        try:
            answer = work()
        except (OSError, http.client.HTTPException) as error:
            raise MeasureError(f"the client node's web door: {error!r}") from error
        wall_s = time.perf_counter() - begun
        spent_s = cpu_s(pids) - before_s + time.process_time() - own_s
        return Spent(wall_s, spent_s, memory_mib(client, "VmHWM")), answer

    def _by_command(self, *words: str) -> tuple[Spent, str]:
        pids, client = [process.pid for process in self._running.values()], self._running["client"].pid
        reset_peak(client)
        before_s = cpu_s(pids)
        argv = [self._command, "-d", str(self._folder / "client"), *words]
        spent, output = run_command(argv, self._folder / "commands.log", self._variables)
        peak_mib = max(spent.peak_mib, memory_mib(client, "VmHWM"))
        return replace(spent, cpu_s=spent.cpu_s + cpu_s(pids) - before_s, peak_mib=peak_mib), output.strip()

    def _put(self, source: Path) -> str:
        with self._connection() as connection, open(source, "rb") as file:
            connection.request("PUT", "/uri", body=file, headers={"Content-Length": str(source.stat().st_size)})
            response = connection.getresponse()
            return response.read().decode("ascii", "replace").strip()

    def _get(self, capability: str, target: Path) -> str:
        buffer = memoryview(bytearray(PIECE_BYTES))
        with self._connection() as connection, open(target, "wb", buffering=0) as file:
            connection.request("GET", "/uri/" + urllib.parse.quote(capability, safe=""))
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise MeasureError(f"get answered {response.status} {response.read(200)!r}")
            while count := response.readinto(buffer):
                file.write(buffer[:count])
        return ""

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._web_port, timeout=OPERATION_LIMIT_S, blocksize=PIECE_BYTES
        )
        try:
            yield connection
        finally:
            connection.close()


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def listening(port: int) -> list[str]:
    """Options of a node that listens on loopback alone."""
    return ["--listen=tcp", f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}"]


def force_foolscap(path: Path) -> None:
    """Have a node offer and use the older storage protocol only."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(path)
    for section in ("client", "storage"):
        if config.has_section(section):
            config.set(section, "force_foolscap", "true")
    with open(path, "w") as file:
        config.write(file)


@contextmanager
def open_tahoe(
    name: str, tahoe: Environment, folder: Path, nodes: int, code: tuple[int, int], *, foolscap: bool
) -> Iterator[TahoeGrid]:
    """A grid in `folder`."""
    with ExitStack() as stack:
        grid = TahoeGrid(name, tahoe, folder, code, foolscap, stack)
        grid.start(nodes)
        yield grid
