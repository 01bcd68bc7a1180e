"""Connections that strangers' words make us begin, over real sockets."""

import os

import pytest
import trio

from shoal.dht import Address, Identity, NodeId, Reach
from shoal.node.channel import Dials, GetStatus, PeerError, Unreachable, open_pool
from shoal.node.channel.dials import HOST_DIALS
from shoal.node.channel.tls import TlsNetwork


@pytest.mark.parametrize("private", [False, True])
async def test_a_host_without_peers_is_not_called_over_and_over(nursery: trio.Nursery, private: bool) -> None:
    """A hundred invented nodes at one address: connections count from their start, not when they have failed."""
    accepted = 0

    async def hold(stream: trio.SocketStream) -> None:
        nonlocal accepted
        accepted += 1
        await trio.sleep(0.2)

    listeners = await nursery.start(
        trio.serve_tcp,
        hold,
        0,
    )
    victim = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
    refused = 0
    async with open_pool(TlsNetwork(), dials=Dials(private=private)) as pool, trio.open_nursery() as asking:

        async def ask(node_id: NodeId) -> None:
            nonlocal refused
            with pytest.raises(PeerError) as caught:
                await pool.request(node_id, Reach.of(victim), GetStatus(), timeout_s=5)
            refused += isinstance(caught.value, Unreachable) and "left alone" in str(caught.value)

        for _ in range(100):
            asking.start_soon(ask, NodeId(os.urandom(32)))
    assert accepted <= HOST_DIALS.count
    assert refused >= 100 - HOST_DIALS.count


async def test_peers_that_are_met_or_answer_are_called_as_before() -> None:
    met = Identity.create(0, os.urandom).node_id
    here = Address("127.0.0.1", 4750)
    dials = Dials(private=False, is_met=lambda node_id, address: node_id == met)
    for _ in range(HOST_DIALS.count):
        dials.begin(NodeId(bytes(32)), here)
    with pytest.raises(Unreachable):
        dials.begin(NodeId(bytes(32)), here)
    dials.begin(met, here)
    dials.succeeded(here)
    dials.begin(NodeId(bytes(32)), here)
