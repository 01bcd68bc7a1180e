"""The machines of benchmarks/hard_use.py: daemons that die, sleep, move, and have full disks and wrong clocks."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kit.fleet import Daemon, free_ports
from shoal.dht import Address

MIB = 2**20
DISK_MIB = 96  # of a machine whose disk can be filled
RESERVE_BYTES = MIB
DOORS = 4  # machines whose first addresses stand in the network file; these do not move
SHARE = re.compile(r"([0-9a-f]{64})\.(\d+)")
COMPLAINTS = ("Traceback", "bug in Shoal", "ERROR", '"error"')  # in a log; an orderly end is an error of code 130
CLOCK_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib")
Shares = set[tuple[str, int]]
"""The file id in hexadecimal digits, and the number of the share."""


def clock_library() -> str | None:
    """libfaketime, which moves the clock of one process; None where it is not installed."""
    found = (path for root in CLOCK_LIBRARIES for path in Path(root).glob("*/faketime/libfaketimeMT.so.1"))
    return next(map(str, found), None)


def enter_own_mounts() -> bool:
    """Start this program again where it may mount small disks that nobody else sees; whether it runs there now."""
    if os.environ.get("HARD_USE_MOUNTS"):
        return True
    probe = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True)
    if probe.returncode == 0:
        os.environ["HARD_USE_MOUNTS"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    return False


@dataclass
class Machine:
    """One daemon and what was done to it.

    trouble: what is being done to it now; empty where nothing is.
    steady_from: since when it may be relied upon, by the monotonic clock.
    clock_s: how far its clock is ahead, since `clock_since`.
    """

    daemon: Daemon
    has_disk: bool
    library: str | None
    trouble: str = ""
    steady_from: float = 0.0
    clock_s: float = 0.0
    clock_since: float = 0.0
    full_since: float | None = None
    is_up: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """For a log line."""
        return f"node {self.daemon.number}"

    def start(self) -> float:
        """Start its daemon where its address is now; when that was."""
        options = ["--listen", str(self.daemon.address)]
        if self.has_disk:
            options += ["--reserve", str(RESERVE_BYTES)]
        environment = {}
        if self.library:
            self._clock_file.write_text(f"{self.clock_s:+.0f}\n")
            environment = {
                "LD_PRELOAD": self.library,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        begun = self.daemon.start(*options, environment=environment)
        self.is_up = True
        return begun

    def kill(self) -> None:
        """kill -9."""
        self.is_up = False
        self.daemon.kill()

    def stop(self) -> int:
        """End it in order; its exit code."""
        self.is_up = False
        self.daemon.stop()
        return self.daemon.wait()

    def pause(self) -> None:
        """It sleeps."""
        assert self.daemon.pid is not None
        os.kill(self.daemon.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        if self.daemon.pid is not None:
            os.kill(self.daemon.pid, signal.SIGCONT)

    def set_clock(self, ahead_s: float) -> None:
        """Its daemon sees another time within a second."""
        self.clock_s, self.clock_since = ahead_s, time.monotonic()
        partial = self._clock_file.with_suffix(".new")
        partial.write_text(f"{ahead_s:+.0f}\n")
        partial.replace(self._clock_file)

    def fill(self) -> None:
        """Take all that is free on its disk."""
        with open(self._filler, "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(MIB // 4)):
                pass
        with open(self._filler, "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass

    def free(self) -> None:
        """Give the disk back."""
        self._filler.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """What is free on its disk."""
        return shutil.disk_usage(self.daemon.home.data).free

    def shares(self) -> Shares:
        """What is on its disk, whether it runs or not."""
        names = (SHARE.fullmatch(path.name) for path in self.daemon.files("*"))
        return {(name[1], int(name[2])) for name in names if name}

    def has_ended(self) -> bool:
        """Whether its daemon ended, and nobody ended it."""
        return self.is_up and self.daemon.pid is None

    def is_reliable(self, since: float) -> bool:
        """Whether nothing was done to it since then, and it had time before to get over what was done earlier."""
        return self.is_up and not self.trouble and self.steady_from <= since

    @property
    def _clock_file(self) -> Path:
        return self.daemon.home.data.with_suffix(".clock")

    @property
    def _filler(self) -> Path:
        return self.daemon.home.data / "filler"


class Park:
    """All machines, those that died too."""

    def __init__(self, folder: Path, count: int, epoch_s: float, *, may_mount: bool, library: str | None) -> None:
        self.folder = folder
        self.network_file = folder / "network.toml"
        self.machines: list[Machine] = []
        self.gone: list[tuple[float, Shares]] = []
        self.ended: list[str] = []
        self._may_mount, self._library = may_mount, library
        self._logs: list[Path] = []
        self._ports = iter(free_ports(count + 200))
        self._number = 0
        addresses = [self.new_address() for _ in range(count)]
        lines = ['network = "hard-use"', "pow_bits = 0", "private = true", f'epoch = "{epoch_s:g}s"']
        lines += [f'[[peer]]\naddress = "{address}"' for address in addresses[:DOORS]]
        self.network_file.write_text("\n".join(lines) + "\n")
        for number, address in enumerate(addresses):
            self._number = number
            self.machines.append(self._new(address, has_disk=may_mount and number % 4 == 1))

    def new_address(self) -> Address:
        """An address on loopback that no machine has had."""
        port = next(self._ports)
        return Address(f"127.0.{port % 200}.{port // 200 % 200 + 1}", port)

    def _new(self, address: Address, *, has_disk: bool) -> Machine:
        folder = self.folder / f"node-{self._number}"
        folder.mkdir()
        if has_disk:
            options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs"]
            subprocess.run(["mount", *options, str(folder)], check=True)
        daemon = Daemon(self._number, folder, self.network_file, address)
        self._logs.append(daemon.log_file)
        return Machine(daemon, has_disk, self._library)

    def replace(self, old: Machine) -> Machine:
        """A machine dies for good, and an empty one takes its address. What it kept is gone."""
        old.kill()
        self.gone.append((time.monotonic(), old.shares()))
        shutil.rmtree(old.daemon.home.store_folder)
        self._number += 1
        new = self._new(old.daemon.address, has_disk=False)
        self.machines[self.machines.index(old)] = new
        return new

    def note_ended(self) -> None:
        """Note daemons that ended by themselves, and start them again."""
        for machine in self.machines:
            if machine.has_ended():
                code = machine.daemon.wait()
                self.ended.append(f"{machine.name} ended by itself with {code}: {machine.daemon.last_words()[-300:]}")
                machine.start()

    def distinct(self, file_id: str, machines: list[Machine]) -> int:
        """How many different shares of a file are on the disks of these machines."""
        return len({share for machine in machines for file, share in machine.shares() if file == file_id})

    def reliable(self, since: float) -> list[Machine]:
        """The machines that a command which began then can count on."""
        return [machine for machine in self.machines if machine.is_reliable(since)]

    def complaints(self) -> Iterator[str]:
        """Lines of tracebacks and bugs in any log."""
        for log in self._logs:
            for line in log.read_text(errors="replace").splitlines():
                is_farewell = '"code": 130' in line
                if not is_farewell and any(sign in line for sign in COMPLAINTS):
                    yield f"{log.parent.name}: {line[:300]}"

    def end(self) -> None:
        """Kill what runs, and give the disks back."""
        for machine in self.machines:
            machine.wake()
            machine.kill()
        for folder in self.folder.glob("node-*"):
            if folder.is_mount():
                subprocess.run(["umount", "-l", str(folder)], check=False)


def digest(content: bytes) -> str:
    """What fetched bytes are compared by."""
    return hashlib.sha256(content).hexdigest()
