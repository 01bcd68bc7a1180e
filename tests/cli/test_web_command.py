"""`shoal web`, `node run --web`, `--register`, and `publish --qr`."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
import segno

from shoal.cli.commands import publish
from shoal.cli.context import Globals
from shoal.cli.desktop import desktop_entry, with_default
from shoal.cli.qr import BORDER, qr_text
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import Published

QUICK_NETWORK = 'network = "test"\npow_bits = 0\nprivate = true\n'
LIMIT_S = 60.0
LINK = str(Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32)))

Start = Callable[..., "Running"]


class Running:
    """A command that runs, and the JSON that it says."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shoal.cli", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def said(self, event: str) -> dict[str, Any]:
        """The first object of an event."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message.get("event") == event:
                return message
        raise AssertionError(f"it ended without {event}")

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)


@pytest.fixture
def start(tmp_path: Path, clean_environment: dict[str, str]) -> Iterator[Start]:
    """Starts commands on one home; those still running at the end of the test are ended."""
    network = tmp_path / "network.toml"
    network.write_text(QUICK_NETWORK)
    clean_environment["SHOAL_NETWORK"] = str(network)
    clean_environment.pop("DISPLAY", None)
    clean_environment.pop("WAYLAND_DISPLAY", None)
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(clean_environment, *arguments))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait()
        if each.process.stdout is not None:
            each.process.stdout.close()


def status(url: str) -> Any:
    """What the page at an address is told of the node."""
    return ask(url, "status")


def ask(url: str, call: str) -> Any:
    """What a call of the API tells."""
    address, _, token = url.partition("#")
    request = urllib.request.Request(f"{address}api/v1/{call}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return json.load(answer)


def test_the_page_with_and_without_a_node_of_the_home(start: Start, inside: Any, tmp_path: Path) -> None:
    web = start("web", "--no-open", "--port", str(free_port()))
    url = web.said("web")["url"]
    assert status(url)["serves"] is False
    again = inside("web", f"{LINK}/a%20b", "--no-open")
    assert again.returncode == 0
    assert again.stdout.strip() == f"{url}&link={quote(LINK, safe='')}%2Fa%2520b"
    assert json.loads(inside("--json", "web", "--no-open").stdout.splitlines()[-1])["url"] == url
    assert inside("web", "--port", "1").returncode == 11
    assert web.stop() == 130
    assert not (tmp_path / "home" / "web" / "door.json").exists()

    assert inside("node", "init", "--listen", "127.0.0.1:0").returncode == 0
    node = start("node", "run")
    node_id = node.said("listening")["node_id"]
    web = start("web", "--no-open", "--port", str(free_port()))
    url = web.said("web")["url"]
    beside = status(url)
    assert (beside["serves"], beside["node"]["node_id"], beside["peers"]) == (True, node_id, 0)
    findings = ask(url, "doctor")["findings"]
    assert {"subject", "level", "says", "means", "advice"} == set(findings[0])
    assert web.stop() == 130
    assert node.stop() == 130


def test_a_node_with_the_page(start: Start, inside: Any, tmp_path: Path) -> None:
    assert inside("node", "init", "--listen", "127.0.0.1:0").returncode == 0
    node = start("node", "run", "--web")
    node_id = node.said("listening")["node_id"]
    said = node.said("web")
    assert "url" not in said  # what a daemon says goes to logs
    note = json.loads((tmp_path / "home" / "web" / "door.json").read_text())
    url = f"http://127.0.0.1:{said['port']}/#{note['token']}"
    assert status(url)["node"]["node_id"] == node_id
    done = inside("web", "--no-open")
    assert (done.returncode, done.stdout.strip()) == (0, url)
    token = (tmp_path / "home" / "web" / "metrics-token").read_text()
    address = f"{url.partition('#')[0]}metrics"
    with urllib.request.urlopen(
        urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"}), timeout=LIMIT_S
    ) as answer:
        lines = answer.read().decode().splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {"shoal_peers", "shoal_capacity_bytes", "shoal_sent_bytes", "shoal_repairs"} <= {
        name.removesuffix("_total") for name in names
    }
    assert all(name.startswith("shoal_") for name in names)
    assert not [line for line in lines if "{" in line]
    for path in (tmp_path / "home" / "web").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert node.stop() == 130


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    "arguments",
    [("--port", "0"), ("--port", "65536"), ("--port", "x"), ("--register", "--no-open"), ("not-a-link",)],
)
def test_what_makes_no_sense(inside: Any, arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert inside("web", *arguments).returncode == 2
    assert not (tmp_path / "home").exists()


def test_a_browser_gets_the_address_in_a_file_and_not_on_a_command_line(
    start: Start, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """Other users can read command lines."""
    seen = tmp_path / "seen"
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\necho "$@" > {seen}.part\ncp "${{1#file://}}" {seen}.html\nmv {seen}.part {seen}\n')
    opener.chmod(0o755)
    clean_environment |= {"PATH": f"{opener.parent}:{os.environ['PATH']}", "DISPLAY": ":0"}
    web = start("web", "--port", str(free_port()))
    url = web.said("web")["url"]
    begun = time.monotonic()
    while not seen.exists() and time.monotonic() < begun + LIMIT_S:
        time.sleep(0.05)
    token = url.partition("#")[2]
    assert token not in seen.read_text()
    assert url in (tmp_path / "seen.html").read_text()
    assert web.stop() == 130


def test_links_of_the_desktop(inside: Any, tmp_path: Path) -> None:
    folders = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    (tmp_path / "config").mkdir()
    before = "[Added Associations]\nx-scheme-handler/shoal=a.desktop\n[Default Applications]\ntext/html=b.desktop\n"
    (tmp_path / "config" / "mimeapps.list").write_text(before)
    for _ in range(2):
        done = inside("--home", str(tmp_path / "my home"), "web", "--register", environment=folders)
        assert done.returncode == 0
    entry = (tmp_path / "data" / "applications" / "shoal-links.desktop").read_text()
    assert "MimeType=x-scheme-handler/shoal;" in entry
    assert f'--home "{tmp_path}/my home" web %u' in entry
    after = (tmp_path / "config" / "mimeapps.list").read_text()
    ours = "x-scheme-handler/shoal=shoal-links.desktop"
    assert after == before.replace("[Default Applications]\n", f"[Default Applications]\n{ours}\n")


def test_desktop_entries() -> None:
    assert "Exec=shoal --home /a%%b web %u\n" in desktop_entry(["shoal", "--home", "/a%b", "web"])
    assert 'Exec=shoal "a b" "c\\\\"d" "\\\\\\\\" "\\\\$e" %u\n' in desktop_entry(["shoal", "a b", 'c"d', "\\", "$e"])
    ours = "[Default Applications]\nx-scheme-handler/shoal=shoal-links.desktop\n"
    assert with_default("") == ours
    assert with_default(ours) == ours
    assert with_default("[Default Applications]\nx-scheme-handler/shoal=a\n[B]\nc=d\n") == f"{ours}[B]\nc=d\n"


def test_a_qr_code_holds_the_link() -> None:
    lines = qr_text(LINK).split("\n")
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    rows = [[halves[char][half] for char in line] for line in lines for half in (0, 1)]
    wanted = [list(row) for row in segno.make(LINK, micro=False, error="l").matrix_iter(border=BORDER)]
    assert rows[: len(wanted)] == wanted
    assert len({len(line) for line in lines}) == 1


def test_publish_shows_it_on_standard_error(recorded: Any) -> None:
    link = Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32))
    done = Published(
        link, 1, k=1, n=1, happy=1, shares=1, hosts=1, seconds=1.0, sent_bytes=1, resumed_bytes=0, lease_until=0
    )
    output = recorded()
    settings = Globals(None, None, (), output)
    order = publish.Order(("a",), None, None, None, None, 3600, False, qr=True)
    publish.report(settings, order, done)
    assert output.out.getvalue() == f"{LINK}\n"
    assert qr_text(LINK) in output.err.getvalue()


def test_a_qr_code_is_not_for_scripts(inside: Any) -> None:
    done = inside("--json", "publish", "--qr", "file")
    assert (done.returncode, cast("str", json.loads(done.stdout)["message"])[:4]) == (2, "--qr")
