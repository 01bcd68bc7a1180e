"""A folder in the network is read where it is, and fetched whole or in part."""

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kit.folders import many_files, write_index
from kit.trees import TIME_NS, Node, Run, To, on_disk, publish_tree, tree
from kit.worlds import start_nodes
from shoal.node import BadData, LocalError, NotFound, Phase, Progress, UsageError
from shoal.node import Node as ShoalNode
from shoal.node.fetching.folder import RemoteFolder
from shoal.node.fetching.folder_targets import ranges
from shoal.node.fetching.remote import RemoteFile
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.folders.unpack import Missing
from shoal.simulation.world import World, run_world

PHOTOS: dict[bytes, Node] = {
    b"a": None,
    b"a/empty": None,
    b"a/one": b"1" * 10,
    b"a/deep": None,
    b"a/deep/two": b"2" * 70_000,
    b"a.txt": b"text",
    b"b": None,
    b"b/run": Run(b"#!"),
    b"b/link": To(b"../a/one"),
    b"b/out": To(b"/etc/passwd"),
    b"odd \xff\n": b"odd",
    b"z": b"",
}
MADE = {path: node for path, node in PHOTOS.items() if path != b"b/out"}

Story = Callable[[World, ShoalNode, Any], Awaitable[None]]


def play(tmp_path: Path, patch: pytest.MonkeyPatch, story: Story, nodes: dict[bytes, Node] = PHOTOS) -> None:
    """Run a story with a client and the link of a folder that was published."""

    async def whole(world: World) -> None:
        await start_nodes(world, 5)
        published = await publish_tree(world, patch, nodes)
        async with world.client("reader") as client:
            await story(world, client, published.link)

    run_world(1, tmp_path / "world", whole)


@asynccontextmanager
async def opened(client: ShoalNode, link: Any, path: bytes = b"") -> AsyncIterator[RemoteFolder]:
    async with client.open_remote(replace(link, path=path)) as remote:
        assert isinstance(remote, RemoteFolder)
        yield remote


def test_a_folder_tells_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        entries, _ = tree(PHOTOS)
        async with opened(client, link) as folder:
            assert folder.name == "photos"
            assert [entry async for entry in folder.walk()] == entries
            assert [entry.path for entry in await folder.entries()] == [b"a", b"a.txt", b"b", b"odd \xff\n", b"z"]
            assert [entry.path for entry in await folder.entries(b"a")] == [b"a/deep", b"a/empty", b"a/one"]
            assert await folder.entries(b"a/empty") == []
            assert [entry.path async for entry in folder.walk(b"a")] == [
                *(b"a/deep", b"a/deep/two", b"a/empty", b"a/one"),
            ]
            assert (await folder.find(b"a/one")).size == 10
            for path in (b"c", b"a/", b"a/three", b"a/one/x", b"", b"a.txt/x", b"zz"):
                with pytest.raises(NotFound):
                    await folder.find(path)
            for path in (b"a.txt", b"c", b"b/link"):
                with pytest.raises(NotFound):
                    await folder.entries(path)
        info = await client.info(link)
        assert (info.is_folder, info.entries, info.size, info.name) == (True, len(entries), 70_019, "photos")

    play(tmp_path, monkeypatch, story)


def test_a_link_with_a_path_gives_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        async with opened(client, link, b"a") as folder:
            assert (folder.name, folder.mtime_ns) == ("a", TIME_NS)
            assert [entry.path for entry in await folder.entries()] == [b"deep", b"empty", b"one"]
            assert [entry.path async for entry in folder.walk()] == [b"deep", b"deep/two", b"empty", b"one"]
            inner = await folder.folder(b"deep")
            assert [entry.path for entry in await inner.entries()] == [b"two"]
            with pytest.raises(NotFound):
                await folder.find(b"a")
        async with client.open_remote(replace(link, path=b"a/deep/two")) as file:
            assert isinstance(file, RemoteFile)
            assert (file.name, file.size, await file.read()) == ("two", 70_000, b"2" * 70_000)
            assert await file.read_at(69_990, 1000) == b"2" * 10
        for path, error in ((b"c", NotFound), (b"b/link", UsageError)):
            with pytest.raises(error):
                async with client.open_remote(replace(link, path=path)):
                    pass

    play(tmp_path, monkeypatch, story)


def test_files_of_a_folder_are_read_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        async with opened(client, link) as folder:
            assert await (await folder.open(b"odd \xff\n")).read() == b"odd"
            assert await (await folder.open(b"a/one")).read() == b"1" * 10
            assert await (await folder.open(b"z")).read() == b""
            async for entry in folder.walk():
                if entry.kind is EntryKind.FILE:
                    content = PHOTOS[entry.path]
                    assert await (await folder.open(entry)).read() == (
                        content.content if isinstance(content, Run) else content
                    )
            for path in (b"a", b"b/link"):
                with pytest.raises(UsageError):
                    await folder.open(path)

    play(tmp_path, monkeypatch, story)


def test_a_plain_file_has_no_paths(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 5)
        async with world.client("publisher") as client:
            source = tmp_path / "file"
            source.write_bytes(b"content")
            link = (await client.publish(source, needed=2, total=4)).link
            with pytest.raises(NotFound):
                async with client.open_remote(replace(link, path=b"a")):
                    pass
            with pytest.raises(NotFound):
                await client.fetch(replace(link, path=b"a"), tmp_path / "out")
            with pytest.raises(NotFound):
                await client.fetch(link, tmp_path / "out", paths=[b"a"])
            assert (await client.info(link)).is_folder is False
        assert not (tmp_path / "out").exists()

    run_world(1, tmp_path / "world", story)


def test_one_entry_among_many_costs_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = many_files(20_000)
    contents = b"".join(b"x" * entry.size for entry in entries)
    index = write_index(entries)

    async def story(world: World) -> None:
        await start_nodes(world, 5)
        published = await publish_tree(world, monkeypatch, {b"all": contents}, index=index)
        wanted = world.rng.choice([entry for entry in entries if entry.size])
        async with world.client("reader") as client, opened(client, published.link) as folder:
            assert await folder.find(wanted.path) == wanted
            assert await (await folder.open(wanted)).read() == b"x" * wanted.size
            step = 2 * 65_536
            assert folder.received_bytes <= 1.1 * (3 * 2 + 1 + 1) * step  # table and page may lie across a border
            assert len(index.pages) > 20
        async with world.client("reader 2") as client, opened(client, published.link) as folder:
            assert len(await folder.entries(b"folder 0100")) == 100
            assert len(await folder.entries()) == 200
            walked = [entry.path async for entry in folder.walk(b"folder 0100")]
            assert walked == [entry.path for entry in entries if entry.parent == b"folder 0100"]

    run_world(1, tmp_path / "world", story)


def test_what_is_deeper_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The top of a folder costs no pages that only have what lies below."""
    deep = [replace(entry, path=b"m/" + entry.path) for entry in many_files(20_000)]
    ends = [Entry(path, EntryKind.DIRECTORY) for path in (b"a", b"z")]
    index = write_index([ends[0], Entry(b"m", EntryKind.DIRECTORY), *deep, ends[1]])
    contents = b"x" * sum(entry.size for entry in deep)

    async def story(world: World) -> None:
        await start_nodes(world, 5)
        published = await publish_tree(world, monkeypatch, {b"all": contents}, index=index)
        async with world.client("reader") as client, opened(client, published.link) as folder:
            assert [entry.path for entry in await folder.entries()] == [b"a", b"m", b"z"]
            assert folder.received_bytes <= index.summary.length / 2

    run_world(1, tmp_path / "world", story)


# --- to disk


def test_a_folder_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        seen: list[Progress] = []
        done = await client.fetch(link, tmp_path / "out", on_progress=seen.append)
        assert done.path == tmp_path / "out"
        assert (done.name, done.size, done.entries, done.resumed_bytes) == ("photos", 70_019, 12, 0)
        assert (done.left_out, done.left_out_paths) == (1, (b"b/out",))
        assert seen[0].phase is Phase.SEARCHING
        last = seen[-1]
        assert (last.phase, last.done_bytes, last.total_bytes) == (Phase.FETCHING, 70_019, 70_019)
        assert (last.done_files, last.total_files) == (6, 6)
        (tmp_path / "folder").mkdir()
        assert (await client.fetch(link, tmp_path / "folder")).path == tmp_path / "folder" / "photos"
        monkeypatch.chdir(tmp_path)
        assert (await client.fetch(link)).path == tmp_path / "photos"

    play(tmp_path, monkeypatch, story)
    for place in ("out", "folder/photos", "photos"):
        assert on_disk(tmp_path / place) == MADE
        times = {os.lstat(os.path.join(os.fsencode(tmp_path / place), path)).st_mtime_ns for path in MADE}
        assert times == {TIME_NS}
    assert sorted(os.listdir(tmp_path)) == ["folder", "out", "photos", "world"]


def test_parts_come_to_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        done = await client.fetch(link, tmp_path / "some", paths=[b"b/", b"a/deep/two", "a/deep"])
        assert (done.name, done.size, done.entries) == ("photos", 70_002, 7)
        inner = await client.fetch(replace(link, path=b"a"), tmp_path)
        assert (inner.name, inner.size, inner.entries) == ("a", 70_010, 4)
        await client.fetch(replace(link, path=b"a"), tmp_path / "less", paths=[b"one"])
        file = await client.fetch(replace(link, path=b"b/run"), tmp_path)
        assert (file.path, file.size, file.entries) == (tmp_path / "run", 2, None)
        await client.fetch(replace(link, path=b"odd \xff\n"), tmp_path / "copy")
        for paths in ([b"nothing"], [b"a", b"a.txt/x"]):
            with pytest.raises(NotFound):
                await client.fetch(link, tmp_path / "none", paths=paths)
        for bad in (b"", b"/", b"..", b"a//b", b"/a", "a/../b"):
            with pytest.raises(UsageError):
                await client.fetch(link, tmp_path / "none", paths=[bad])
        with pytest.raises(UsageError):
            await client.fetch(replace(link, path=b"b/link"), tmp_path / "none")
        with pytest.raises(NotFound):
            await client.fetch(replace(link, path=b"a.txt"), tmp_path / "none", paths=[b"x"])

    play(tmp_path, monkeypatch, story)
    assert on_disk(tmp_path / "some") == {
        path: MADE[path] for path in (b"a", b"a/deep", b"a/deep/two", b"b", b"b/link", b"b/run")
    }
    assert on_disk(tmp_path / "a") == {path[2:]: node for path, node in MADE.items() if path.startswith(b"a/")}
    assert on_disk(tmp_path / "less") == {b"one": MADE[b"a/one"]}
    assert (tmp_path / "run").read_bytes() == b"#!"
    assert os.access(tmp_path / "run", os.X_OK)
    assert (tmp_path / "run").stat().st_mtime_ns == TIME_NS
    assert (tmp_path / "copy").read_bytes() == b"odd"
    assert sorted(os.listdir(tmp_path)) == ["a", "copy", "less", "run", "some", "world"]


def test_what_is_there_is_kept_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, client: ShoalNode, link: Any) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "mine").write_text("mine")
        (tmp_path / "run").mkdir()
        for target in (tmp_path, tmp_path / "photos" / "mine"):
            with pytest.raises(LocalError, match="--force"):
                await client.fetch(link, target)
        with pytest.raises(LocalError, match="is a folder"):
            await client.fetch(replace(link, path=b"b/run"), tmp_path, force=True)
        assert on_disk(tmp_path / "photos") == {b"mine": b"mine"}
        await client.fetch(link, tmp_path, force=True)
        assert on_disk(tmp_path / "photos") == MADE
        await client.fetch(replace(link, path=b"a/one"), tmp_path / "photos" / "a.txt", force=True)
        assert (tmp_path / "photos" / "a.txt").read_bytes() == b"1" * 10

    play(tmp_path, monkeypatch, story)
    assert sorted(os.listdir(tmp_path)) == ["photos", "run", "world"]


@pytest.mark.parametrize("name", ["..", "a/b", None, "", "n\0l"])
def test_a_folder_with_a_bad_name_needs_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 5)
        published = await publish_tree(world, monkeypatch, PHOTOS, name=None)
        with monkeypatch.context() as patch:
            patch.setattr(RemoteFolder, "name", name)
            async with world.client("reader") as client:
                with pytest.raises(UsageError, match="-o NAME"):
                    await client.fetch(published.link, tmp_path)
                await client.fetch(published.link, tmp_path / "mine")

    run_world(1, tmp_path / "world", story)
    assert sorted(os.listdir(tmp_path)) == ["mine", "world"]


def test_an_interrupted_fetch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    nodes: dict[bytes, Node] = {b"%d/%02d" % (at % 3, at): rng.randbytes(rng.randrange(200_000)) for at in range(40)}

    class Enough(Exception):
        """The user has had enough."""

    async def story(world: World, client: ShoalNode, link: Any) -> None:
        size = sum(len(content) for content in nodes.values() if isinstance(content, bytes))
        for part in (0.2, 0.5, 0.9):

            def stop(progress: Progress, most: float = part * size) -> None:
                if progress.done_bytes >= most:
                    raise Enough

            with pytest.raises(Enough):
                await client.fetch(link, tmp_path / "out", on_progress=stop)
            assert not (tmp_path / "out").exists()
        seen: list[Progress] = []
        done = await client.fetch(link, tmp_path / "out", on_progress=seen.append)
        assert done.resumed_bytes >= 0.9 * size
        assert done.received_bytes <= 0.3 * size
        assert Phase.VERIFYING in {progress.phase for progress in seen}
        assert all(progress.done_bytes <= size for progress in seen)

    play(tmp_path, monkeypatch, story, nodes)
    assert on_disk(tmp_path / "out").items() >= nodes.items()
    assert sorted(os.listdir(tmp_path)) == ["out", "world"]


def test_parts_of_one_folder_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch of other parts to the same place begins anew, and leaves nothing of the first in it."""

    class Enough(Exception):
        """The user has had enough."""

    def stop(progress: Progress) -> None:
        if progress.done_files:
            raise Enough

    async def story(world: World, client: ShoalNode, link: Any) -> None:
        with pytest.raises(Enough):
            await client.fetch(link, tmp_path / "out", paths=[b"a"], on_progress=stop)
        await client.fetch(link, tmp_path / "out", paths=[b"b"])

    play(tmp_path, monkeypatch, story)
    assert on_disk(tmp_path / "out") == {path: MADE[path] for path in (b"b", b"b/link", b"b/run")}


def test_a_publisher_with_other_contents_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, _ = tree({b"a": b"123", b"b": b"456"})
    index = write_index(entries)

    async def story(world: World) -> None:
        await start_nodes(world, 5)
        published = await publish_tree(world, monkeypatch, {b"a": b"123", b"b": b"457"}, index=index)
        async with world.client("reader") as client:
            with pytest.raises(BadData, match="other contents than its digest says: b"):
                await client.fetch(published.link, tmp_path / "out")
            await client.fetch(replace(published.link, path=b"a"), tmp_path / "a")

    run_world(1, tmp_path / "world", story)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "a").read_bytes() == b"123"


def test_ranges_join_where_no_segment_lies_between() -> None:
    def missing(start: int, end: int) -> Missing:
        return Missing(Entry(b"x", EntryKind.FILE, end - start, start))

    assert list(ranges([], 100)) == []
    assert list(ranges([missing(0, 10), missing(10, 20)], 100)) == [(0, 20)]
    assert list(ranges([missing(0, 10), missing(190, 195)], 100)) == [(0, 195)]
    assert list(ranges([missing(0, 100), missing(200, 210)], 100)) == [(0, 100), (200, 210)]
    assert list(ranges([missing(5, 150), missing(299, 310)], 100)) == [(5, 310)]
    assert list(ranges([missing(5, 150), missing(300, 310), missing(400, 401)], 100)) == [(5, 150), (300, 401)]
