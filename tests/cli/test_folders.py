"""Folders by the command line: listed, fetched whole or in part, as an archive, by real processes."""

import json
import os
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kit.trees import TIME_NS, Node, Run, To, on_disk, publish_here
from shoal.erasure import BLOCK_BYTES, SEGMENT_OVERHEAD

PHOTOS: dict[bytes, Node] = {
    b"album": None,
    b"album/empty": None,
    b"album/img 01.jpg": os.urandom(700_000),
    b"album/latest": To(b"img 01.jpg"),
    b"notes\n\x1b[31m": b"notes",
    b"odd \xff": b"odd",
    b"run.sh": Run(b"#!/bin/sh\n"),
}
NOW_S = TIME_NS // 10**9


@pytest.fixture(scope="module")
def published(swarm: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The link of a folder."""
    return publish_here(swarm.network_file, tmp_path_factory.mktemp("publisher"), PHOTOS)


@pytest.fixture
def client(inside: Any, swarm: Any, tmp_path: Path) -> Any:
    """Runs a command in this process."""
    return partial(inside, environment={"SHOAL_NETWORK": swarm.network_file, "SHOAL_HOME": str(tmp_path / "home")})


@pytest.fixture
def process(shoal: Any, swarm: Any, tmp_path: Path) -> Any:
    """Runs a command in a process of its own."""
    return partial(shoal, environment={"SHOAL_NETWORK": swarm.network_file, "SHOAL_HOME": str(tmp_path / "home")})


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    return tmp_path / "out"


def messages(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_fetched_as_a_file_is(client: Any, published: str, out: Path) -> None:
    """By somebody who does not know that it is one."""
    done = client("fetch", published)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"Fetched {out}/photos: 7 entries, 700 kB in" in done.stderr
    assert on_disk(out / "photos") == PHOTOS
    again = client("fetch", published)
    assert again.returncode == 1
    assert "already exists. Replace it with --force, or write to another name: -o" in again.stderr
    (out / "photos" / "mine").write_text("")
    assert client("--json", "fetch", published, "--force").returncode == 0
    assert on_disk(out / "photos") == PHOTOS
    assert os.listdir(out) == ["photos"]


def test_json_of_a_folder(client: Any, published: str, out: Path) -> None:
    done = client("--json", "fetch", published, "-o", "copy")
    *events, summary = messages(done.stdout)
    assert summary["path"] == str(out / "copy") or summary["path"] == "copy"
    assert (summary["name"], summary["entries"], summary["left_out"], summary["size"]) == ("photos", 7, 0, 700_018)
    last = [event for event in events if event.get("phase") == "fetching"][-1]
    assert (last["total_files"], last["total_bytes"]) == (4, 700_018)
    info = messages(client("--json", "info", published).stdout)[-1]
    assert (info["kind"], info["entries"], info["size"], info["name"]) == ("directory", 7, 700_018, "photos")
    shown = client("info", published).stdout
    assert "private folder" in shown
    assert "7 entries" in shown
    hash_alone = messages(client("--json", "info", published.partition("#")[0]).stdout)[-1]
    assert (hash_alone["kind"], hash_alone["entries"], hash_alone["size"]) == (None, None, None)


def test_parts_of_a_folder(client: Any, published: str, out: Path) -> None:
    assert client("fetch", f"{published}/album/img%2001.jpg").returncode == 0
    assert (out / "img 01.jpg").read_bytes() == PHOTOS[b"album/img 01.jpg"]
    assert client("fetch", f"{published}/album/").returncode == 0
    assert set(on_disk(out / "album")) == {b"empty", b"img 01.jpg", b"latest"}
    assert client("fetch", published, "album/empty", "run.sh", b"odd \xff", "-o", "some").returncode == 0
    assert on_disk(out / "some") == {path: PHOTOS[path] for path in (b"album", b"album/empty", b"odd \xff", b"run.sh")}
    link_file = out / "link"
    link_file.write_text(published)
    assert client("fetch", "--link-file", str(link_file), "run.sh", "-o", "one").returncode == 0
    assert on_disk(out / "one") == {b"run.sh": PHOTOS[b"run.sh"]}
    for arguments, code in (
        ([f"{published}/nothing"], 10),
        ([published, "nothing"], 10),
        ([published, "../etc"], 2),
        ([published, ""], 2),
        ([f"{published}/album/latest"], 2),
        ([f"{published}/run.sh", "x"], 10),
    ):
        done = client("fetch", *arguments, "-o", str(out / "none"))
        assert done.returncode == code, done.stderr
        assert "bug" not in done.stderr
    assert not (out / "none").exists()


def test_bytes_to_standard_output(client: Any, process: Any, published: str, out: Path) -> None:
    done = client("fetch", f"{published}/run.sh", "-o", "-")
    assert (done.returncode, done.stdout) == (0, "#!/bin/sh\n")
    for arguments in ([published, "-o", "-"], [f"{published}/album", "-o", "-"], [published, "album", "-o", "-"]):
        done = client("fetch", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--tar" in done.stderr
    assert client("fetch", f"{published}/run.sh", "--tar").returncode == 2
    assert client("fetch", published, "--tar", "-o", "x").returncode == 2
    with open(out / "photos.tar", "wb") as archive:
        done = process("--json", "fetch", published, "--tar", stdout=archive)
    assert done.returncode == 0
    summary = messages(done.stderr)[-1]
    assert (summary["entries"], summary["size"], summary["path"]) == (7, 700_018, None)
    assert subprocess.run(["tar", "xf", "photos.tar"], check=True, capture_output=True).stderr == b""
    assert on_disk(out / "photos") == PHOTOS
    with open(out / "some.tar", "wb") as archive:
        assert process("fetch", published, "album/empty", "--tar", stdout=archive).returncode == 0
    with tarfile.open("some.tar") as opened:
        assert opened.getnames() == ["photos", "photos/album", "photos/album/empty"]


def test_a_folder_is_listed(client: Any, published: str) -> None:
    assert client("ls", published).stdout == "album/\nnotes\\n\\x1b[31m\nodd \\xff\nrun.sh\n"
    assert client("ls", f"{published}/album").stdout == "empty/\nimg 01.jpg\nlatest\n"
    assert client("ls", f"{published}/run.sh").stdout == "run.sh\n"
    everything = client("ls", "-R", published).stdout.splitlines()
    assert everything[:4] == ["album/", "album/empty/", "album/img 01.jpg", "album/latest"]
    assert len(everything) == 7
    long = client("ls", "-l", "-R", published).stdout.splitlines()
    assert [line.split()[0] for line in long] == ["d", "d", "-", "l", "-", "-", "x"]
    assert long[2].split()[1:3] == ["700", "kB"]
    assert long[3].endswith("  album/latest -> img 01.jpg")
    for arguments in (["-l"], ["-R"], [published, "--receipt", "x"]):
        assert client("ls", *arguments).returncode == 2
    assert client("ls", f"{published}/nothing").returncode == 10
    assert client("ls", published.partition("#")[0]).returncode == 2


def test_json_of_a_listing(client: Any, published: str) -> None:
    *entries, summary = messages(client("--json", "ls", "-R", published).stdout)
    assert summary == {"message_type": "summary", "entries": 7, "size": 700_018}
    assert [os.fsencode(entry["path"]) for entry in entries] == list(PHOTOS)
    assert entries[2] == {
        "message_type": "entry",
        "path": "album/img 01.jpg",
        "kind": "file",
        "size": 700_000,
        "mtime": pytest.approx(NOW_S, abs=1),
        "mtime_ns": TIME_NS,
        "executable": False,
        "target": None,
    }
    assert (entries[3]["kind"], entries[3]["size"], entries[3]["target"]) == ("symlink", None, "img 01.jpg")
    assert (entries[0]["kind"], entries[6]["executable"]) == ("directory", True)


def test_a_plain_file_is_listed_as_itself(client: Any, out: Path) -> None:
    (out / "file").write_bytes(b"content")
    link = client("publish", "file").stdout.strip()
    assert client("ls", link).stdout == "file\n"
    assert messages(client("--json", "ls", link).stdout)[0]["mtime"] is None
    assert client("ls", "-l", link).stdout.split() == ["-", "7", "B", "file"]
    assert client("ls", f"{link}/x").returncode == 10
    assert client("fetch", link, "--tar", "-o", "-").returncode == 2


def test_links_that_lead_out_are_told(client: Any, swarm: Any, tmp_path: Path, out: Path) -> None:
    nodes: dict[bytes, Node] = {**PHOTOS, b"album/\x1bout": To(b"../../x"), b"passwd": To(b"/etc/passwd")}
    link = publish_here(swarm.network_file, tmp_path / "other", nodes)
    done = client("--quiet", "fetch", link)
    assert done.returncode == 3
    assert done.stderr == ("2 symbolic links would lead out of the folder and were left out: album/\\x1bout, passwd\n")
    assert on_disk(out / "photos") == PHOTOS
    assert messages(client("--json", "fetch", link, "--force").stdout)[-1]["left_out"] == 2


def test_one_file_of_a_folder_costs_its_segments_and_a_page(client: Any, swarm: Any, tmp_path: Path, out: Path) -> None:
    size = 1_000_000
    nodes: dict[bytes, Node] = {b"%02d/%03d" % (at % 7, at): os.urandom(size) for at in range(40)}
    link = publish_here(swarm.network_file, tmp_path / "other", nodes)
    segment = 2 * BLOCK_BYTES  # six hosts: two shares are enough
    most = -(-size // (segment - SEGMENT_OVERHEAD)) + 1  # it may begin in the middle of one
    for command in (["fetch", f"{link}/03/024"], ["fetch", link, "03/024", "-o", "part"]):
        done = messages(client("--json", *command).stdout)[-1]
        assert done["size"] == size
        assert done["received_bytes"] <= 1.1 * (most + 1) * segment, "the index is in one segment"
    assert (out / "024").read_bytes() == nodes[b"03/024"]
    assert on_disk(out / "part") == {b"03": None, b"03/024": nodes[b"03/024"]}
