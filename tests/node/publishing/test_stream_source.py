"""Everything that can be published and is no path: bytes, file objects, iterables."""

import io
import os
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from shoal.node import Environment, real_environment
from shoal.node.errors import UsageError
from shoal.node.publishing.opening import open_source
from shoal.node.publishing.sources import Source
from shoal.node.publishing.stream_source import CHUNKS_AT_ONCE, READ_BYTES

CONTENT = os.urandom(3 * READ_BYTES + 5)


async def read_all(source: Source, step: int = 100_000) -> bytes:
    pieces = []
    while piece := await source.read(step):
        pieces.append(piece)
    await source.finish()
    await source.aclose()
    return b"".join(pieces)


@pytest.mark.parametrize("of_type", [bytes, bytearray, memoryview])
async def test_bytes_are_published_and_their_size_is_known(of_type: Any, env: Environment) -> None:
    source = await open_source(of_type(CONTENT), env)
    assert (source.size, await source.peek(10), source.identity, source.entries) == (len(CONTENT),) * 2 + (None, None)
    assert await read_all(source) == CONTENT
    assert await read_all(await open_source(of_type(b""), env)) == b""


async def test_memory_of_larger_items_is_its_bytes(env: Environment) -> None:
    view = memoryview(CONTENT[:800])
    assert await read_all(await open_source(view.cast("Q"), env)) == CONTENT[:800]
    assert await read_all(await open_source(view[::3], env)) == CONTENT[:800:3]


async def test_a_file_object_is_read_from_where_it_is(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    with open(tmp_path / "f", "rb") as file:  # noqa: ASYNC230  # what a caller has
        file.seek(7)
        assert await read_all(await open_source(file, env)) == CONTENT[7:]
        assert not file.closed
    assert await read_all(await open_source(io.BytesIO(CONTENT), env)) == CONTENT
    async with await trio.open_file(tmp_path / "f", "rb") as async_file:
        assert await read_all(await open_source(async_file, env)) == CONTENT


async def test_a_file_object_is_read_in_a_worker(env: Environment) -> None:
    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

    threads: set[int] = set()
    assert await read_all(await open_source(Pipe(CONTENT), real_environment())) == CONTENT
    assert threading.get_ident() not in threads


async def test_what_is_no_binary_file_is_refused(tmp_path: Path, env: Environment) -> None:
    (tmp_path / "f").write_bytes(b"\xff\xfe")
    with open(tmp_path / "f") as text:  # noqa: ASYNC230
        with pytest.raises(UsageError, match="Cannot read the file object"):
            await read_all(await open_source(text, env))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="gives bytes, and not str"):
            await read_all(await open_source(io.StringIO("text"), env))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="closed file"):
        await read_all(await open_source(text, env))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must block"):
        await read_all(await open_source(Impatient(), env))


class Impatient:
    """A file object in non-blocking mode."""

    def read(self, size: int, /) -> Any:
        return None


@given(st.lists(st.binary(max_size=50), max_size=30))
async def test_an_iterable_is_published(chunks: list[bytes]) -> None:
    env = real_environment()
    assert await read_all(await open_source(chunks, env)) == b"".join(chunks)
    assert await read_all(await open_source((chunk for chunk in chunks), env), 7) == b"".join(chunks)


async def test_an_iterable_is_taken_as_it_is_read(env: Environment) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1, 10**6):  # noqa: B007  # it is read outside
            yield b"x" * 10

    source = await open_source(chunks(), env)
    assert await source.read(5) == b"xxxxx"
    assert taken == CHUNKS_AT_ONCE
    assert await source.peek(10) is None


@pytest.mark.parametrize("wrong", [["text"], [1], [None, b"x"], [[b"x"]]])
async def test_what_is_no_bytes_is_refused(wrong: list[Any], env: Environment) -> None:
    with pytest.raises(UsageError, match="gives bytes, and not"):
        await read_all(await open_source(wrong, env))

    async def chunks() -> AsyncGenerator[Any, None]:
        for each in wrong:
            yield each

    async with aclosing(chunks()) as stream:
        with pytest.raises(UsageError, match="gives bytes, and not"):
            await read_all(await open_source(stream, env))


async def test_a_failure_of_the_callers_own_stays_as_it_is(env: Environment) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read_all(await open_source(chunks(), env))


@pytest.mark.parametrize("what", [None, 5, 5.0, object()])
async def test_anything_else_is_refused(what: Any, env: Environment) -> None:
    with pytest.raises(UsageError, match="A source is a path, bytes"):
        await open_source(what, env)
