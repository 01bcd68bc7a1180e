"""Whom an invite names: first this machine's own node, at an address that others can call."""

from dataclasses import replace
from pathlib import Path

import pytest

from kit.virtual_lan import VirtualLans
from shoal.dht import Address, UdpNetwork
from shoal.node import Environment, Home, Network, NetworkParameters, NodeSettings, Peer, init_node, open_node
from shoal.simulation.datagrams import VirtualDatagrams

NETWORK = Network(NetworkParameters("inviting", 0, True), (Peer("192.168.9.9:4750"),))
SETTINGS = NodeSettings(listen=(Address("0.0.0.0", 0),), lan=False, map=False)


class AtHome(UdpNetwork):
    """A machine with a known address in a home, and real sockets."""

    def __init__(self, host: str | None) -> None:
        self._host = host

    def local_host(self, *, ipv6: bool, towards: str | None = None) -> str | None:
        return None if ipv6 else self._host


@pytest.mark.parametrize(("host", "named"), [("10.0.0.7", "10.0.0.7"), (None, "10.0.0.8")])
async def test_a_node_and_a_command_of_its_home_name_it_as_others_see_it(
    env: Environment, tmp_path: Path, host: str | None, named: str
) -> None:
    """Also the first node of a network, which nobody has told its address, and one without a way to the internet."""
    lans = VirtualLans(VirtualDatagrams(env.rng))
    env = replace(env, datagrams=AtHome(host), lan=lans.at("10.0.0.8"))
    init_node(Home.at(tmp_path), SETTINGS, NETWORK)
    async with (
        open_node(tmp_path, serve=True, environment=env) as node,
        open_node(tmp_path, environment=env) as command,
    ):
        expected = (
            Peer(str(Address(named, node.addresses[0].port)), node.node_id),
            Peer("192.168.9.9:4750"),
        )
        made = await node.invite(0.1)
        assert made.network.peers == expected
        made = await command.invite()
        assert made.network.peers == expected
        assert made.answered == 1
        assert not made.is_local
