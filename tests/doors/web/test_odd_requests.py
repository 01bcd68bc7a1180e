"""Requests that have the token and make no sense: each is answered in words, and none breaks what another has begun."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.web import Opened, opened_door, read_answer
from kit.worlds import start_nodes
from shoal.doors.web import sends
from shoal.doors.web.gets import free_target
from shoal.doors.web.looking import pasted
from shoal.doors.web.watch import Watch
from shoal.node import UsageError
from shoal.simulation.world import World, run_world

LINK = (
    "shoal:cbtk6p73t5q2bw6zfadq36zpqvw6eyfyg7eqemtjz35b3amdlcwwh7qufdk6giwt"
    "#cc6twhotd35eiutwjofzfzpulrexapwjtjllrbxk6ivdmqgzylppblano6xme3nj"
)
HALF = "\ud800"  # half of a character: JSON can tell it, and no file name has it

Story = Callable[[Opened], Awaitable[None]]


def with_door(tmp_path: Path, story: Story) -> None:
    """Run a story with a door of a node whose network is one other."""

    async def run(world: World) -> None:
        await start_nodes(world, 1)
        async with world.client("home") as node, opened_door(world, node) as opened:
            await story(opened)

    run_world(1, tmp_path, run)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sends", {"name": "f", "folder": True, "entries": [{"path": HALF, "size": 1}]}),
        ("sends", {"name": HALF, "entries": [{"path": HALF, "size": 1}]}),
        ("entries", {"link": LINK, "after": HALF}),
        ("entries", {"link": LINK, "path": HALF}),
        ("tickets", {"link": LINK, "path": HALF}),
        ("gets", {"link": LINK, "paths": [HALF]}),
        ("gets", {"link": LINK, "into": f"/{HALF}"}),
        ("gets", {"link": LINK, "into": "/" + "a" * 4_000}),
        ("qr", {"link": LINK + "/a" * 2_000}),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path, path: str, value: dict[str, Any]) -> None:
    async def story(opened: Opened) -> None:
        answer = await opened.page.call("POST", path, value)
        assert (answer.status, answer.json()["code"]) == (400, "usage")

    with_door(tmp_path, story)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f" <{LINK}>.\n", LINK),
        (f"{LINK[:40]}\n{LINK[40:90]}\r\n  {LINK[90:]}", LINK),
        (LINK.removeprefix("shoal:").replace("#", "%23"), LINK),
        (f"Look here: {LINK}/a%20b, it is good", f"{LINK}/a%20b"),
        (f"here: {LINK} thanks", LINK),
        (f"here: {LINK.partition('#')[0]} thanks", LINK.partition("#")[0]),
        (f"{LINK[:-1]} thanks", None),
        ("thanks", None),
    ],
)
def test_a_link_is_found_in_what_was_pasted(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            pasted(text)
    else:
        assert pasted(text)["link"] == expected


@pytest.mark.parametrize("query", ["&".join(f"a{n}=1" for n in range(9)), "offset=0&offset=1", "offset=%ff", "x"])
def test_a_query_with_anything_but_one_offset_is_refused(tmp_path: Path, query: str) -> None:
    async def story(opened: Opened) -> None:
        send = await announced(opened)
        answer = await opened.page.ask("PUT", f"/api/v1/sends/{send['id']}/files/0?{query}", b"x")
        assert (answer.status, answer.json()["code"]) == (400, "usage")

    with_door(tmp_path, story)


async def announced(opened: Opened) -> Any:
    """A send that waits for ten bytes."""
    return await opened.page.good("POST", "sends", {"name": "a.txt", "entries": [{"path": "a.txt", "size": 10}]})


def test_a_bug_is_told_and_not_taken_for_a_node_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(watch: Watch) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Watch, "status", broken)

    async def story(opened: Opened) -> None:
        answer = await opened.page.ask("GET", "/api/v1/status")
        assert (answer.status, answer.headers["x-content-type-options"]) == (500, "nosniff")
        assert "bug" in json.loads(answer.body)["error"]

    with_door(tmp_path, story)


def test_an_answer_without_a_body_tells_no_length(tmp_path: Path) -> None:
    async def story(opened: Opened) -> None:
        answer = await opened.page.ask("DELETE", f"/api/v1/sends/{(await announced(opened))['id']}")
        assert answer.status == 204
        assert "content-length" not in answer.headers

    with_door(tmp_path, story)


def test_a_cancelled_send_takes_no_bytes_of_a_request_that_waits_for_another(tmp_path: Path) -> None:
    """A second PUT waits for the end of the first when the send goes. It must not make the folder of the send again."""
    statuses: list[int] = []

    async def story(opened: Opened) -> None:
        send = await announced(opened)
        path = f"/api/v1/sends/{send['id']}"

        async def put(data: bytes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with await opened.page.connected() as stream:
                length = {"content-length": "10"}
                http = await opened.page.begin(stream, "PUT", f"{path}/files/0?offset=0", data, length, is_whole=False)
                task_status.started()
                statuses.append((await read_answer(stream, http)).status)

        async with trio.open_nursery() as nursery:
            await nursery.start(put, b"first")
            await trio.sleep(0.1)
            await nursery.start(put, b"second")
            with trio.fail_after(5.0):
                assert (await opened.page.ask("DELETE", path)).status == 204
        assert sorted(statuses) == [404, 409]
        assert not list((tmp_path / "home").rglob("a.txt"))

    with_door(tmp_path, story)


def test_sends_that_are_not_done_have_a_number_of_files_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sends, "MAX_ENTRIES_IN_ALL", 3)

    async def story(opened: Opened) -> None:
        first = await announced(opened)
        await announced(opened)
        folder = {"name": "f", "folder": True, "entries": [{"path": name, "size": 1} for name in "ab"]}
        assert (await opened.page.call("POST", "sends", folder)).status == 409
        await opened.page.call("DELETE", f"sends/{first['id']}")
        assert (await opened.page.call("POST", "sends", folder)).status == 201

    with_door(tmp_path, story)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".ssh", "_ssh"),
        (".bash_profile", "_bash_profile"),
        ("..a", "_.a"),
        ("a.b", "a.b"),
        ("taken.txt", "taken (2).txt"),
        (".taken", "_taken (2)"),
        ("tar.gz.", "tar.gz."),
    ],
)
def test_a_published_name_configures_nothing_of_the_user(tmp_path: Path, name: str, expected: str) -> None:
    """A folder for downloads may be the home itself. There a name with a dot in front would be read by a shell."""
    for there in ("taken.txt", "_taken"):
        (tmp_path / there).touch()
    assert free_target(tmp_path, name, set()).name == expected
