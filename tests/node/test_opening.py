"""Putting a node together, and taking it apart."""

from pathlib import Path

from shoal.dht import Address
from shoal.node import Home, Network, NodeSettings, init_node, open_node

NETWORK = Network.parse(b'network = "opening"\npow_bits = 0\nprivate = true\n', "here")


async def test_the_last_requests_are_answered_while_a_node_closes(tmp_path: Path) -> None:
    init_node(Home.at(tmp_path), NodeSettings(), NETWORK.parameters)
    settings = NodeSettings(listen=(Address("127.0.0.1", 0),))
    async with open_node(tmp_path, network=NETWORK, serve=True, settings=settings) as node:
        before = node._context.me()
    assert node.addresses == ()
    assert node._context.me() == before, "statements name the same address to the end"
