"""An honest user, as a program: publishes and fetches over and over, each time as a newcomer with an empty home.

    python -m hostile.honest NETWORK_FILE FOLDER

It first publishes the stock, which is fetched again and again. For each operation it prints a JSON line. It ends with
its standard input.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from hostile.lifeline import run_until_eof
from shoal.erasure import parse_link
from shoal.node import Network, Node, ShoalError, open_node

STOCK_BYTES = (3 * 2**20, 200_000)
FRESH_BYTES = 256 * 1024
OPERATION_LIMIT_S = 60.0
PAUSE_S = 0.1  # so that the honest user alone does not fill a core
PUBLISH, FETCH = "publish", "fetch"


@dataclass(frozen=True, slots=True)
class Done:
    """One operation; times are of the system's monotonic clock. `failure` is empty where it succeeded.

    `remark`: a publish has succeeded, on fewer hosts than the network seemed to have.
    """

    operation: str
    began: float
    seconds: float
    failure: str = ""
    remark: str = ""


class WrongBytes(Exception):
    """What was fetched is not what was published, or is not there."""


class User:
    """Someone with files. Every operation opens a node of its own."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._count = 0
        self._stock: list[tuple[str, bytes]] = []
        self._remark = ""

    async def run(self) -> None:
        """Publish the stock, tell of it, and go on until cancelled."""
        for size in STOCK_BYTES:
            content = os.urandom(size)
            self._stock.append((await self._publish(content), content))
        _say({"stock": [parse_link(link).id.hex() for link, _ in self._stock]})
        while True:
            await self._round()

    async def _round(self) -> None:
        fresh = os.urandom(FRESH_BYTES)
        links: list[str] = []

        async def publish() -> None:
            links.append(await self._publish(fresh))

        await self._measured(PUBLISH, publish)
        for link, content in [*((link, fresh) for link in links), self._stock[self._count % len(self._stock)]]:
            await self._measured(FETCH, lambda link=link, content=content: self._fetch(link, content))  # type: ignore[misc]

    async def _publish(self, content: bytes) -> str:
        source = self._folder / "source"
        await trio.to_thread.run_sync(source.write_bytes, content)

        async def publish(node: Node) -> str:
            published = await node.publish(source)
            if not published.findable:
                raise WrongBytes("the file that was published cannot be found")
            if not published.complete:
                self._remark = f"{published.hosts} hosts of {published.happy} that were wished for"
            return str(published.link)

        return await self._as_newcomer(publish)

    async def _fetch(self, link: str, content: bytes) -> None:
        target = self._folder / "target"

        async def fetch(node: Node) -> str:
            await node.fetch(link, target, force=True)
            return ""

        await self._as_newcomer(fetch)
        if await trio.to_thread.run_sync(target.read_bytes) != content:
            raise WrongBytes("fetched bytes are not those that were published")

    async def _as_newcomer(self, work: Callable[[Node], Awaitable[str]]) -> str:
        self._count += 1
        home = self._folder / f"home-{self._count}"
        try:
            async with open_node(home, network=self._network) as node:
                return await work(node)
        finally:
            await trio.to_thread.run_sync(lambda: shutil.rmtree(home, ignore_errors=True))

    async def _measured(self, operation: str, work: Callable[[], Awaitable[None]]) -> None:
        began = time.monotonic()
        failure = self._remark = ""
        try:
            with trio.fail_after(OPERATION_LIMIT_S):
                await work()
        except (ShoalError, WrongBytes, trio.TooSlowError) as error:
            failure = f"{type(error).__name__}: {error}"
        _say(asdict(Done(operation, began, time.monotonic() - began, failure, self._remark)))
        await trio.sleep(PAUSE_S)


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    """The command."""
    network_file, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    user = User(Network.load(network_file), folder)
    with suppress(KeyboardInterrupt):
        trio.run(run_until_eof, user.run)


if __name__ == "__main__":
    main()
