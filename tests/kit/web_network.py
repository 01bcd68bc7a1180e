"""A small network of real nodes and a door to the first, all in one thread: a process for each would take longer."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from shoal.dht import Address
from shoal.doors.web import open_door
from shoal.node import Home, Network, NetworkParameters, Node, NodeSettings, init_node, open_node

NETWORK = Network(NetworkParameters(name="reef", pow_bits=0, private=True))
CAPACITY_BYTES = 2 * 10**9
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0


class WebNetwork:
    """Nodes that serve, and the page of the first. `network_file` lets other processes join."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder = folder
        self.network_file = folder / "network.toml"
        self.url = ""
        self._nodes = nodes
        self._stop = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="web network")

    @property
    def origin(self) -> str:
        """Where the page comes from."""
        return self.url.partition("/#")[0]

    def start(self) -> "WebNetwork":
        """Start all, and wait until the page is there."""
        self._thread.start()
        assert self._is_up.wait(START_LIMIT_S), "the network did not come up"
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """End all."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.set)
        self._thread.join(STOP_LIMIT_S)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._failure = error
        self._is_up.set()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            opened: list[Node] = []
            for number in range(self._nodes):
                peers = [str(node.addresses[0]) for node in opened]
                opened.append(await nursery.start(partial(_serve, self.folder / f"node-{number}", peers)))
            lines = ['network = "reef"', "pow_bits = 0", "private = true"]
            lines += [f'[[peer]]\naddress = "{node.addresses[0]}"' for node in opened]
            self.network_file.write_text("\n".join(lines) + "\n")
            async with open_door(opened[0], NETWORK) as door:
                self.url = door.note.url()
                self._is_up.set()
                await self._stop.wait()
            nursery.cancel_scope.cancel()


async def _serve(
    folder: Path, peers: Sequence[str], *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    settings = NodeSettings(capacity_bytes=CAPACITY_BYTES, reserve_bytes=0, listen=(Address("127.0.0.1", 0),))
    init_node(Home.at(folder), settings, NETWORK.parameters)
    async with open_node(folder, network=NETWORK, bootstrap=list(peers), serve=True) as node:
        await node.wait_joined()
        task_status.started(node)
        await trio.sleep_forever()
