"""Peers that are known by name, and names that cannot be found."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from shoal.dht import Address
from shoal.node import Home, Network, NodeSettings, NoPeers, init_node, open_node

NETWORK = Network.parse(b'network = "joining"\npow_bits = 0\nprivate = true\n', "here")
ALONE = NodeSettings(lan=False)  # of a client: it calls nobody in the local network of this machine


class Names(trio.abc.HostnameResolver):
    """A name service under our thumb: what it does not know does not exist."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked = 0
        self.is_silent = False

    async def getaddrinfo(self, host: Any, port: Any, *_: int, **__: int) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked += 1
        if self.is_silent:
            await trio.sleep_forever()
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (self.known[name], port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
async def names() -> Names:
    resolver = Names()
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


@pytest.fixture
def volunteer(tmp_path: Path) -> Path:
    init_node(Home.at(tmp_path / "node"), NodeSettings(), NETWORK.parameters)
    return tmp_path / "node"


async def test_a_client_whose_only_peer_has_no_address_is_told_so_at_once(names: Names, tmp_path: Path) -> None:
    doors = ["nowhere.example:4750"]
    async with open_node(tmp_path, network=NETWORK, bootstrap=doors, settings=ALONE) as node:
        with trio.fail_after(3), pytest.raises(NoPeers, match=r"nowhere\.example:4750 \(Name or service not known\)"):
            await node.wait_joined()


async def test_names_that_are_not_found_do_not_hold_up_the_others(
    names: Names, tmp_path: Path, volunteer: Path
) -> None:
    names.is_silent = True
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    async with open_node(volunteer, network=NETWORK, serve=True, settings=settings) as node:
        doors = ["silent.example:4750", str(node.addresses[0])]
        async with open_node(tmp_path / "client", network=NETWORK, bootstrap=doors, settings=ALONE) as client:
            with trio.fail_after(2):
                await client.wait_joined()


async def test_a_node_tries_names_again_until_there_is_a_name_service(
    names: Names, tmp_path: Path, volunteer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has just been switched on may start its node before its network is there."""
    monkeypatch.setattr("shoal.node.joining.FIRST_RETRY_S", 0.1)
    init_node(Home.at(tmp_path / "late"), NodeSettings(), NETWORK.parameters)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    async with (
        open_node(volunteer, network=NETWORK, serve=True, settings=settings) as first,
        open_node(
            tmp_path / "late",
            network=NETWORK,
            serve=True,
            settings=settings,
            bootstrap=[f"friend.example:{first.addresses[0].port}"],
        ) as late,
    ):
        with pytest.raises(NoPeers, match=r"not found: friend\.example"):
            await late.wait_joined(0.3)
        with trio.fail_after(10):
            while names.asked < 2:  # noqa: ASYNC110 - a resolver has no event for it
                await trio.sleep(0.05)
        names.known["friend.example"] = "127.0.0.1"
        await late.wait_joined(5)
        assert (await late.status())["peers"] == 1


async def test_a_name_that_has_moved_is_followed(
    names: Names, tmp_path: Path, volunteer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first it stands for a machine that is gone."""
    monkeypatch.setattr("shoal.node.joining.FIRST_RETRY_S", 0.1)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    async with open_node(volunteer, network=NETWORK, serve=True, settings=settings) as node:
        door = f"friend.example:{node.addresses[0].port}"
        names.known["friend.example"] = "127.0.0.99"
        async with open_node(tmp_path / "client", network=NETWORK, bootstrap=[door], settings=ALONE) as client:
            with pytest.raises(NoPeers):
                await client.wait_joined(0.5)
            names.known["friend.example"] = "127.0.0.1"
            await client.wait_joined(5)
            asked = names.asked
            await trio.sleep(0.5)
            assert names.asked == asked  # while somebody is known, the name service is left alone
