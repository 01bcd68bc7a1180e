"""`shoal publish` of folders on a network of real processes: what comes back, what is left out, and kill -9.

SHOAL_CRASH_POINTS sets at how many moments a publish is killed (default 6).
"""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ODD_NAMES = (
    b"\xff\xfe",
    b"new\nline",
    b"\x1b[31mred",
    b"n" * 255,
    b"a b",
    b"-rf",
    b"...",
    "日本".encode(),
    b"\\",
    b"#?%41",
)


@pytest.fixture
def client(inside: Any, swarm: Any, tmp_path: Path) -> Any:
    """Runs a command from the home that publishes, unless told another."""

    def run(*arguments: str | bytes, home: str = "publisher") -> Any:
        environment = {"SHOAL_NETWORK": swarm.network_file, "SHOAL_HOME": str(tmp_path / home)}
        return inside(*arguments, environment=environment)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of everything, and times that are not of now."""
    root = tmp_path / "holiday"
    rng = random.Random(1)
    (root / "empty" / "within").mkdir(parents=True)
    (root / Path(*["deep"] * 59)).mkdir(parents=True)
    (root / Path(*["deep"] * 59, "file")).write_bytes(b"down here")
    (root / "odd").mkdir()
    for odd in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(root / "odd") + b"/" + odd)).write_bytes(odd)
    for number, size in enumerate((0, 1, 65_535, 262_104, 262_105, 1_000_000)):
        (root / f"{number}.bin").write_bytes(rng.randbytes(size))
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o755)
    os.symlink("../0.bin", root / "odd" / "up")
    os.symlink("odd", root / "to-odd")
    os.symlink("nowhere", root / "broken")
    for inside, folders, files in os.walk(root, topdown=False):
        for name in (*folders, *files, ""):
            moment = rng.randrange(2**60)
            os.utime(os.path.join(inside, name), ns=(moment, moment), follow_symlinks=False)
    return root


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a folder keeps of what is in it, the folder itself left out."""
    found: dict[str, tuple[object, ...]] = {}
    for inside, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(inside, name)
            status = os.lstat(path)
            where = os.path.relpath(path, root)
            if stat.S_ISLNK(status.st_mode):
                found[where] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[where] = ("folder", status.st_mtime_ns)
            else:
                is_executable = bool(status.st_mode & stat.S_IXUSR)
                found[where] = ("file", is_executable, status.st_mtime_ns, Path(path).read_bytes())
    return found


def link_of(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return str(done.stdout).strip()


def messages(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_comes_back_as_it_was(client: Any, folder: Path, tmp_path: Path) -> None:
    published = client("publish", str(folder))
    assert f"Published a folder of {len(described(folder))} entries and " in published.stderr
    out = tmp_path / "out"
    out.mkdir()
    assert client("fetch", link_of(published), "-o", str(out), home="reader").returncode == 0
    assert os.listdir(out) == ["holiday"]
    assert described(out / "holiday") == described(folder)
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", folder, out / "holiday"], capture_output=True, text=True, check=False
    )
    assert (compared.returncode, compared.stdout, compared.stderr) == (0, "", "")


def test_several_paths_become_a_folder(client: Any, folder: Path, tmp_path: Path) -> None:
    joint = client("publish", str(folder / "1.bin"), str(folder / "odd"))
    out = tmp_path / "out"
    out.mkdir()
    assert client("fetch", link_of(joint), "-o", str(out), home="reader").returncode == 0
    assert sorted(os.listdir(out / "holiday")) == ["1.bin", "odd"]
    apart = client("publish", str(folder / "1.bin"), str(folder / "odd" / "..."))
    assert (apart.returncode, apart.stdout) == (2, "")
    assert "--name NAME" in apart.stderr
    named = client("publish", str(folder / "1.bin"), str(folder / "odd" / "..."), "--name", "two")
    assert client("fetch", link_of(named), "-o", str(out), home="reader").returncode == 0
    assert (out / "two" / "...").read_bytes() == b"..."


def test_what_is_left_out(client: Any, folder: Path, tmp_path: Path) -> None:
    (folder / ".gitignore").write_text("*.bin\n!1.bin\n")
    rules = tmp_path / "rules"
    rules.write_text("# not so deep\n/deep\nodd/\n")
    options = [
        "--gitignore",
        "--exclude-from",
        str(rules),
        "--exclude",
        "r*n",
        "--exclude",
        "!odd/",
        "--symlinks",
        "skip",
    ]
    link = link_of(client("publish", str(folder), *options))
    listed = messages(client("--json", "ls", "-R", link, home="reader").stdout)
    found = {message["path"] for message in listed if message["message_type"] == "entry"}
    odd = {f"odd/{os.fsdecode(name)}" for name in ODD_NAMES}
    assert found - odd == {".gitignore", "1.bin", "empty", "empty/within", "odd"}
    assert len(found & odd) >= len(ODD_NAMES) - 1  # JSON has one of them escaped
    missing = client("publish", str(folder), "--exclude-from", str(tmp_path / "none"))
    assert (missing.returncode, missing.stdout) == (1, "")
    nothing = client("publish", str(folder), "--exclude", "# a remark")
    assert (nothing.returncode, nothing.stdout) == (2, "")


def test_what_cannot_be_read_is_said(client: Any, folder: Path, tmp_path: Path) -> None:
    entries = len(described(folder))
    os.mkfifo(folder / "odd" / "pipe")
    os.mkfifo(folder / "pi\npe")
    refused = client("publish", str(folder))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{folder}/odd/pipe: A named pipe\n" in refused.stderr
    assert f"{folder}/pi\\npe: A named pipe\n" in refused.stderr
    assert not list((tmp_path / "publisher").rglob("*.journal"))
    partial = client("--json", "publish", str(folder), "--skip-unreadable")
    assert partial.returncode == 3
    *events, summary = messages(partial.stdout)
    skipped = [(event["path"], event["reason"]) for event in events if event.get("event") == "skipped"]
    assert skipped == [(f"{folder}/odd/pipe", "A named pipe"), (f"{folder}/pi\npe", "A named pipe")]
    assert (summary["kind"], summary["skipped"], summary["complete"]) == ("directory", 2, True)
    assert summary["entries"] == entries
    assert any(event.get("total_files") == len(ODD_NAMES) + 8 for event in events)
    told = client("publish", str(folder), "--skip-unreadable", "--quiet")
    assert (told.returncode, told.stdout.count("\n")) == (3, 1)
    assert told.stderr.count("Left out: ") == 2
    assert "2 things are not in the folder" in told.stderr


def test_a_file_stays_a_file(client: Any, folder: Path) -> None:
    done = client("--json", "publish", str(folder / "1.bin"), "--gitignore", "--exclude", "*.bin")
    summary = messages(done.stdout)[-1]
    assert (done.returncode, summary["kind"], summary["entries"], summary["skipped"]) == (0, "file", None, 0)
    assert summary["size"] == 1


class Striker:
    """Publishes a folder in a process of its own, and kills it. `busy_s` is how long the last one talked."""

    busy_s = 0.0

    def __init__(self, folder: Path, swarm: Any, home: Path, clean_environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-m", "shoal.cli", "--json", "publish", str(folder)]
        self._environment = clean_environment | {"SHOAL_NETWORK": swarm.network_file, "SHOAL_HOME": str(home)}

    def publish(self, kill_after_s: float | None = None) -> dict[str, Any] | None:
        """The summary, if it came to that. The time counts from the first thing that the process says."""
        with subprocess.Popen(self._command, stdout=subprocess.PIPE, env=self._environment, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            started = time.monotonic()
            if kill_after_s is not None:
                time.sleep(kill_after_s)
                process.send_signal(signal.SIGKILL)
            said = messages(first + process.stdout.read())
            self.busy_s = time.monotonic() - started
        assert process.returncode in ((0,) if kill_after_s is None else (0, -signal.SIGKILL))
        return said[-1] if said and said[-1]["message_type"] == "summary" else None


def test_kill_9_at_any_moment(client: Any, swarm: Any, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    points = int(os.environ.get("SHOAL_CRASH_POINTS", "3"))
    rng = random.Random(7)
    folder = tmp_path / "folder"
    for number in range(200):
        path = folder / f"{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 1_000, 100_000))))
    (folder / "large").write_bytes(rng.randbytes(16_000_000))
    striker = Striker(folder, swarm, tmp_path / "publisher", clean_environment)
    assert striker.publish() is not None
    longest = striker.busy_s
    killed = resumed = 0
    for point in range(points):
        (folder / "changing").write_bytes(rng.randbytes(point))
        early = striker.publish(longest * (point + rng.random()) / points)
        killed += early is None
        done = striker.publish()
        assert done is not None
        assert done["complete"]
        resumed += done["resumed_bytes"] > 0
        for summary in (early, done):
            if summary is None:
                continue
            out = tmp_path / f"out-{point}-{summary is done}"
            assert client("fetch", summary["link"], "-o", str(out), home="reader").returncode == 0
            assert described(out) == described(folder)
    print(
        f"{points} moments: {killed} killed in the middle, {resumed} of them resumed; a whole run takes {longest:.1f} s"
    )
    assert killed
