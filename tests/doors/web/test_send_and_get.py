"""From a drop to a link, and from the link to the bytes: the API on whole nodes, in simulation."""

import errno
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.web import Opened, WebClient, opened_door
from kit.worlds import start_nodes
from shoal.doors.web import gets as gets_module
from shoal.doors.web import spool as spool_module
from shoal.simulation.world import World, run_world

NODES = 9
CODE = {"needed": 3, "total": 9}


@asynccontextmanager
async def door_of(world: World, name: str) -> AsyncIterator[Opened]:
    """A door of a client of its own. What it has under way ends with the block, as when the process is killed."""
    async with world.client(name) as node, opened_door(world, node) as door:
        yield door


@asynccontextmanager
async def doors(world: World) -> AsyncIterator[tuple[Opened, Opened]]:
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(door_of(world, "sender"))
        yield sender, await stack.enter_async_context(door_of(world, "reader"))


async def announced(page: WebClient, name: str, files: dict[str, bytes], *, folder: bool = True) -> Any:
    """A send that waits for its bytes."""
    entries: list[dict[str, Any]] = [{"path": path, "size": len(data)} for path, data in files.items()]
    return await page.good("POST", "sends", {"name": name, "folder": folder, "entries": entries})


async def put(page: WebClient, send: Any, number: int, data: bytes, offset: int = 0) -> Any:
    answer = await page.ask("PUT", f"/api/v1/sends/{send['id']}/files/{number}?offset={offset}", data)
    return answer.status, answer.json()


async def published(page: WebClient, send: Any) -> Any:
    await page.good("POST", f"sends/{send['id']}/start", CODE)
    done = await page.until(f"sends/{send['id']}", "done", "failed")
    assert done["phase"] == "done", done
    return done


async def sent(page: WebClient, name: str, files: dict[str, bytes], *, folder: bool = True) -> Any:
    """A send that is done."""
    send = await announced(page, name, files, folder=folder)
    for number, data in enumerate(files.values()):
        assert await put(page, send, number, data) == (200, {"received": len(data)})
    return await published(page, send)


def spooled(tmp_path: Path) -> list[Path]:
    """The files of sends on the sender's disk."""
    return [path for path in (tmp_path / "sender").rglob("content/**/*") if path.is_file()]


def test_a_file_goes_from_a_drop_to_a_link_to_another_home(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        data = world.rng.randbytes(1_500_000)
        async with doors(world) as (sender, reader):
            send = await announced(sender.page, "film.mp4", {"film.mp4": data}, folder=False)
            assert (send["phase"], send["received"]) == ("receiving", [0])
            assert await put(sender.page, send, 0, data[:700_000]) == (200, {"received": 700_000})
            status, problem = await put(sender.page, send, 0, data)
            assert (status, problem["received"]) == (409, 700_000)
            early = await sender.page.call("POST", f"sends/{send['id']}/start", {})
            assert early.status == 409
            assert (await put(sender.page, send, 0, data, 700_000))[0] == 413
            assert await put(sender.page, send, 0, data[700_000:], 700_000) == (200, {"received": len(data)})
            done = await published(sender.page, send)
            assert (done["complete"], done["survives"], done["k"], done["n"]) == (True, 6, 3, 9)
            assert not spooled(tmp_path)
            assert (done["received"], done["received_bytes"], done["files"]) == ([], len(data), 1)
            assert [path.read_text() for path in (tmp_path / "sender").rglob("entries.json")] == ["[]"]

            info = await reader.page.good("POST", "info", {"link": done["link"]})
            assert (info["name"], info["size"], info["media_type"]) == ("film.mp4", len(data), "video/mp4")
            folder = tmp_path / "downloads"
            folder.mkdir()
            for name in ("film.mp4", "film (2).mp4"):
                get = await reader.page.good("POST", "gets", {"link": f" <{done['link']}>. ", "into": str(folder)})
                got = await reader.page.until(f"gets/{get['id']}", "done", "failed")
                assert got["path"] == str(folder / name)
                assert (folder / name).read_bytes() == data
            await check_ticket(reader, done["link"], data)
            await check_library(sender.page, done)

    run_world(1, tmp_path, story)


async def check_ticket(reader: Opened, link: str, data: bytes) -> None:
    url = (await reader.page.good("POST", "tickets", {"link": link}))["url"]
    assert url == (await reader.page.good("POST", "tickets", {"link": link}))["url"]
    target = url.removeprefix("http://127.0.0.1:4781")
    whole = await reader.files.ask("GET", target)
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"].startswith("inline;")
    assert "sandbox" in whole.headers["content-security-policy"]
    assert whole.headers["cross-origin-resource-policy"] == "cross-origin"
    head = await reader.files.ask("HEAD", target)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(data)))
    part = await reader.files.ask("GET", target, headers={"range": "bytes=1000000-1000099"})
    assert (part.status, part.body) == (206, data[1_000_000:1_000_100])
    assert part.headers["content-range"] == f"bytes 1000000-1000099/{len(data)}"
    behind = await reader.files.ask("GET", target, headers={"range": f"bytes={len(data)}-"})
    assert (behind.status, behind.headers["content-range"]) == (416, f"bytes */{len(data)}")
    again = await reader.files.ask("GET", target, headers={"if-none-match": whole.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    other = await reader.files.ask("GET", target, headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert other.status == 200
    for method, path, expected in (("GET", "/guessed/film.mp4", 404), ("GET", "/", 404), ("POST", target, 405)):
        assert (await reader.files.ask(method, path)).status == expected
    saved = await reader.page.good("POST", "tickets", {"link": link, "download": True})
    answer = await reader.files.ask("HEAD", saved["url"].removeprefix("http://127.0.0.1:4781"))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''film.mp4"


async def check_library(page: WebClient, done: Any) -> None:
    (file,) = await page.good("GET", "library")
    path = f"library/{file['id']}"
    assert (file["link"], file["kept"], file["health"]) == (done["link"], False, None)
    checked = await page.good("POST", f"{path}/check")
    assert (checked["health"]["good_shares"], checked["health"]["survives"]) == (9, 6)
    assert (await page.good("POST", f"{path}/keep"))["kept"] is True
    assert (await page.good("POST", f"{path}/renew"))["lease_end"] >= file["lease_end"]
    assert (await page.good("POST", f"{path}/unkeep"))["kept"] is False
    assert (await page.good("DELETE", path))["complete"] is True
    (file,) = await page.good("GET", "library")
    assert file["deleted_at"] is not None
    assert (await page.call("POST", f"library/{'a' * 64}/check")).status == 404


def test_a_folder_goes_whole_and_comes_in_parts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        files = {f"2026/{number:03}.jpg": world.rng.randbytes(2_000) for number in range(30)}
        files |= {"notes.txt": b"", "page.html": b"<script>alert(1)</script>"}
        async with doors(world) as (sender, reader):
            done = await sent(sender.page, "photos", files)
            link = {"link": done["link"]}
            info = await reader.page.good("POST", "info", link)
            assert (info["kind"], info["name"], info["entries"]) == ("folder", "photos", 33)
            top = await reader.page.good("POST", "entries", link)
            assert [entry["name"] for entry in top["entries"]] == ["2026", "notes.txt", "page.html"]
            first = await reader.page.good("POST", "entries", {**link, "path": "2026", "limit": 10})
            assert (len(first["entries"]), first["more"], first["entries"][9]["name"]) == (10, True, "009.jpg")
            rest = await reader.page.good("POST", "entries", {**link, "path": "2026", "after": "009.jpg"})
            assert (len(rest["entries"]), rest["more"], rest["entries"][0]["name"]) == (20, False, "010.jpg")
            for path, kind in (("2026/007.jpg", "image/jpeg"), ("page.html", "application/octet-stream")):
                url = (await reader.page.good("POST", "tickets", {**link, "path": path}))["url"]
                answer = await reader.files.ask("GET", url.removeprefix("http://127.0.0.1:4781"))
                assert (answer.body, answer.headers["content-type"]) == (files[path], kind)
            wanted = {**link, "paths": ["2026/007.jpg", "notes.txt"], "into": str(tmp_path)}
            get = await reader.page.good("POST", "gets", wanted)
            await reader.page.until(f"gets/{get['id']}", "done")
            found = {path.name for path in (tmp_path / "photos").rglob("*") if path.is_file()}
            assert found == {"007.jpg", "notes.txt"}
            for wrong in ({"path": "nothing"}, {"path": "page.html"}):
                assert (await reader.page.call("POST", "entries", {**link, **wrong})).status == 404
            assert (await reader.page.call("POST", "tickets", {**link, "path": "2026"})).status == 400

    run_world(2, tmp_path, story)


def test_what_was_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Uploads keep what has come; a publish and a fetch that were cut go on by themselves."""

    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        data = world.rng.randbytes(400_000)
        async with door_of(world, "sender") as door:
            half = await announced(door.page, "half", {"half": data}, folder=False)
            assert (await put(door.page, half, 0, data[:150_000]))[0] == 200
            whole = await announced(door.page, "whole", {"a": data, "b/c": data[::-1]})
            for number, content in enumerate((data, data[::-1])):
                assert (await put(door.page, whole, number, content))[0] == 200
            await door.page.good("POST", f"sends/{whole['id']}/start", CODE)
        async with doors(world) as (sender, reader):
            state = await sender.page.good("GET", f"sends/{half['id']}")
            assert (state["phase"], state["received"]) == ("receiving", [150_000])
            assert (await put(sender.page, half, 0, data[150_000:], 150_000))[0] == 200
            done = await sender.page.until(f"sends/{whole['id']}", "done")
            half_done = await published(sender.page, half)
            get = await reader.page.good("POST", "gets", {"link": done["link"], "into": str(tmp_path)})
        async with doors(world) as (sender, reader):
            assert [each["id"] for each in await sender.page.good("GET", "sends")] == [half["id"], whole["id"]]
            assert len(await sender.page.good("GET", "library")) == 2
            got = await reader.page.until(f"gets/{get['id']}", "done")
            assert (Path(got["path"]) / "b" / "c").read_bytes() == data[::-1]
            await sender.page.good("DELETE", f"sends/{half['id']}")
            assert (await sender.page.call("GET", f"sends/{half['id']}")).status == 404
            assert half_done["link"] in [file["link"] for file in await sender.page.good("GET", "library")]
        assert not spooled(tmp_path)

    run_world(3, tmp_path, story)


def test_a_send_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        data = world.rng.randbytes(2_000_000)
        async with door_of(world, "sender") as door:
            for start in (False, True):
                send = await announced(door.page, "film", {"film": data}, folder=False)
                assert (await put(door.page, send, 0, data))[0] == 200
                if start:
                    await door.page.good("POST", f"sends/{send['id']}/start", CODE)
                    await door.page.until(f"sends/{send['id']}", "publishing")
                await door.page.good("DELETE", f"sends/{send['id']}")
                assert not spooled(tmp_path)
            assert await door.page.good("GET", "sends") == []
            assert await door.page.good("GET", "library") == []

    run_world(4, tmp_path, story)


def test_a_newer_request_for_a_file_ends_an_older_one(tmp_path: Path) -> None:
    """A tab was reloaded, and the door has not noticed that the old connection is gone."""

    async def story(world: World) -> None:
        await start_nodes(world, 1)
        data = bytes(900_000)
        async with door_of(world, "sender") as door:
            send = await announced(door.page, "film", {"film": data}, folder=False)
            path = f"/api/v1/sends/{send['id']}/files/0"
            async with await door.page.connected() as stream:
                headers = {"content-length": str(len(data))}
                await door.page.begin(stream, "PUT", path, data[:600_000], headers, is_whole=False)
                await trio.sleep(1)
                state = await door.page.good("GET", f"sends/{send['id']}")
                (received,) = state["received"]
                assert 0 < received <= 600_000
                assert await put(door.page, send, 0, data[received:], received) == (200, {"received": len(data)})

    run_world(5, tmp_path, story)


def test_what_cannot_be_sent_is_refused_before_its_bytes_come(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 1)
        one, two = {"path": "a", "size": 1}, {"path": "b", "size": 1}
        wrong: list[dict[str, Any]] = [
            {"name": "a/b", "entries": [{"path": "a/b", "size": 1}]},
            {"name": "..", "folder": True, "entries": [one]},
            {"name": "a", "entries": []},
            {"name": "a", "entries": [one, two]},
            {"name": "a", "entries": [two]},
            {"name": "f", "folder": True, "entries": [one, one]},
            {"name": "f", "folder": True, "entries": [one, {"path": "a/b", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "../a", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "/a", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a/./b", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a/", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a\0b", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a" * 256, "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a", "size": 5, "directory": True}]},
            {"name": "f", "folder": True, "entries": [{"path": "a", "size": -1}]},
            {"name": "f", "folder": True, "entries": [{"path": "a", "size": 1, "mode": 7}]},
            {"name": "f", "folder": True, "entries": ["a"]},
            {"name": "f", "folder": "yes", "entries": [one]},
            {"name": "\ud800", "entries": [{"path": "\ud800", "size": 1}]},
            {"name": "f", "folder": True, "entries": [{"path": "\ud800", "size": 1}]},
        ]
        async with door_of(world, "sender") as door:
            for each in wrong:
                answer = await door.page.call("POST", "sends", each)
                assert (answer.status, answer.json()["code"]) == (400, "usage"), each
            full = await door.page.call("POST", "sends", {"name": "a", "entries": [{"path": "a", "size": 2**50}]})
            assert (full.status, full.json()["code"]) == (500, "failed")
            assert "free" in full.json()["error"]
            assert await door.page.good("GET", "sends") == []
            assert not list((tmp_path / "sender" / "web" / "sends").iterdir())

    run_world(6, tmp_path, story)


def test_events_tell_each_change_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 1)
        lines: list[Any] = []
        async with door_of(world, "sender") as door, trio.open_nursery() as nursery:

            async def listen() -> None:
                async with await door.page.connected() as stream:
                    await door.page.begin(stream, "GET", "/api/v1/events")
                    text = b""
                    while data := await stream.receive_some(65_536):
                        text += data
                        lines[:] = [json.loads(line) for line in text.splitlines() if line.startswith(b"{")]

            await announced(door.page, "before", {"a": b"1"})
            nursery.start_soon(listen)
            await trio.sleep(1)
            assert [line["send"]["name"] for line in lines if line["type"] == "send"] == ["before"]
            send = await announced(door.page, "after", {"a": b"1"})
            await trio.sleep(1)
            await door.page.good("DELETE", f"sends/{send['id']}")
            await trio.sleep(40)
            assert {"type": "gone", "kind": "send", "id": send["id"]} in lines
            assert 3 <= sum(line["type"] == "beat" for line in lines) <= 5
            nursery.cancel_scope.cancel()

    run_world(7, tmp_path, story)


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    (tmp_path / "film (2).mp4").symlink_to("nowhere")
    free = gets_module.free_target
    assert free(tmp_path, "film.mp4", set()).name == "film (3).mp4"
    assert free(tmp_path, "film.mp4", {tmp_path / "film (3).mp4"}).name == "film (4).mp4"
    assert free(tmp_path, "other", set()).name == "other"
    assert free(tmp_path, "_profile", {tmp_path / "_profile"}).name == "_profile (2)"


def test_what_an_ended_publish_left_on_the_disk_is_removed(tmp_path: Path) -> None:
    """The door was killed between the end of a publish and the end of its bytes; another state is none of ours."""

    async def story(world: World) -> None:
        await start_nodes(world, 1)
        async with door_of(world, "sender") as door:
            done = await announced(door.page, "done", {"a": b"1"})
            odd = await announced(door.page, "odd", {"a": b"1"})
            for send in (done, odd):
                assert (await put(door.page, send, 0, b"1"))[0] == 200
        sends = tmp_path / "sender" / "web" / "sends"
        for send, change in ((done, {"phase": "done"}), (odd, {"phase": "sold"})):
            path = sends / send["id"] / "state.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert len(spooled(tmp_path)) == 2
        async with door_of(world, "sender") as door:
            assert [send["id"] for send in await door.page.good("GET", "sends")] == [done["id"]]
        assert not spooled(tmp_path)
        assert os.listdir(sends) == [done["id"]]

    run_world(8, tmp_path, story)


def test_what_a_crash_left_of_a_send_is_removed(tmp_path: Path) -> None:
    sends = tmp_path / "sends"
    for name, state in (("torn", "{"), ("none", None), ("wrong", json.dumps({"name": "../x", "folder": True}))):
        (sends / name / "content").mkdir(parents=True)
        if state is not None:
            (sends / name / "state.json").write_text(state)
            (sends / name / "entries.json").write_text("[]")
    assert spool_module.Spool(sends).load() == []
    assert os.listdir(sends) == []


def test_a_send_that_cannot_be_read_now_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_many_are_open(path: Path, limit: int) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    content = tmp_path / "sends" / "good" / "content"
    content.mkdir(parents=True)
    monkeypatch.setattr(spool_module, "read_plain", too_many_are_open)
    assert spool_module.Spool(tmp_path / "sends").load() == []
    assert content.is_dir()
    assert "Too many open files" in caplog.text
