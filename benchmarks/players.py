"""Players and scripts at the address of a ticket: how much of a large film they have fetched.

    python benchmarks/players.py [--seconds 11340] [--nodes 9] [--minute 50]

It starts a local network of real daemons. ffmpeg makes a film of that many seconds, whose index is at its end: 11,340
are 2 GB of plain sound. It is sent through the API of `shoal web`. Then ffprobe, `mpv --start`, ffmpeg and `curl -r`
read it under a ticket, and the script tells what the door's node received meanwhile. It ends with 1 where a bar is
missed: ffprobe and curl take less than 5 % of the film, a player that starts in the middle less than 10 % (mpv reads
150 MiB ahead by itself). Programs that are not installed are named and left out.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from shoal.cli.local_network import Plan, open_local_network
from shoal.cli.units import format_size
from shoal.doors.web import Door, open_door
from shoal.node import Network, NodeSettings, open_node

PROBE_BAR, PLAY_BAR = 0.05, 0.10
PUT_BYTES = 64 * 2**20
CURL_BYTES = 10**6
LENGTH = ("-t", "2", "-f", "null", "-")  # two seconds of it, to nowhere


class Page:
    """The API of a door, as a page uses it."""

    def __init__(self, door: Door) -> None:
        self._address = f"http://127.0.0.1:{door.ports.control}/api/v1/"
        self._token = door.token

    async def ask(self, method: str, path: str, value: object = None, *, data: bytes | None = None) -> Any:
        """One call."""
        body = json.dumps(value).encode() if value is not None else data
        request = urllib.request.Request(self._address + path, body, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/json" if value is not None else "application/octet-stream")
        return await trio.to_thread.run_sync(_answer, request)

    async def send(self, path: Path) -> str:
        """Upload a file and publish it; its link."""
        size = (await trio.Path(path).stat()).st_size
        entries = [{"path": path.name, "size": size}]
        send = await self.ask("POST", "sends", {"name": path.name, "entries": entries})
        async with await trio.open_file(path, "rb") as file:
            for offset in range(0, size, PUT_BYTES):
                data = await file.read(PUT_BYTES)
                await self.ask("PUT", f"sends/{send['id']}/files/0?offset={offset}", data=data)
        await self.ask("POST", f"sends/{send['id']}/start", {})
        while True:
            state = await self.ask("GET", f"sends/{send['id']}")
            if state["phase"] in ("done", "failed"):
                return str(state["link"])
            await trio.sleep(0.5)

    async def received(self) -> int:
        """Bytes that the door's node has received so far."""
        await trio.sleep(2.5)  # a status is told again for two seconds
        return int((await self.ask("GET", "status"))["node"]["received_bytes"])


def _answer(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def make_film(path: Path, seconds: int) -> None:
    """A film of plain noise, with its index at the end."""
    source = f"anoisesrc=r=44100:d={seconds}"
    options = ["-ac", "2", "-c:a", "pcm_s16le", "-f", "mov", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, *options], check=True)


async def look(page: Page, command: Sequence[str], size: int, bar: float) -> bool:
    """Run one program, and tell what it cost; whether the bar holds."""
    if shutil.which(command[0]) is None:
        print(f"{command[0]:28} is not installed", flush=True)
        return True
    before, begun = await page.received(), time.perf_counter()
    await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    took_s = time.perf_counter() - begun
    received = await page.received() - before
    shown = " ".join(word for word in command if not word.startswith(("http:", "/")))
    good = received < bar * size
    told = f"{took_s:5.2f} s, {format_size(received)} of {format_size(size)} ({100 * received / size:.2f} %)"
    print(f"{shown:60} {told}{'' if good else '   MISSED'}", flush=True)
    return good


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    """Start the network, send the film, and look at it; whether all bars hold."""
    film = folder / "film.mov"
    await trio.to_thread.run_sync(make_film, film, arguments.seconds)
    size, start_s = film.stat().st_size, min(60 * arguments.minute, arguments.seconds // 2)
    plan = Plan(folder / "network", arguments.nodes, "players", NodeSettings(capacity_bytes=4 * size, reserve_bytes=0))
    async with open_local_network(plan, lambda text: None) as network:
        known = Network.load(network.network_file)
        async with open_node(folder / "sender", network=known) as sender, open_door(sender, known, 0) as door:
            begun = time.perf_counter()
            link = await Page(door).send(film)
            print(f"sent {format_size(size)} in {time.perf_counter() - begun:.0f} s", flush=True)
        async with open_node(folder / "reader", network=known) as reader, open_door(reader, known, 0) as door:
            page = Page(door)
            url = (await page.ask("POST", "tickets", {"link": link}))["url"]
            place = f"{size // 2}-{size // 2 + CURL_BYTES - 1}"
            playing = ["mpv", f"--start={start_s}", "--length=2", "--vo=null", "--ao=null", "--no-config", url]
            bars = [
                await look(page, ["ffprobe", "-v", "error", "-show_format", url], size, PROBE_BAR),
                await look(page, playing, size, PLAY_BAR),
                await look(
                    page, ["ffmpeg", "-ss", str(start_s), "-i", url, "-t", "2", "-f", "null", "-"], size, PLAY_BAR
                ),
                await look(page, ["curl", "-s", "-r", place, url], size, PROBE_BAR),
            ]
            part = await trio.run_process(["curl", "-s", "-r", place, url], capture_stdout=True)
            async with await trio.open_file(film, "rb") as file:
                await file.seek(size // 2)
                assert part.stdout == await file.read(CURL_BYTES)
    return all(bars)


def main() -> None:
    """Parse the options, measure, and end with 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=11_340, help="of the film; each has 176 kB")
    parser.add_argument("--nodes", type=int, default=9)
    parser.add_argument("--minute", type=int, default=50, help="where players start")
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="shoal-players-") as name:
        sys.exit(not trio.run(measure, arguments, Path(name)))


if __name__ == "__main__":
    main()
