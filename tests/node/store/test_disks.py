"""One contract for the real disk and the simulated one, and the crash model of the latter."""

import errno
import fcntl
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kit.stores import Place
from shoal.erasure import BLOCK_BYTES, Buffer, payload_memory
from shoal.node.store import DiskEntryKind, RealDisk, split_blocks
from shoal.simulation.disk import PowerCut, SimDisk


@pytest.fixture
def folder(place: Place) -> Path:
    path = place.root / "a" / "b"
    place.disk.make_directories(path)
    place.disk.make_directories(path)
    return path


def test_bytes_go_where_they_are_sent(place: Place, folder: Path) -> None:
    file = place.disk.create(folder / "x")
    file.write_at(0, [b"one", bytearray(b"two"), memoryview(b"three")])
    file.write_at(15, [b"end"])
    assert file.read_at(0, 100) == b"onetwothree\0\0\0\0end"
    assert file.read_at(3, 3) == b"two"
    assert file.read_at(50, 3) == b""
    file.truncate(5)
    file.truncate(7)
    assert file.size() == 7 == place.disk.size(folder / "x")
    file.fsync()
    file.close()
    file.close()
    with pytest.raises(OSError, match=r"closed|descriptor|writing"):
        file.read_at(0, 1)


def test_names(place: Place, folder: Path) -> None:
    disk = place.disk
    disk.create(folder / "x").close()
    with pytest.raises(FileExistsError):
        disk.create(folder / "x")
    other = disk.create(folder / "y")
    other.write_at(0, [b"y"])
    disk.rename(folder / "y", folder / "x")
    other.close()
    assert disk.list_directory(folder) == {"x": DiskEntryKind.FILE}
    file = disk.open(folder / "x")
    assert file.read_at(0, 9) == b"y"
    with pytest.raises(OSError, match=r"closed|descriptor|writing"):
        file.write_at(0, [b"no"])
    file.close()
    disk.fsync_directory(folder)
    disk.unlink(folder / "x")
    assert disk.list_directory(folder) == disk.list_directory(folder / "none") == {}
    assert disk.list_directory(folder.parent) == {"b": DiskEntryKind.FOLDER}
    for missing in (disk.open, disk.unlink, disk.size):
        with pytest.raises(FileNotFoundError):
            missing(folder / "x")
    with pytest.raises(FileNotFoundError):
        disk.create(folder / "none" / "x")


def test_many_pieces_in_one_write(place: Place, folder: Path) -> None:
    file = place.disk.create(folder / "x")
    pieces = [bytes([number % 256]) * 3 for number in range(1500)]
    file.write_at(1, pieces)
    assert file.read_at(1, 4500) == b"".join(pieces)
    file.close()


def test_reading_into_a_buffer(place: Place, folder: Path) -> None:
    file = place.disk.create(folder / "x")
    file.write_at(0, [b"0123456789"])
    buffer = bytearray(b"." * 6)
    assert file.read_into(2, memoryview(buffer)) == 6
    assert buffer == b"234567"
    assert file.read_into(7, memoryview(buffer)) == 3
    assert buffer == b"789567"
    assert file.read_into(10, memoryview(buffer)) == 0
    file.close()


# long writes on the real disk


def noise(length: int, seed: int) -> memoryview:
    """As a payload comes: whole pages of memory."""
    view = payload_memory.view(length)
    view[:] = random.Random(seed).randbytes(length)
    return view


class Calls:
    """Watches what is asked of the system. With `refusing` no file system takes direct writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refusing: bool) -> None:
        self.direct: list[int] = []
        self.cached: list[int] = []
        self.dropped: list[tuple[int, int]] = []
        pwritev, advise, control = os.pwritev, os.posix_fadvise, fcntl.fcntl

        def write(descriptor: int, pieces: Sequence[Buffer], offset: int) -> int:
            is_direct = control(descriptor, fcntl.F_GETFL) & os.O_DIRECT
            (self.direct if is_direct else self.cached).append(offset)
            return pwritev(descriptor, pieces, offset)

        def drop(descriptor: int, offset: int, length: int, advice: int) -> None:
            assert advice == os.POSIX_FADV_DONTNEED
            self.dropped.append((offset, length))
            advise(descriptor, offset, length, advice)

        def refuse(descriptor: int, command: int, argument: int = 0) -> int:
            if refusing and command == fcntl.F_SETFL and argument & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return control(descriptor, command, argument)

        monkeypatch.setattr(os, "pwritev", write)
        monkeypatch.setattr(os, "posix_fadvise", drop)
        monkeypatch.setattr(fcntl, "fcntl", refuse)


def test_blocks_go_past_the_page_cache_and_all_else_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, refusing=False)
    file = RealDisk().create(tmp_path / "x")
    blocks, last = noise(3 * BLOCK_BYTES, 1), noise(BLOCK_BYTES + 5, 2)
    file.write_at(0, split_blocks(blocks))
    file.write_at(len(blocks), split_blocks(last))
    tail = len(blocks) + len(last)
    file.write_at(tail, [b"trees"])
    assert calls.cached[-2:] == [len(blocks), tail], "a length that is no whole page, and a short write"
    assert calls.direct == [0] or calls.cached[0] == 0, "where the file system takes it"
    file.fsync()
    assert calls.dropped == [(0, tail)], "what is synced need not stay"
    assert file.read_at(0, tail + 9) == bytes(blocks) + bytes(last) + b"trees"
    file.close()


@pytest.mark.parametrize("refusing", [True, False])
def test_where_direct_writes_are_refused_pages_are_dropped_after_the_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: bool
) -> None:
    """By the file system, or since the buffer begins in the middle of a page: the bytes are the same."""
    calls = Calls(monkeypatch, refusing=refusing)
    file = RealDisk().create(tmp_path / "x")
    blocks = noise(2 * BLOCK_BYTES + 100, 3)[100:]
    for offset in (0, len(blocks)):
        file.write_at(offset, split_blocks(blocks))
    assert calls.cached == [0, len(blocks)]
    assert len(calls.direct) <= 1, "one refusal is enough"
    file.fsync()
    file.fsync()
    assert calls.dropped == [(0, 2 * len(blocks))]
    assert file.read_at(0, file.size()) == 2 * bytes(blocks)
    file.close()


def test_database(place: Place, folder: Path) -> None:
    path = folder / "some.db"
    connection = place.disk.database(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("COMMIT")
    assert place.disk.database_bytes(path) >= 4096
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (2)")
    connection.close()
    connection = place.disk.database(path)
    assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    connection.close()
    assert place.disk.free_bytes(folder) > 0


# the crash model


@pytest.fixture
def sim_folder() -> tuple[SimDisk, Path]:
    disk = SimDisk()
    disk.make_directories(Path("/d"))
    return disk, Path("/d")


def fates(sim: tuple[SimDisk, Path], work: Callable[..., Any]) -> set[tuple[tuple[str, bytes], ...]]:
    """What may be left of `work` after a power cut, over many seeds: {name: contents}, as a set."""
    results = set()
    for seed in range(200):
        disk, folder = SimDisk(), Path("/d")
        disk.make_directories(folder)
        work(disk, folder)
        disk.crash(random.Random(seed))
        left = {name: disk.open(folder / name).read_at(0, 100) for name in disk.list_directory(folder)}
        results.add(tuple(sorted(left.items())))
    return results


def test_what_was_synced_survives_and_the_rest_may_not(sim_folder: tuple[SimDisk, Path]) -> None:
    def work(disk: SimDisk, folder: Path) -> None:
        file = disk.create(folder / "x")
        file.write_at(0, [b"safe"])
        file.fsync()
        disk.fsync_directory(folder)
        file.write_at(4, [b"AB"])
        file.write_at(6, [b"C"])

    left = fates(sim_folder, work)
    texts = {files[0][1] for files in left}
    whole = {b"safe", b"safeA", b"safeAB", b"safeABC", b"safeA\0C", b"safe\0\0C"}
    assert texts == whole | {b"safe\0\0", b"safeA\0"}, "the length may survive without the bytes"


def test_a_rename_is_all_or_nothing_and_not_durable_by_itself(sim_folder: tuple[SimDisk, Path]) -> None:
    def work(disk: SimDisk, folder: Path) -> None:
        file = disk.create(folder / "old")
        file.write_at(0, [b"x"])
        file.fsync()
        disk.fsync_directory(folder)
        disk.rename(folder / "old", folder / "new")

    assert fates(sim_folder, work) == {(("old", b"x"),), (("new", b"x"),)}


def test_a_rename_does_not_make_contents_durable(sim_folder: tuple[SimDisk, Path]) -> None:
    def work(disk: SimDisk, folder: Path) -> None:
        file = disk.create(folder / "old")
        file.write_at(0, [b"xy"])
        disk.rename(folder / "old", folder / "new")
        disk.fsync_directory(folder)

    assert fates(sim_folder, work) == {(("new", b""),), (("new", b"x"),), (("new", b"xy"),)}


def test_an_unlink_may_be_undone(sim_folder: tuple[SimDisk, Path]) -> None:
    def work(disk: SimDisk, folder: Path) -> None:
        disk.create(folder / "x").fsync()
        disk.fsync_directory(folder)
        disk.unlink(folder / "x")

    assert fates(sim_folder, work) == {(), (("x", b""),)}


def test_old_files_are_closed_by_a_crash(sim_folder: tuple[SimDisk, Path]) -> None:
    disk, folder = sim_folder
    file = disk.create(folder / "x")
    disk.crash(random.Random(0))
    with pytest.raises(OSError, match="closed"):
        file.write_at(0, [b"x"])


def test_committed_transactions_survive_and_open_ones_do_not(sim_folder: tuple[SimDisk, Path]) -> None:
    disk, folder = sim_folder
    connection = disk.database(folder / "db")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (2)")
    disk.crash(random.Random(0))
    assert disk.database(folder / "db").execute("SELECT x FROM t").fetchall() == [(1,)]


def test_faults(sim_folder: tuple[SimDisk, Path]) -> None:
    disk, folder = sim_folder
    file = disk.create(folder / "x")
    disk.fail("write", 2)
    file.write_at(0, [b"a"])
    with pytest.raises(OSError, match="EIO") as error:
        file.write_at(1, [b"b"])
    assert error.value.errno == errno.EIO
    file.write_at(1, [b"b"])
    disk.total_bytes = 4
    with pytest.raises(OSError, match="space"):
        file.write_at(2, [b"ccc"])
    disk.unlink(folder / "x")
    assert disk.free_bytes(folder) == 4
    disk.crash_at(2)
    disk.list_directory(folder)
    with pytest.raises(PowerCut):
        disk.list_directory(folder)
    with pytest.raises(PowerCut):
        disk.create(folder / "y")
