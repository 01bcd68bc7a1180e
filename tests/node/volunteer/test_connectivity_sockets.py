"""What a node says of its line, with the system's own sockets. What a firewall drops is dropped where we send."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.fleet import free_ports
from shoal.dht import Address, NetworkParameters, UdpNetwork
from shoal.dht.transport import UdpSocket
from shoal.node import Home, Network, Node, NodeSettings, init_node, open_node, real_environment
from shoal.node.channel import TlsNetwork
from shoal.node.channel.tls import TlsStream
from shoal.node.volunteer import connectivity

NETWORK = Network(NetworkParameters("line", pow_bits=0, private=True))
LIMIT_S = 10.0


@dataclass
class Firewall:
    """What does not get out."""

    drops: set[str] = field(default_factory=set)


class FilteredDatagrams(UdpNetwork):
    """UDP through a firewall."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall

    async def bind(self, address: Address) -> UdpSocket:
        sock = await super().bind(address)
        send = sock.send

        async def filtered(data: bytes, address: Address) -> None:
            if "udp" not in self._firewall.drops:
                await send(data, address)
            await trio.lowlevel.checkpoint()

        sock.send = filtered  # type: ignore[method-assign]
        return sock

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        return None if "route" in self._firewall.drops else super().local_host(ipv6=ipv6, towards=towards)


class FilteredStreams(TlsNetwork):
    """TCP through a firewall."""

    def __init__(self, firewall: Firewall) -> None:
        super().__init__()
        self._firewall = firewall

    async def connect(self, address: Address, source: Address | None = None) -> TlsStream:
        if "tcp" in self._firewall.drops:
            await trio.sleep_forever()
        return await super().connect(address, source)


@asynccontextmanager
async def two_nodes(folder: Path, firewall: Firewall) -> AsyncIterator[tuple[Node, trio.CancelScope]]:
    """A node behind a firewall that has met another, and what stops the other one."""
    places = [Address("127.0.0.1", port) for port in free_ports(2)]
    homes = [Home.at(folder / str(place.port)) for place in places]
    settings = [NodeSettings(10**9, 0, listen=(place,)) for place in places]
    for home, each in zip(homes, settings, strict=True):
        init_node(home, each, NETWORK.parameters)
    environment = replace(real_environment(), datagrams=FilteredDatagrams(firewall), streams=FilteredStreams(firewall))
    scope = trio.CancelScope()

    async def other(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            async with open_node(homes[1], network=NETWORK, serve=True, settings=settings[1]):
                task_status.started()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(other)
        async with open_node(
            homes[0],
            network=NETWORK,
            serve=True,
            settings=settings[0],
            environment=environment,
            bootstrap=[places[1]],
        ) as node:
            await node.wait_joined(LIMIT_S)
            yield node, scope
        nursery.cancel_scope.cancel()


Break = Callable[[Firewall, trio.CancelScope], None]


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda firewall, scope: firewall.drops.add("udp"), "no_datagrams"),
        (lambda firewall, scope: firewall.drops.add("tcp"), "no_connections"),
        (lambda firewall, scope: firewall.drops.update({"udp", "tcp", "route"}), "no_address"),
        (lambda firewall, scope: firewall.drops.update({"udp", "tcp"}), "silence"),
        (lambda firewall, scope: scope.cancel(), "they_are_gone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_it_says_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Break, line: str) -> None:
    monkeypatch.setattr(connectivity, "FRESH_S", 0.5)  # a minute
    monkeypatch.setattr(connectivity, "CONNECTED_S", 0.5)  # a quarter of an hour
    firewall = Firewall()
    async with two_nodes(tmp_path, firewall) as (node, scope):
        found: dict[str, Any] = await node.status()
        assert (found["line"], found["problems"], found["peers"]) == ("good", [], 1)
        broken(firewall, scope)
        await trio.sleep(0.6)
        await node.status()  # one look at which no connection could be made is not enough
        await trio.sleep(0.6)
        begun = trio.current_time()
        found = await node.status()
        assert trio.current_time() - begun < LIMIT_S / 2  # two seconds, and what a busy machine takes
        assert found["line"] == line
        assert len(found["problems"]) == 1
        firewall.drops.clear()
        if not scope.cancel_called:
            await trio.sleep(0.6)
            found = await node.status()
            assert (found["line"], found["problems"]) == ("good", [])
