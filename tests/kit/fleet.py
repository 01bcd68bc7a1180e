"""A small network of real daemons that can be killed and started again: processes, homes, ports, what they serve."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from shoal.dht import Address, NodeId
from shoal.erasure import FileId, Manifest, SegmentDecoder, best_codec
from shoal.node import Home, LocalError, Network, NodeSettings, daemon_status, init_node, real_environment
from shoal.node.channel import (
    MAX_BLOCKS_COUNT,
    GetManifest,
    Read,
    Survey,
    open_connection,
)
from shoal.node.holders.surveys import Entry, unpack_survey

DAEMONS = 8
EPOCH_S = 1.5  # so short that lost shares are made again while the test waits
PORTS = range(20_000, 32_000)  # below those that systems hand out by themselves: a port must be free after a kill
POLL_S = 0.05
UP_LIMIT_S = 240.0  # until a daemon is given up: it hangs. What is allowed is CPU time, which no other process takes
STOP_LIMIT_S = 60.0
ANSWER_LIMIT_S = 60.0
Upload = tuple[int, str]
"""Which daemon, and the name of the file of an upload."""


def free_ports(count: int) -> list[int]:
    """Ports that are free for TCP and UDP on loopback."""
    found = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("too few ports are free")


class Daemon:
    """One volunteer. `starts_s`: how long each start took until it answered. `starts_cpu_s`: its CPU time by then."""

    def __init__(self, number: int, folder: Path, network_file: Path, address: Address, *listen: Address) -> None:
        """It listens on `listen`, by default on `address`, where others reach it."""
        self.number = number
        self.home = Home.at(folder)
        self.address = address
        self.starts_s: list[float] = []
        self.starts_cpu_s: list[float] = []
        self.network = Network.load(network_file)
        settings = NodeSettings(listen=listen or (self.address,), reserve_bytes=0)
        self.node_id: NodeId = init_node(self.home, settings, self.network.parameters)
        self._network_file = network_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """All that it says, in all its runs."""
        return self.home.data / "log"

    @property
    def pid(self) -> int | None:
        """The id of its process; None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self, *options: str, environment: Mapping[str, str] | None = None) -> float:
        """Start the process with further options of `node run` and further variables; when that was."""
        assert self._process is None, f"daemon {self.number} runs already"
        begun = time.monotonic()
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "shoal.cli", "--home", str(self.home.data)),
                    *("--network", str(self._network_file), "--json", "node", "run", "--stop-on-eof", *options),
                ],
                stdin=subprocess.PIPE,  # ends with this process, and so does the daemon
                stdout=log,
                stderr=log,
                cwd=self.home.data,
                env=plain_environment() | dict(environment or {}),
            )
        return begun

    async def wait_up(self, begun: float, limit_s: float = UP_LIMIT_S) -> None:
        """Wait until it answers, and note how long that took."""
        while True:
            try:
                await self.status()
                break
            except LocalError:
                assert time.monotonic() - begun < limit_s, f"daemon {self.number} is not up: {self.last_words()}"
                assert self._process is not None
                assert self._process.poll() is None, f"daemon {self.number} has ended: {self.last_words()}"
                await trio.sleep(POLL_S)
        self.starts_s.append(time.monotonic() - begun)
        self.starts_cpu_s.append(cpu_s(self.pid))

    async def status(self) -> dict[str, object]:
        """What its administrator is told."""
        return await daemon_status(self.home, network=self.network)

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def stop(self) -> None:
        """Ask it to stop."""
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        try:
            return process.wait(STOP_LIMIT_S)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log_file.read_text()[-2000:]

    def complaints(self) -> str:
        """What it has said of errors and bugs, in all its runs; a warning is none."""
        lines = self.log_file.read_text().splitlines()
        return "\n".join(line for line in lines if "ERROR" in line or '"error"' in line or "Traceback" in line)

    def files(self, pattern: str) -> list[Path]:
        """Files below the folders of its store."""
        return sorted(self.home.store_folder.glob(f"shares/*/{pattern}"))

    def share_files(self, file_id: FileId, share: int | str = "*") -> list[Path]:
        """The files of shares of one published file; small shares have none."""
        return self.files(f"{file_id.hex()}.{share}")


def cpu_s(pid: int | None) -> float:
    """The CPU time that a process has taken; 0 of one that is gone, and where the system has no /proc."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def plain_environment() -> dict[str, str]:
    """Our environment without what would steer the command."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}


class Fleet:
    """All daemons of one network, and questions to them over the channel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network_file = folder / "network.toml"
        ports = free_ports(DAEMONS)
        lines = ['network = "crash"', "pow_bits = 0", "private = true", f'epoch = "{EPOCH_S:g}s"']
        lines += [f'[[peer]]\naddress = "127.0.0.1:{port}"' for port in ports]
        self.network_file.write_text("\n".join(lines) + "\n")
        self.daemons = [
            Daemon(number, folder / f"daemon-{number}", self.network_file, Address("127.0.0.1", port))
            for number, port in enumerate(ports)
        ]
        self.epoch_s = EPOCH_S
        self._environment = real_environment()
        self._codec = best_codec()

    async def start(self) -> None:
        """Start all and wait until they know each other."""
        begun = [(daemon, daemon.start()) for daemon in self.daemons]
        for daemon, at in begun:
            await daemon.wait_up(at)
            daemon.starts_s.clear()  # all at once is not what is measured
        with trio.fail_after(UP_LIMIT_S):
            for daemon in self.daemons:
                await self._wait_for_peers(daemon)

    async def _wait_for_peers(self, daemon: Daemon) -> None:
        while int(str((await daemon.status())["peers"])) < DAEMONS - 1:  # noqa: ASYNC110 - it is another process
            await trio.sleep(POLL_S)

    def stop(self) -> list[int]:
        """End all daemons in order; their exit codes."""
        for daemon in self.daemons:
            daemon.stop()
        return [daemon.wait() for daemon in self.daemons]

    def kill(self) -> None:
        """End all daemons that are left."""
        for daemon in self.daemons:
            daemon.kill()

    def at(self, address: Address) -> int:
        """The number of the daemon that listens there."""
        return next(daemon.number for daemon in self.daemons if daemon.address == address)

    @property
    def starts_s(self) -> list[float]:
        """How long starts after a kill took."""
        return [each for daemon in self.daemons for each in daemon.starts_s]

    @property
    def starts_cpu_s(self) -> list[float]:
        """The CPU time that every start took, the first ones too."""
        return [each for daemon in self.daemons for each in daemon.starts_cpu_s]

    def uploads(self) -> set[Upload]:
        """Files of shares that are being received."""
        return {(daemon.number, path.name) for daemon in self.daemons for path in daemon.files("*.upload")}

    def is_there(self, upload: Upload) -> bool:
        """Whether an upload is still one."""
        return bool(self.daemons[upload[0]].files(upload[1]))

    def command(self, *arguments: str) -> list[str]:
        """A command line of the client's home."""
        options = ("--home", str(self.folder / "client"), "--network", str(self.network_file), "--json")
        return [sys.executable, "-P", "-m", "shoal.cli", *options, *arguments]

    async def survey(self, number: int, file_ids: Sequence[FileId]) -> list[Entry]:
        """What one daemon says it keeps of each file, or that the file's owner deleted it."""
        daemon = self.daemons[number]
        async with open_connection(self._environment.streams, daemon.address, daemon.node_id) as connection:
            reply = await connection.request(Survey(b"".join(file_ids), False), timeout_s=ANSWER_LIMIT_S)
            entries = unpack_survey(bytes(reply.payload), len(file_ids))
        assert len(entries) == len(file_ids)
        return entries

    async def a_holder(self, file_id: FileId) -> int:
        """The number of the first daemon that says it keeps something of a file."""
        for daemon in self.daemons:
            (entry,) = await self.survey(daemon.number, [file_id])
            if entry and not isinstance(entry, bytes):
                return daemon.number
        raise AssertionError(f"nobody keeps anything of {file_id.hex()}")

    async def manifest(self, number: int, file_id: FileId) -> Manifest:
        """A file's manifest as one daemon gives it, checked."""
        daemon = self.daemons[number]
        async with open_connection(self._environment.streams, daemon.address, daemon.node_id) as connection:
            reply = await connection.request(GetManifest(file_id), timeout_s=ANSWER_LIMIT_S)
        manifest = Manifest.decode(bytes(reply.payload))
        assert manifest.id == file_id
        return manifest

    async def check_shares(self, number: int, wanted: Sequence[tuple[Manifest, int]]) -> None:
        """Read whole shares from one daemon; every block must be what its manifest promises."""
        daemon = self.daemons[number]
        async with open_connection(self._environment.streams, daemon.address, daemon.node_id) as connection:
            for manifest, share in wanted:
                decoder = SegmentDecoder(manifest, self._codec)
                layout = manifest.layout
                for first in range(0, layout.segment_count, MAX_BLOCKS_COUNT):
                    count = min(MAX_BLOCKS_COUNT, layout.segment_count - first)
                    request = Read(manifest.id, share, first, count, True)
                    reply = await connection.request(request, timeout_s=ANSWER_LIMIT_S)
                    payload, at, blocks = memoryview(reply.payload), 0, []
                    for index in range(first, first + count):
                        blocks.append(payload[at : at + layout.block_bytes(index)])
                        at += layout.block_bytes(index)
                    assert at == len(payload)
                    decoder.check_blocks(share, first, blocks, reply.share_proof)
