"""Indexes that no honest publisher writes: refused by every way to a folder, before anything is written."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from kit.hostile_indexes import Forged, hand_made, hostile_indexes
from kit.later import seal_as_forged
from kit.worlds import start_nodes
from shoal.erasure import Link
from shoal.node import BadData, NeedsNewerShoal, Node, NotFound, ShoalError, UsageError
from shoal.node.fetching.folder import RemoteFolder
from shoal.node.fetching.selection import PathSelection
from shoal.node.fetching.tar_stream import TarStream
from shoal.simulation.world import World, run_world

MOST_BYTES = 2**20  # of a plaintext that is really published; a longer one is only claimed

Way = Callable[[Node, Link, Path], Awaitable[Any]]


async def forged_link(world: World, patch: pytest.MonkeyPatch, forged: Forged) -> Link:
    """Publish it as its publisher would."""
    contents = bytes(min(MOST_BYTES, max(0, forged.content_bytes)))
    with patch.context() as inner:
        seal_as_forged(inner, forged.fields, forged.size)
        data = b"".join([contents, *forged.pages, forged.table])
        async with world.client(f"publisher {world.rng.random()}") as client:
            return (await client.publish(data, needed=2, total=4, name="photos")).link


async def fetch(client: Node, link: Link, folder: Path) -> None:
    await client.fetch(link, folder / "out")


async def walk(client: Node, link: Link, folder: Path) -> None:
    async with client.open_remote(link) as remote:
        assert isinstance(remote, RemoteFolder)
        async with aclosing(remote.walk()) as entries:
            async for _ in entries:
                pass


async def tar(client: Node, link: Link, folder: Path) -> None:
    async with client.open_remote(link) as remote:
        assert isinstance(remote, RemoteFolder)
        async with aclosing(TarStream(PathSelection(remote), 0.0).chunks()) as chunks:
            async for _ in chunks:
                pass


async def look_into(client: Node, link: Link, folder: Path) -> None:
    """These look at one page. They may find nothing wrong there, and tell what is on it."""
    async with client.open_remote(link) as remote:
        assert isinstance(remote, RemoteFolder)
        await remote.entries()
        for path in (b"a", b"b", b"a/b"):
            with suppress(NotFound, UsageError):
                await remote.open(path)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], BaseException | None]:
    """What each way to each of the indexes has failed with."""
    folder = tmp_path_factory.mktemp("hostile")
    target = folder / "target"
    target.mkdir()
    failures: dict[tuple[str, str], BaseException | None] = {}

    async def story(world: World) -> None:
        await start_nodes(world, 5)
        async with world.client("reader") as client:
            for name, forged in hand_made().items():
                with pytest.MonkeyPatch.context() as patch:
                    link = await forged_link(world, patch, forged)
                async for way, failure in ways(client, link, target):
                    failures[name, way] = failure
                assert os.listdir(target) == [], name

    run_world(1, folder / "world", story)
    return failures


async def ways(client: Node, link: Link, folder: Path) -> AsyncIterator[tuple[str, BaseException | None]]:
    for way in (fetch, walk, tar, look_into):
        try:
            await way(client, link, folder)
            yield way.__name__, None
        except ShoalError as error:
            yield way.__name__, error


@pytest.mark.parametrize("name", hand_made())
def test_a_hostile_index_is_refused(name: str, refusals: dict[tuple[str, str], BaseException | None]) -> None:
    for way in ("fetch", "walk", "tar"):
        failure = refusals[name, way]
        assert isinstance(failure, BadData | NeedsNewerShoal), f"{way}: {failure!r}"
        assert str(failure).isprintable()
    assert isinstance(refusals[name, "look_into"], BadData | NeedsNewerShoal | None)


@given(hostile_indexes())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_broken_rule_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, forged: Forged) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    target = folder / "home" / "target"
    target.mkdir(parents=True)

    async def story(world: World) -> None:
        await start_nodes(world, 5)
        with pytest.MonkeyPatch.context() as patch:
            link = await forged_link(world, patch, forged)
        async with world.client("reader") as client:
            for way in (fetch, walk, tar):
                with pytest.raises(BadData):
                    await way(client, link, target)

    run_world(1, folder / "world", story)
    assert os.listdir(folder / "home") == ["target"]
    assert os.listdir(target) == []
