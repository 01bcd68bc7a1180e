"""Whether a file is still what was sealed of it, byte for byte."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.erasure import BLOCK_BYTES, SEGMENT_OVERHEAD, ShareEncoder, best_codec
from shoal.node import Environment
from shoal.node.cipher import FileCipher
from shoal.node.errors import LocalError
from shoal.node.publishing.opening import open_source
from shoal.node.publishing.sealing import NOTHING_SEALED, Sealer, chained
from shoal.node.publishing.second_look import LOOKS, Sealed, SecondLook
from shoal.node.publishing.sources import Source

CIPHER = FileCipher(bytes(range(32)))
K, N = 2, 3
STEP = K * BLOCK_BYTES - SEGMENT_OVERHEAD
SIZES = [0, 1, 256, 1000, STEP, STEP + 1, 5 * STEP, 40 * STEP + 7]


def nothing(_done: int) -> None:
    """Progress that nobody follows."""


async def seal(source: Source, env: Environment) -> Sealed:
    """What a publish has sealed of a source when it has read all of it."""
    encoder = ShareEncoder(K, N, best_codec())
    sealer = Sealer(source, CIPHER, encoder, env)
    while await sealer.next_batch() is not None:
        pass
    await source.finish()
    return Sealed(encoder.segment_count, sealer.chain, sealer.size, ends=True)


def put(path: Path, content: bytes) -> None:
    """Write a file anew."""
    path.write_bytes(content)


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Write into a file without a trace in its mtime."""
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("size", SIZES)
async def test_an_unchanged_file_is_found_again(path: Path, env: Environment, size: int) -> None:
    put(path, os.urandom(size))
    source = await open_source(path, env)
    sealed = await seal(source, env)
    told: list[int] = []
    await SecondLook(source, CIPHER, K, env, told.append).require(sealed)
    assert told == sorted(told)
    assert told[-1] == size
    await source.aclose()


@pytest.mark.parametrize("at", [0, STEP - 1, STEP, 40 * STEP + 6])
async def test_one_changed_byte_anywhere_is_seen(path: Path, env: Environment, at: int) -> None:
    put(path, bytes(40 * STEP + 7))
    source = await open_source(path, env)
    sealed = await seal(source, env)
    overwrite(path, at, b"\x01")
    with pytest.raises(LocalError, match="changed while it was being read"):
        await SecondLook(source, CIPHER, K, env, nothing).require(sealed)
    await source.aclose()


@contextmanager
def mapped_for_writing(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes as memory."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        yield mapped


async def test_a_writer_through_mmap_is_seen_without_any_trace_in_the_times(path: Path, env: Environment) -> None:
    put(path, bytes(3 * STEP))
    with mapped_for_writing(path) as mapped:
        mapped[5] = 1  # the page is dirty from here on: what follows changes no time
        source = await open_source(path, env)
        sealed = await seal(source, env)
        before = await source.look()
        mapped[5] = 2
        assert await source.look() == before
        with pytest.raises(LocalError, match="changed while it was being read"):
            await SecondLook(source, CIPHER, K, env, nothing).require(sealed)
        await source.aclose()


async def test_zeros_at_the_end_are_no_padding(path: Path, env: Environment) -> None:
    put(path, b"x" * 900)
    source = await open_source(path, env)
    sealed = await seal(source, env)
    await source.aclose()
    put(path, b"x" * 900 + bytes(10))
    source = await open_source(path, env)
    assert not await SecondLook(source, CIPHER, K, env, nothing).finds(sealed)
    await source.aclose()


async def test_a_shorter_file_is_not_the_same(path: Path, env: Environment) -> None:
    put(path, bytes(40 * STEP))
    source = await open_source(path, env)
    sealed = await seal(source, env)
    os.truncate(path, 39 * STEP)
    assert not await SecondLook(source, CIPHER, K, env, nothing).finds(sealed)
    await source.aclose()


@pytest.mark.parametrize(("at", "same"), [(3 * STEP - 1, False), (3 * STEP, True)])
async def test_only_what_was_sealed_so_far_must_be_the_same(path: Path, env: Environment, at: int, same: bool) -> None:
    put(path, bytes(40 * STEP))
    source = await open_source(path, env)
    chain = chained(NOTHING_SEALED, (CIPHER.nonce_of(index, False, bytes(STEP)) for index in range(3)))
    sealed = Sealed(3, chain, 3 * STEP, ends=False)
    overwrite(path, at, b"\x01")
    assert await SecondLook(source, CIPHER, K, env, nothing).finds(sealed) == same
    await source.aclose()


async def test_a_new_mode_or_name_does_no_harm(path: Path, env: Environment) -> None:
    put(path, os.urandom(3 * STEP))
    source = await open_source(path, env)
    sealed = await seal(source, env)
    os.chmod(path, 0o400)
    await SecondLook(source, CIPHER, K, env, nothing).require(sealed)
    await source.aclose()


@pytest.mark.parametrize("rests_after", [LOOKS - 1, LOOKS])
async def test_a_ctime_that_does_not_rest_is_refused_in_the_end(path: Path, env: Environment, rests_after: int) -> None:
    put(path, os.urandom(3 * STEP))
    source = await open_source(path, env)
    sealed = await seal(source, env)
    looks = 0

    def disturb(done: int) -> None:
        nonlocal looks
        looks += done == sealed.size
        if done == sealed.size and looks <= rests_after:
            os.chmod(path, 0o600 + looks)

    look = SecondLook(source, CIPHER, K, env, disturb)
    if rests_after < LOOKS:
        await look.require(sealed)
    else:
        with pytest.raises(LocalError, match="changed"):
            await look.require(sealed)
    assert looks == LOOKS
    await source.aclose()
