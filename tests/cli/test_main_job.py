"""The main job by the command line: a network of real processes on loopback, files published and fetched back."""

import contextlib
import json
import os
import pty
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kit.later import seal_as
from shoal.erasure import best_codec
from shoal.erasure.link import Link, LinkKind, parse_link
from shoal.erasure.manifest import FileId

PUBLISH_FIELDS = {
    *("link", "id", "size", "k", "n", "shares", "hosts", "seconds", "sent_bytes", "resumed_bytes"),
}
FETCH_FIELDS = {"path", "size", "seconds", "received_bytes", "resumed_bytes"}


class Client:
    """Runs commands against the swarm, from one home unless told another; in a process where stdin matters."""

    def __init__(self, shoal: Any, inside: Any, network_file: str, folder: Path) -> None:
        self._shoal = shoal
        self._inside = inside
        self.network_file = network_file
        self.folder = folder

    def __call__(self, *arguments: str | bytes, home: str = "publisher", **settings: Any) -> Any:
        environment = {"SHOAL_NETWORK": self.network_file, "SHOAL_HOME": str(self.folder / home)}
        run = self._shoal if settings else self._inside
        return run(*arguments, environment=environment, **settings)

    def publish(self, *arguments: str | bytes, **settings: Any) -> str:
        done = self("publish", *arguments, **settings)
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    def file(self, content: bytes, name: str | bytes = "a file.bin") -> Path:
        path = self.folder / os.fsdecode(name)
        path.write_bytes(content)
        return path


@pytest.fixture
def client(shoal: Any, inside: Any, swarm: Any, tmp_path: Path) -> Client:
    return Client(shoal, inside, swarm.network_file, tmp_path)


def last(text: str) -> dict[str, Any]:
    message = json.loads(text.splitlines()[-1])
    assert isinstance(message, dict)
    return message


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_published_here_and_fetched_there(client: Client, size: int) -> None:
    source = client.file(os.urandom(size))
    published = client("publish", str(source))
    assert published.returncode == 0
    assert published.stdout.count("\n") == 1
    assert "6 shares on 6 hosts; survives the loss of any 4 hosts" in published.stderr
    assert "Only 6 hosts took a share" in published.stderr
    out = client.folder / "out"
    out.mkdir()
    fetched = client("fetch", published.stdout.strip(), "-o", str(out), home="reader")
    assert (fetched.returncode, fetched.stdout) == (0, "")
    assert (out / source.name).read_bytes() == source.read_bytes()
    assert os.listdir(out) == [source.name]


def test_json_of_publish_and_fetch(client: Client) -> None:
    source = client.file(os.urandom(5000))
    done = client("--json", "publish", str(source), "--needed", "2", "--total", "5", "--happy", "4")
    summary = last(done.stdout)
    assert done.returncode == 0
    assert summary["message_type"] == "summary"
    assert summary.keys() >= PUBLISH_FIELDS
    assert (summary["size"], summary["k"], summary["n"], summary["shares"], summary["hosts"]) == (5000, 2, 5, 5, 5)
    assert summary["id"] == parse_link(summary["link"]).hash
    assert all(json.loads(line)["message_type"] == "status" for line in done.stdout.splitlines()[:-1])
    target = client.folder / "copy"
    done = client("--json", "fetch", summary["link"], "-o", str(target), home="reader")
    summary = last(done.stdout)
    assert summary.keys() >= FETCH_FIELDS
    assert (summary["path"], summary["size"], summary["name"]) == (str(target), 5000, source.name)


def test_verbose_says_which_codec_runs(client: Client) -> None:
    done = client("-v", "publish", str(client.file(b"some bytes")))
    assert done.returncode == 0
    assert f"erasure code: {best_codec().name}\n" in done.stderr
    assert "home: " in done.stderr


def test_pipes_both_ways(client: Client) -> None:
    link = client.publish("-", "--name", "dir.tar", stdin="text through a pipe\n" * 1000)
    done = client("--json", "fetch", link, "-o", "-", home="reader")
    assert done.stdout == "text through a pipe\n" * 1000
    assert last(done.stderr)["path"] is None
    assert last(done.stderr)["name"] == "dir.tar"
    done = client("fetch", "-o", str(client.folder), home="reader", stdin=f"  {link}\n")
    assert (client.folder / "dir.tar").read_text() == "text through a pipe\n" * 1000


def test_a_reader_that_goes_away_is_not_an_error_worth_words(client: Client, clean_environment: Any) -> None:
    link = client.publish(str(client.file(os.urandom(2_000_000))))
    command = f'"{sys.executable}" -m shoal.cli --quiet fetch {link} -o - | head -c 10 | wc -c; echo ${{PIPESTATUS[0]}}'
    environment = clean_environment | {"SHOAL_NETWORK": client.network_file}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, env=environment, check=False
    )
    assert done.stdout.split() == ["10", "1"]
    assert done.stderr == ""


def test_cat_writes_a_range(client: Client) -> None:
    text = "".join(f"{number:7d}\n" for number in range(200_000))
    link = client.publish(str(client.file(text.encode())))
    for options, wanted in (
        ((), text),
        (("--offset", "800kB", "--length", "16"), text[800_000:800_016]),
        (("--length", "1MiB"), text[: 2**20]),
        (("--offset", "1599990"), text[-10:]),
        (("--offset", "1599990", "--length", "1PB"), text[-10:]),
        (("--offset", "1600000"), ""),
        (("--offset", "7", "--length", "0"), ""),
    ):
        done = client("cat", link, *options, home="reader")
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    done = client("--json", "cat", "--offset", "1MB", "--length", "8", home="reader", stdin=link)
    assert done.stdout == text[1_000_000:1_000_008]
    summary = last(done.stderr)
    assert (summary["message_type"], summary["name"], summary["size"]) == ("summary", "a file.bin", len(text))
    assert (summary["path"], summary["offset"], summary["length"]) == (None, 1_000_000, 8)
    assert 0 < summary["received_bytes"] <= 2 * 65_536
    assert client("cat", "a file.bin", "--length", "7").stdout == text[:7]


def test_cat_of_a_file_in_a_folder(client: Client) -> None:
    folder = client.folder / "holiday"
    (folder / "day 1").mkdir(parents=True)
    (folder / "day 1" / "notes.txt").write_bytes(b"sun and sea")
    (folder / "big").write_bytes(os.urandom(2_000_000))
    link = client.publish(str(folder))
    done = client("--json", "cat", f"{link}/day%201/notes.txt", "--offset", "4", "--length", "3", home="reader")
    assert (done.returncode, done.stdout) == (0, "and")
    summary = last(done.stderr)
    assert (summary["path"], summary["size"], summary["length"]) == ("day 1/notes.txt", 11, 3)
    assert summary["received_bytes"] < 1_000_000
    for path, code, words in (("", 2, "This is a folder"), ("/day%201", 2, "This is a folder"), ("/day%202", 10, "")):
        done = client("cat", f"{link}{path}", home="reader")
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr


def test_cat_refuses_what_is_not_there(client: Client) -> None:
    link = client.publish(str(client.file(b"x" * 10)))
    done = client("--json", "cat", link, "--offset", "11", home="reader")
    assert (done.returncode, done.stdout, last(done.stderr)["code"]) == (2, "", 2)
    assert "--offset 11 is behind the end of the file. It has 10 bytes." in last(done.stderr)["message"]
    done = client("cat", f"{link}/a/b", home="reader")
    assert (done.returncode, done.stdout) == (10, "")
    assert "This is a file and not a folder" in done.stderr
    assert client("check", f"{link}/a/b").returncode == 2


def test_a_reader_of_a_range_that_goes_away_is_no_error_worth_words(
    client: Client, clean_environment: dict[str, str]
) -> None:
    link = client.publish(str(client.file(os.urandom(2_000_000))))
    command = f'"{sys.executable}" -m shoal.cli --quiet cat {link} | head -c 10 | wc -c; echo ${{PIPESTATUS[0]}}'
    environment = clean_environment | {"SHOAL_NETWORK": client.network_file}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, env=environment, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["10", "1"], "")


def test_a_public_file_needs_its_hash_only(client: Client) -> None:
    source = client.file(b"for everybody")
    link = client.publish(str(source), "--public")
    assert "#" not in link
    target = client.folder / "copy"
    assert client("fetch", link.removeprefix("shoal:"), "-o", str(target), home="reader").returncode == 0
    assert target.read_bytes() == b"for everybody"


def test_info_and_ls(client: Client) -> None:
    link = client.publish(str(client.file(b"x" * 70_000)))
    told = client("info", link, home="reader").stdout
    assert "a file.bin" in told
    assert "70.0 kB" in told
    assert "any 2 of 6 shares are enough" in told
    assert "a file.bin" not in client("info", link.partition("#")[0], home="reader").stdout
    summary = last(client("--json", "info", link, home="reader").stdout)
    assert (summary["size"], summary["shares"], len(summary["holders"])) == (70_000, 6, 6)
    assert link in client("ls").stdout
    assert last(client("--json", "ls").stdout)["files"][0]["link"] == link
    empty = client("ls", home="reader")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "has not published anything yet" in empty.stderr


def test_names_are_restored_and_never_printed_raw(client: Client) -> None:
    name = b"new\nline \x1b[31m \xff." + b"n" * 200
    link = client.publish(bytes(client.file(b"odd", name)))
    assert "\x1b" not in client("ls").stdout
    assert "new\\nline \\x1b[31m \\xff" in client("info", link).stdout
    out = client.folder / "out"
    out.mkdir()
    done = client("fetch", link, "-o", str(out), home="reader")
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(bytes(out)) == [name]


def test_an_existing_target_is_kept_without_force(client: Client) -> None:
    link = client.publish(str(client.file(b"new content")))
    target = client.folder / "target"
    target.write_text("precious")
    done = client("fetch", link, "-o", str(target), home="reader")
    assert done.returncode == 1
    assert "already exists. Replace it with --force, or write to another name: -o " in done.stderr
    assert f"{client.folder / 'target (2)'}" in done.stderr
    assert target.read_text() == "precious"
    assert client("fetch", link, "-o", str(target), "--force", home="reader").returncode == 0
    assert target.read_text() == "new content"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_device_or_a_pipe_is_never_replaced(client: Client, force: tuple[str, ...]) -> None:
    link = str(Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32)))
    pipe = client.folder / "pipe"
    os.mkfifo(pipe)
    for target in (str(pipe), "/dev/null"):
        done = client("fetch", link, "-o", target, *force)
        assert done.returncode == 1
        assert "is a device or a pipe" in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_another_files_key_is_refused_and_leaves_nothing(client: Client) -> None:
    link = client.publish(str(client.file(b"one")))
    other = client.publish(str(client.file(b"two")))
    mixed = f"{link.partition('#')[0]}#{other.partition('#')[2]}"
    done = client("fetch", mixed, "-o", str(client.folder / "copy"), home="reader")
    assert done.returncode == 12
    assert "another file" in done.stderr
    assert not list(client.folder.glob("copy*"))


def test_a_kind_of_file_from_a_later_version_is_refused_and_leaves_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(client.file(os.urandom(200_000)))
    with monkeypatch.context() as patch:
        seal_as(patch, kind=2)
        link = client.publish(source)
    into = client.folder / "into"
    into.mkdir()
    for target in (into, into / "copy"):
        done = client("fetch", link, "-o", str(target), home="reader")
        assert (done.returncode, done.stdout) == (14, "")
        assert "This needs a newer Shoal" in done.stderr
    done = client("fetch", link, "-o", "-", home="reader")
    assert (done.returncode, done.stdout) == (14, "")
    assert client("info", link, home="reader").returncode == 14
    assert client("info", link.partition("#")[0], home="reader").returncode == 0
    assert not list(into.iterdir())


def test_what_nobody_has_is_not_found(client: Client) -> None:
    link = Link(FileId(os.urandom(32)), LinkKind.PRIVATE, bytes(32))
    done = client("--json", "fetch", str(link), "-o", str(client.folder / "copy"))
    assert done.returncode == 10
    assert last(done.stdout)["code"] == 10


def test_too_few_hosts_give_a_link_and_an_honest_word(client: Client) -> None:
    done = client("publish", str(client.file(b"x" * 1000)), "--needed", "3", "--total", "10")
    assert done.returncode == 3
    assert parse_link(done.stdout.strip())
    words = "Published 6 of 10 shares on 6 hosts: the file survives the loss of any 3 of them (wanted: 8 hosts)."
    assert words in done.stderr
    assert "Run the same command again to complete it." in done.stderr
    summary = last(client("--json", "publish", str(client.file(b"y")), "--needed", "3", "--total", "10").stdout)
    assert (summary["message_type"], summary["complete"], summary["shares"]) == ("summary", False, 6)


def test_more_hosts_than_there_are_is_no_advice_to_try_again(client: Client) -> None:
    source = str(client.file(b"x" * 1000))
    done = client("publish", source, "--happy", "20")
    assert done.returncode == 3
    assert "(wanted: 20 hosts)" in done.stderr
    assert "Publish it again when the network has 20 hosts" in done.stderr
    assert "Run the same command" not in done.stderr
    again = client("publish", source, "--happy", "4")
    assert (again.returncode, again.stdout != done.stdout) == (0, True)


def test_an_address_of_the_web_is_repeated_as_it_was_typed(client: Client) -> None:
    done = client("publish", "https://example.org/a")
    assert (done.returncode, "Cannot read https://example.org/a: " in done.stderr) == (1, True)


def test_a_publish_is_not_completed_with_the_old_content_of_a_file_whose_time_was_set_back(client: Client) -> None:
    source = client.file(b"old content " * 5000)
    command = ("publish", str(source), "--needed", "3", "--total", "10")
    first, times = client(*command), os.stat(source)
    source.write_bytes(b"new content " * 5000)
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    second, third = client(*command), client(*command)
    assert [done.returncode for done in (first, second, third)] == [3, 3, 3]
    assert first.stdout != second.stdout
    assert second.stdout == third.stdout, "what did not change is completed under its link"
    fetched = client("fetch", second.stdout.strip(), "-o", str(client.folder / "got"), home="reader")
    assert fetched.returncode == 0, fetched.stderr
    assert (client.folder / "got").read_bytes() == source.read_bytes()


def test_a_fetch_does_not_extend_the_lease_that_was_chosen(client: Client) -> None:
    done = client("--json", "publish", str(client.file(b"for an hour")), "--ttl", "1h")
    summary = last(done.stdout)
    assert summary["lease_until"] == pytest.approx(time.time() + 3600, abs=60)
    fetched = client("--json", "fetch", summary["link"], "-o", str(client.folder / "got"), home="reader")
    assert last(fetched.stdout)["lease_until"] is None
    assert last(client("--json", "check", summary["link"]).stdout)["lease_until"] == summary["lease_until"]
    (listed,) = [file for file in last(client("--json", "ls").stdout)["files"] if file["link"] == summary["link"]]
    assert listed["lease_end"] == summary["lease_until"]
    renewed = client("--json", "renew", summary["link"])
    assert last(renewed.stdout)["lease_until"] > time.time() + 89 * 86400


@pytest.mark.parametrize(
    ("chosen", "code"), [(("--needed", "2"), (2, 6)), (("--total", "5"), (1, 5)), (("--total", "2"), (1, 2))]
)
def test_one_of_the_two_numbers_is_enough(client: Client, chosen: tuple[str, ...], code: tuple[int, int]) -> None:
    done = client("--json", "publish", str(client.file(b"x" * 1000)), *chosen)
    summary = last(done.stdout)
    assert (done.returncode, summary["k"], summary["n"], summary["shares"]) == (0, *code, code[1])


def test_fewer_hosts_than_needed_give_none(client: Client) -> None:
    done = client("publish", str(client.file(b"x" * 1000)), "--needed", "8", "--total", "10")
    assert (done.returncode, done.stdout) == (15, "")
    assert "6 of the 8 hosts" in done.stderr


def test_a_warning_when_some_hosts_are_missing(client: Client) -> None:
    done = client("publish", str(client.file(b"x" * 1000)), "--needed", "3", "--total", "7", "--happy", "5")
    assert done.returncode == 0
    assert "6 of 7 hosts have a share; at least 5 were wanted." in done.stderr


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: None, 1, "No such file"),
        (os.mkfifo, 2, "named pipe"),
        (lambda path: path.symlink_to("/dev/null"), 2, "Only regular files"),
    ],
)
def test_bad_sources(client: Client, make: Any, code: int, words: str) -> None:
    source = client.folder / "source"
    make(source)
    done = client("publish", str(source))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_closed_stdin_is_not_an_empty_file(client: Client, clean_environment: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m shoal.cli publish - <&-'],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Standard input is closed" in done.stderr


def test_no_peers(inside: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    done = inside("publish", str(source))
    assert (done.returncode, done.stdout) == (13, "")
    assert "shoal swarm" in done.stderr
    assert "--bootstrap" in done.stderr
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_status_of_a_running_node(client: Client, swarm: Any) -> None:
    node = swarm.ready["nodes"][0]
    deadline = time.monotonic() + 20
    while True:  # a node may know all others only a moment after the swarm is ready
        done = client("--home", node["home"], "--json", "node", "status")
        summary = last(done.stdout)
        assert done.returncode == 0
        if summary["peers"] == 5 or time.monotonic() > deadline:
            break
    assert summary.keys() >= {
        *("node_id", "version", "address", "peers", "shares", "used_bytes", "capacity_bytes", "codec"),
    }
    assert summary["address_source"] == "bound"
    assert (summary["node_id"], summary["address"], summary["peers"]) == (node["node_id"], node["address"], 5)
    assert "5 verified contacts" in client("--home", node["home"], "node", "status").stdout


def test_a_second_daemon_on_one_home(client: Client, swarm: Any) -> None:
    done = client("--home", swarm.ready["nodes"][0]["home"], "node", "run")
    assert done.returncode == 11
    assert "already runs" in done.stderr
    done = client("swarm", "--nodes", "3", "--dir", str(swarm.folder))
    assert done.returncode == 11
    assert "Another swarm runs" in done.stderr


def test_a_person_at_a_terminal_sees_progress_and_the_command_to_fetch(
    client: Client, clean_environment: dict[str, str]
) -> None:
    source = client.file(os.urandom(3_000_000))
    command = [sys.executable, "-m", "shoal.cli", "--network", client.network_file, "publish", str(source)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=clean_environment, text=True
    ) as process:
        os.close(theirs)
        link, _ = process.communicate(timeout=30)
    shown = read_terminal(ours)
    assert "Connecting" in shown
    assert "\r\x1b[K" in shown
    last_screen = shown.rpartition("\x1b[K")[2]
    assert "survives the loss of any 4 hosts" in last_screen
    assert "from another one it cannot be fetched" in last_screen
    (typed,) = [line.strip() for line in last_screen.splitlines() if line.strip().startswith("shoal ")]
    words = shlex.split(typed)
    assert words == ["shoal", "--network", client.network_file, "fetch", link.strip()]
    done = client(*words[1:], "-o", str(client.folder / "copy"), home="reader")
    assert done.returncode == 0
    assert (client.folder / "copy").read_bytes() == source.read_bytes()


def read_terminal(descriptor: int) -> str:
    """What was written to a terminal whose other end is closed by now."""
    content = b""
    with contextlib.suppress(OSError), open(descriptor, "rb", buffering=0) as terminal:
        while chunk := terminal.read(65_536):
            content += chunk
    return content.decode()
