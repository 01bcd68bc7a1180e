"""How long a node is busy when it starts with 10 to 100,000 small shares: `shoal node run`, as volunteers run it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass
from pathlib import Path

from parts.figures import KIB, Cell, cpu_s, growth_row, memory_mib, table
from parts.shares import Setting, apart, build

from shoal.dht import Address, Identity, Reach
from shoal.erasure import FileId
from shoal.node import Home, Network, NodeSettings, init_node
from shoal.node.holders.statements import make_statement
from shoal.node.store import KeptStatement, RealDisk

LOOK_S = 0.5
QUIET_S = 5.0  # a node is quiet when it used less than QUIET_PART of a core for so long
QUIET_PART = 0.02
LIMIT_S = 900.0
LEASE_S = 90 * 86_400
NETWORK = """network = "benchmark"
pow_bits = 0
private = true
epoch = "365d"  # so that no file's turn comes while its other holders, who do not exist, would be missed
"""

HEAD = ("shares", "listens after s", "quiet after s", "CPU s", "CPU us/share", "memory MiB", "KiB/share")


class Signers:
    """The other holders of all files: identities that state what they keep. A Teller."""

    def __init__(self, network_id: bytes, count: int, now: float) -> None:
        self._identities = [Identity.create(0, os.urandom) for _ in range(count)]
        self._network_id, self._now = network_id, now

    def __call__(self, file_id: bytes, shares: Sequence[int]) -> list[KeptStatement]:
        """One share each."""
        return [self._state(FileId(file_id), share) for share in shares]

    def _state(self, file_id: FileId, share: int) -> KeptStatement:
        reach, lease_end = Reach.of(Address("127.0.0.1", 9)), int(self._now) + LEASE_S
        said = make_statement(self._identities[share], self._network_id, file_id, share, reach, lease_end, self._now)
        return KeptStatement(share, said.node_id, said.expires, said.lease_end, said.signed)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row, see HEAD. Times are from the start of the process; KiB are those over a node with nothing."""

    shares: int
    listens_s: float
    quiet_s: float
    cpu_s: float
    share_us: float
    memory_mib: float
    share_kib: float


def build_signed(setting: Setting, upto: int, network_id: bytes) -> float:
    """Fill the store; every statement in it is a valid one, and the node was up until now."""
    build_s = build(setting, upto, Signers(network_id, setting.n, setting.now))
    with closing(setting.open(RealDisk())) as store:
        store.note_uptime(LEASE_S, time.time())
    return build_s


def measure(home: Path, network_file: Path, shares: int, empty_mib: float) -> Measured:
    """Start the node, wait until it is quiet, and stop it."""
    words = ["--home", str(home), "--network", str(network_file), "--json", "node", "run", "--stop-on-eof"]
    began = time.perf_counter()
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "shoal.cli", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stack.callback(process.stdin.close)
        assert json.loads(process.stdout.readline())["event"] == "listening", "the first thing it says"
        listens_s = time.perf_counter() - began
        quiet_s, used_s = wait_until_quiet(process.pid, began)
        memory = memory_mib(process.pid)
    return Measured(
        shares,
        listens_s,
        quiet_s,
        used_s,
        1e6 * used_s / max(1, shares),
        memory,
        (memory - empty_mib) * KIB / max(1, shares),
    )


def wait_until_quiet(pid: int, began: float) -> tuple[float, float]:
    """When a process was last busy, in seconds since `began`, and the CPU seconds it has used."""
    seen: deque[tuple[float, float]] = deque(maxlen=1 + round(QUIET_S / LOOK_S))
    while time.perf_counter() - began < LIMIT_S:
        seen.append((time.perf_counter() - began, cpu_s(pid)))
        (before_s, used_before_s), (now_s, used_s) = seen[0], seen[-1]
        if len(seen) == seen.maxlen and used_s - used_before_s < QUIET_PART * (now_s - before_s):
            return before_s, used_s
        time.sleep(LOOK_S)
    raise SystemExit(f"the node was not quiet within {LIMIT_S:.0f} s")


def run(sizes: Sequence[int], *, k: int, n: int) -> None:
    """Measure size after size on one growing home; print the table."""
    print(
        f"`shoal node run` on a home with shares of 1 KiB, each of a {k}-of-{n} file of its own with {n - 1} valid "
        f"statements of others,\nuntil it uses less than {100 * QUIET_PART:.0f} % of a core for {QUIET_S:.0f} s"
    )
    with tempfile.TemporaryDirectory(prefix="shoal-scale-") as name:
        network_file = Path(name) / "network.toml"
        network_file.write_text(NETWORK)
        parameters = Network.load(network_file).parameters
        home = Home.at(Path(name) / "home")
        settings = NodeSettings(capacity_bytes=10**12, reserve_bytes=0, listen=(Address("127.0.0.1", 0),))
        init_node(home, settings, parameters)
        empty_mib = measure(Path(name) / "home", network_file, 0, 0.0).memory_mib
        setting = Setting(home.store_folder, k, n, now=time.time())
        rows: list[tuple[Cell, ...]] = []
        for size in sorted(sizes):
            build_s = apart(build_signed, setting, size, parameters.network_id)
            print(f"  {size} shares: built at {1e6 * build_s:.0f} us each", flush=True)
            rows.append(astuple(measure(Path(name) / "home", network_file, size, empty_mib)))
    print(*table(HEAD, [*rows, growth_row(sorted(sizes), rows)]), sep="\n")
    print(f"a node that keeps nothing: {empty_mib:.1f} MiB")
