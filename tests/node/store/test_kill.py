"""kill -9 at random moments: every share a real process acknowledged is served by the next one, without help.

The process puts shares, and also lets some expire, deletes files for their owners, and damages some and finds it; what
it said it had given up is not held, and what it was about to give up is whole or gone.

SHOAL_CRASH_POINTS sets how often (default 12; the other 8 points of a run of all tests are in
tests/node/whole/crash). The long run, with its figures, takes minutes:

    SHOAL_CRASH_POINTS=500 python -m pytest -s tests/node/store/test_kill.py
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

from kit import stores
from shoal.node.store import RealDisk

POINTS = int(os.environ.get("SHOAL_CRASH_POINTS", "12"))
START_LIMIT_S = 5.0

WORKER = """
import random, sys
from pathlib import Path
import msgpack
from shoal.node.store import FileDeleted, RealDisk, ShareStore

NOW, FOREVER, DAY_S = 1.8e9, 1_900_000_000, 86400
root, files_path, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
files = msgpack.unpackb(files_path.read_bytes())
rng = random.Random(seed)
store = ShareStore(RealDisk(), root, capacity_bytes=10**12, reserve_bytes=0, now=NOW, private=True)

def say(*words):
    print(*words, flush=True)

def put(number, share, lease_end):
    manifest, blocks, leaves, _ = files[number]
    upload = rng.randbytes(16)
    store.begin(upload, b"", 0, NOW)
    for at in range(len(leaves)):
        store.write(upload, at, [blocks[share][at]], [leaves[at]], NOW)
        if rng.random() < 0.3:
            say("durable", upload.hex(), store.sync(upload, NOW))
    say("putting", number, share)
    try:
        store.commit(upload, share, manifest, lease_end, NOW)
    except FileDeleted:
        say("refused", number)
    else:
        say("acked", number, share)

def drop(number):
    put(number, 0, 1)  # unless it is held already, its lease ended long ago
    say("dropping")
    store.drop_expired(NOW, True)
    store.note_uptime(14 * DAY_S, 0.0)
    store.drop_expired(NOW, True)
    say("dropped")

def delete(number):
    say("deleting", number)
    store.delete(files[number][3], b"tombstone", FOREVER, NOW)
    say("deleted", number)

def rot(number, share):
    for path in root.glob(f"shares/*/{files[number][3].hex()}.{share}"):
        say("rotting", number, share)
        with path.open("r+b") as file:
            file.write(b"rot")
        store.scrub(NOW, 1 << 40)
        say("aside", number, share)

say("open")
while True:
    number, choice = rng.randrange(len(files)), rng.random()
    if choice < 0.1:
        drop(number)
    elif choice < 0.13:
        delete(rng.randrange(18, len(files)))  # some must be left for long runs
    elif choice < 0.25:
        rot(number, rng.randrange(1, 8))
    else:
        put(number, rng.randrange(1, 8), FOREVER)
"""


@pytest.fixture(scope="module")
def files() -> list[stores.Published]:
    """Enough different shares that most commits are first ones."""
    shapes = [(1, 2000), (1, 40_000), (3, 5000), (6, 65536)]
    return [stores.publish(*shapes[seed % 4], k=2, n=8, seed=seed) for seed in range(24)]


def run_and_kill(root: Path, files_path: Path, seed: int) -> tuple[list[list[str]], float]:
    """Start a process and kill it after a random while: what it printed in whole lines, and seconds until it was up."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), str(files_path), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # `communicate` would not see what came with the first line
    )
    assert process.stdout is not None
    assert process.stderr is not None
    begun = time.monotonic()
    first = process.stdout.readline()
    assert first == b"open\n", process.stderr.read().decode()
    start_s = time.monotonic() - begun
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert not errors
    return [line.split() for line in output.decode().split("\n")[:-1]], start_s


def follow(
    lines: list[list[str]], held: dict[tuple[int, int], bool | None], deleted: set[int], leased: set[int]
) -> None:
    """What is held after these lines: true, false, or None where the process died in the middle of changing it.

    Shares number 0 are those whose lease is over: any drop may take them. Not those of files in `leased`: a share whose
    file was found without a row is given the longest lease there can be, since nobody knows whether it was renewed.
    """
    for word, *rest in lines:
        numbers = [int(each) for each in rest] if word != "durable" else []
        if word == "putting" and not held.get((numbers[0], numbers[1])) and numbers[0] not in deleted:
            held[numbers[0], numbers[1]] = None
        elif word == "acked":
            assert numbers[0] not in deleted
            held[numbers[0], numbers[1]] = True
        elif word in ("dropping", "dropped"):
            droppable = [key for key in held if key[1] == 0 and key[0] not in leased]
            held |= dict.fromkeys(droppable, None if word == "dropping" else False)
        elif word in ("deleting", "deleted"):
            held |= {(numbers[0], share): None if word == "deleting" else False for share in range(8)}
            deleted |= {numbers[0]} if word == "deleted" else set()
        elif word in ("rotting", "aside"):
            held[numbers[0], numbers[1]] = None if word == "rotting" else False
        elif word == "refused":
            deleted.add(numbers[0])
            held |= {(numbers[0], share): False for share in range(8)}


def test_every_acked_share_is_served_after_kill_9(tmp_path: Path, files: list[stores.Published]) -> None:
    root, files_path = tmp_path / "store", tmp_path / "files"
    files_path.write_bytes(
        msgpack.packb([[file.encoded, file.blocks, file.data_leaves, file.file_id] for file in files])
    )
    held: dict[tuple[int, int], bool | None] = {}
    deleted: set[int] = set()
    leased: set[int] = set()
    starts_s = []
    for point in range(POINTS):
        lines, start_s = run_and_kill(root, files_path, point)
        starts_s.append(start_s)
        follow(lines, held, deleted, leased)
        durable = {line[1]: int(line[2]) for line in lines if line[0] == "durable"}
        place = stores.Place(RealDisk(), root)
        store = place.open()
        store.scrub(stores.NOW, 1 << 40)  # finds what was rotting
        for (number, share), is_held in held.items():
            if is_held:
                stores.check_share(store, files[number], share)
            kept = store.held(files[number].file_id)
            numbers = [each.share_number for each in kept]
            leased |= {number for each in kept if each.share_number == 0 and each.lease_end > stores.NOW}
            assert is_held is not False or share not in numbers
            if share in numbers:
                stores.check_share(store, files[number], share)
            held[number, share] = share in numbers
        assert all(store.tombstone(files[number].file_id) == b"tombstone" for number in deleted)
        if lines and lines[-1][0] == "durable":  # the upload that was open when the process died
            upload, blocks = bytes.fromhex(lines[-1][1]), durable[lines[-1][1]]
            assert store.begin(upload, b"", 0, stores.NOW) >= blocks
            store.abort(upload, stores.NOW)
        assert store.reconciled.lost == store.reconciled.unreadable == 0
        usage = store.usage()
        assert usage.upload_bytes or usage.share_bytes == stores.used_on_disk(place)
        store.close()
    assert any(held.values())
    starts_s.sort()
    median_s = starts_s[len(starts_s) // 2]
    slow = sum(start_s >= START_LIMIT_S for start_s in starts_s)
    print(
        f"\n{POINTS} points, 0 acknowledged shares lost; {len(starts_s)} starts: the median took {median_s:.2f} s, the "
        f"longest {starts_s[-1]:.2f} s; {slow} of them {START_LIMIT_S:.0f} s or more"
    )
