"""kill -9 at random moments: every share a real process acknowledged is served by the next one, without help.

SHOAL_CRASH_POINTS sets how often (default 4; the long run uses 500).
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import pytest

from shoal.node.store import RealDisk

POINTS = int(os.environ.get("SHOAL_CRASH_POINTS", "4"))
START_LIMIT_S = 5.0

WORKER = """
import random, sys
from pathlib import Path
import msgpack
from shoal.node.store import RealDisk, ShareStore

root, files_path, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
files = msgpack.unpackb(files_path.read_bytes())
rng = random.Random(seed)
store = ShareStore(RealDisk(), root, capacity_bytes=10**12, reserve_bytes=0, now=1.8e9, private=True)
print("open", flush=True)
while True:
    number = rng.randrange(len(files))
    manifest, blocks, leaves = files[number]
    share, upload = rng.randrange(len(blocks)), rng.randbytes(16)
    store.begin(upload, b"", 0, 1.8e9)
    for at in range(len(leaves)):
        store.write(upload, at, [blocks[share][at]], [leaves[at]], 1.8e9)
        if rng.random() < 0.3:
            print("durable", upload.hex(), store.sync(upload, 1.8e9), flush=True)
    store.commit(upload, share, manifest, 1_900_000_000, 1.8e9)
    print("acked", number, share, flush=True)
"""


@pytest.fixture(scope="module")
def files(kit):
    """Enough different shares that most commits are first ones."""
    shapes = [(1, 2000), (1, 40_000), (3, 5000), (6, 65536)]
    return [kit.publish(*shapes[seed % 4], k=2, n=8, seed=seed) for seed in range(24)]


def run_and_kill(root: Path, files_path: Path, seed: int) -> list[list[str]]:
    """Start a process, kill it after a random while, and give what it printed in whole lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), str(files_path), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    begun = time.monotonic()
    first = process.stdout.readline()
    assert first == b"open\n", process.stderr.read().decode()
    assert time.monotonic() - begun < START_LIMIT_S
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert not errors
    return [line.split() for line in output.decode().split("\n")[:-1]]


def test_every_acked_share_is_served_after_kill_9(tmp_path, kit, files):
    root, files_path = tmp_path / "store", tmp_path / "files"
    files_path.write_bytes(msgpack.packb([[file.encoded, file.blocks, file.data_leaves] for file in files]))
    acked: set[tuple[int, int]] = set()
    for point in range(POINTS):
        lines = run_and_kill(root, files_path, point)
        acked |= {(int(line[1]), int(line[2])) for line in lines if line[0] == "acked"}
        durable = {line[1]: int(line[2]) for line in lines if line[0] == "durable"}
        store = kit.Place(RealDisk(), root).open()
        for number, share in acked:
            kit.check_share(store, files[number], share)
        if lines and lines[-1][0] == "durable":  # the upload that was open when the process died
            upload, blocks = bytes.fromhex(lines[-1][1]), durable[lines[-1][1]]
            assert store.begin(upload, b"", 0, kit.NOW) >= blocks
        assert store.reconciled.lost == store.reconciled.unreadable == 0
        store.close()
    assert acked
