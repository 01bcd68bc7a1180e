"""Shoal inside a program of your own: three volunteers and one client, all in this process, on loopback.

A real program opens one node and names a peer of its network:  open_node(bootstrap=["198.51.100.7:4750"])
Run me:  python examples/embed.py
"""

import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import trio

from shoal.node import (
    Address,
    Home,
    Network,
    NetworkParameters,
    Node,
    NodeSettings,
    init_node,
    open_node,
)

NETWORK = Network(NetworkParameters(name="example", pow_bits=0, private=True))


async def volunteer(
    folder: Path, peers: list[str], *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve others until cancelled."""
    settings = NodeSettings(capacity_bytes=10**9, reserve_bytes=0, listen=(Address("127.0.0.1", 0),))
    init_node(Home.at(folder), settings, NETWORK.parameters)
    async with open_node(folder, network=NETWORK, bootstrap=peers, serve=True) as node:
        await node.wait_joined()
        task_status.started(node)
        await trio.sleep_forever()


async def letters() -> AsyncIterator[bytes]:
    """Bytes that come from somewhere, piece by piece."""
    for letter in b"shoal":
        yield bytes([letter]) * 100_000
        await trio.lowlevel.checkpoint()


async def publish_and_fetch(node: Node, folder: Path) -> None:
    """What most programs do."""
    published = await node.publish(letters(), name="letters.txt", media_type="text/plain")
    print(published.link)
    print(f"{published.shares} shares on {published.hosts} hosts; survives the loss of any {published.survives}")

    # As a stream: every chunk is verified before it is handed out, and no more is fetched than is consumed.
    async with node.open_fetch(published.link) as file:
        size = 0
        async for chunk in file:
            size += len(chunk)
        print(f"streamed {size} of {file.size} bytes")

    # As a file: it appears under its name only when it is whole.
    fetched = await node.fetch(published.link, folder)
    print(f"fetched {fetched.path.name if fetched.path else '?'}: {fetched.size} bytes")

    for file_info in node.published():
        print(f"published: {file_info.name}, {file_info.size} bytes")


async def main() -> None:
    """Start a small network, use it, and leave nothing behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with trio.open_nursery() as nursery:
            peers: list[str] = []
            for number in range(3):
                node: Node = await nursery.start(partial(volunteer, folder / f"volunteer-{number}", list(peers)))
                peers.append(str(node.addresses[0]))
            (folder / "downloads").mkdir()
            async with open_node(folder / "client", network=NETWORK, bootstrap=peers) as client:
                await publish_and_fetch(client, folder / "downloads")
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
