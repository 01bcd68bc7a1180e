"""kill -9 in a fetch of a folder: the same command again completes it, and nothing partial ever has its name.

SHOAL_CRASH_POINTS sets how often (default 10), evenly over all calls by which a fetch changes what is on disk. The long
run: SHOAL_CRASH_POINTS=200 python -m pytest tests/cli/test_killed_fetch.py
"""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.killing import Killer
from kit.trees import TIME_NS, Node, Run, To, on_disk, publish_here

POINTS = int(os.environ.get("SHOAL_CRASH_POINTS", "10"))
RNG = random.Random(3)
TREE: dict[bytes, Node] = {
    **dict.fromkeys((b"a", b"a/empty", b"b", b"b/c", b"b/c/d")),
    **{b"a/%02d" % at: RNG.randbytes(RNG.randrange(60_000)) for at in range(8)},
    **{b"b/c/d/%02d" % at: RNG.randbytes(at * 100) for at in range(6)},
    b"b/big": RNG.randbytes(3_000_000),
    b"b/link": To(b"big"),
    b"b/run": Run(b"#!/bin/sh\n"),
    b"last": To(b"a/00"),
}


@pytest.fixture(scope="module")
def link(swarm: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The link of the tree."""
    return publish_here(swarm.network_file, tmp_path_factory.mktemp("publisher"), TREE)


@pytest.fixture(scope="module")
def killer(swarm: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    home = tmp_path_factory.mktemp("reader")
    with Killer({"SHOAL_NETWORK": swarm.network_file, "SHOAL_HOME": str(home)}) as made:
        yield made


def is_whole(folder: Path) -> bool:
    """Whether all is there, and nothing else; with its times, which are what a fetch does last."""
    times = {os.lstat(os.path.join(os.fsencode(folder), path)).st_mtime_ns for path in TREE}
    return on_disk(folder) == TREE and times == {TIME_NS}


def is_done(target: Path) -> bool:
    """Whether the name is there. Then everything must be."""
    if not target.exists():
        return False
    assert is_whole(target)
    return True


def test_a_killed_fetch_is_completed_by_the_same_command(killer: Killer, link: str, tmp_path: Path) -> None:
    command = ["fetch", link, "-o"]
    (tmp_path / "whole").mkdir()
    whole = killer.run([*command, str(tmp_path / "whole")])
    assert (whole.code, is_done(tmp_path / "whole" / "photos")) == (0, True), whole.said
    killed = 0
    for point in range(POINTS):
        at = 1 + point * (whole.calls - 1) // max(1, POINTS - 1)
        folder = tmp_path / str(at)
        folder.mkdir()
        killed += killer.run([*command, str(folder)], kill_at=at).code == -signal.SIGKILL
        was_done = is_done(folder / "photos")
        again = killer.run([*command, str(folder)])
        assert again.code == (1 if was_done else 0), (at, again.said)
        assert is_done(folder / "photos")
        assert os.listdir(folder) == ["photos"], at
    assert killed >= 0.9 * POINTS


def test_a_fetch_that_is_killed_again_and_again_gets_through(killer: Killer, link: str, tmp_path: Path) -> None:
    target = tmp_path / "photos"
    kills = 0
    while not is_done(target):
        done = killer.run(["fetch", link, "-o", str(tmp_path)], kill_at=25 + 10 * kills)
        assert done.code in (0, -signal.SIGKILL), done.said
        kills += 1
        assert kills <= 30
    assert kills >= 3
    killer.run(["fetch", link, "-o", str(tmp_path)])
    assert os.listdir(tmp_path) == ["photos"]


@pytest.mark.parametrize("kills", [POINTS // 2])
def test_what_is_replaced_is_there_until_the_new_one_is(killer: Killer, link: str, tmp_path: Path, kills: int) -> None:
    """With --force. A kill between two renames leaves the old folder in the `.part`."""
    before: dict[bytes, Node] = {b"mine": b"mine", b"sub": None, b"sub/file": b"x"}
    whole = killer.run(["fetch", link, "-o", str(tmp_path / "count")])
    for point in range(kills):
        at = whole.calls + 10 - 2 * point  # the renames are at its end
        folder = tmp_path / str(at)
        (folder / "photos" / "sub").mkdir(parents=True)
        (folder / "photos" / "mine").write_bytes(b"mine")
        (folder / "photos" / "sub" / "file").write_bytes(b"x")
        command = ["fetch", link, "--force"]
        killer.run([*command, "-o", str(folder)], kill_at=at)
        places = [folder / "photos", *folder.glob("*.part/old")]
        assert any(place.is_dir() and (on_disk(place) == before or is_whole_or_none(place)) for place in places)
        assert killer.run([*command, "-o", str(folder)]).code == 0
        assert is_done(folder / "photos")
        assert os.listdir(folder) == ["photos"]


def is_whole_or_none(folder: Path) -> bool:
    return not (folder / "mine").exists() and is_whole(folder)
