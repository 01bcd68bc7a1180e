"""Connections shared, bounded, and given up."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from shoal.dht import Address, Identity, NetworkParameters, Reach
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    BugCount,
    Caller,
    ConversationFailed,
    GetHeld,
    HeldShares,
    OtherNode,
    Reply,
    Unreachable,
    open_pool,
)
from shoal.simulation.streams import VirtualStream, VirtualStreamNetwork, VirtualStreams

Clock = trio.testing.MockClock
Serve = Callable[..., Awaitable[Any]]
FINE = GetHeld(bytes(32))


async def test_one_dial_serves_all_who_ask_at_once(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_pool(served.network) as pool, trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(
                lambda: pool.request(served.identity.node_id, Reach.of(served.address), FINE, timeout_s=5)
            )
        await trio.sleep(2)
        assert served.server.statistics().connections == 1
        assert served.server.statistics().requests == 30
        assert len(pool) == 1


async def test_idle_connections_are_closed(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_pool(served.network) as pool:
        await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
        await trio.sleep(30)
        assert served.server.statistics().connections == 1
        await trio.sleep(30)
        assert (served.server.statistics().connections, len(pool)) == (0, 0)


async def test_a_lost_connection_is_replaced(autojump_clock: Clock, serve_virtual: Serve, world: Any) -> None:
    served = await serve_virtual()
    async with open_pool(served.network) as pool:
        await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
        world.kill(served.address.host)
        await trio.sleep(1)
        assert await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)


async def test_a_failed_dial_is_told_to_all_and_tried_again_later(
    autojump_clock: Clock, serve_virtual: Serve, world: Any
) -> None:
    nobody = Address("10.0.0.9", 5)
    async with open_pool(world.at("10.0.0.2")) as pool:

        async def ask() -> None:
            with pytest.raises(Unreachable):
                await pool.request(None, Reach.of(nobody), FINE, timeout_s=5)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        await ask()


async def test_a_failed_dial_takes_no_place_in_the_pool(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_pool(served.network) as pool:
        with pytest.raises(Unreachable):
            await pool.request(None, Reach.of(Address(served.address.host, 1)), FINE, timeout_s=5)
        assert len(pool) == 0


async def test_the_wrong_node_never_gets_a_request(autojump_clock: Clock, serve_virtual: Serve, rng: Any) -> None:
    served = await serve_virtual()
    stranger = Identity.create(0, rng.randbytes).node_id
    async with open_pool(served.network) as pool:
        with pytest.raises(OtherNode):
            await pool.request(stranger, Reach.of(served.address), FINE, timeout_s=5)
    assert served.server.statistics().requests == 0


async def test_a_cancelled_asker_does_not_harm_the_others(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_pool(served.network) as pool, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)

        with trio.move_on_after(0.001):
            async with trio.open_nursery() as short:
                short.start_soon(ask)
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert served.server.statistics().requests == 2


async def test_the_number_of_connections_is_bounded(autojump_clock: Clock, serve_virtual: Serve, world: Any) -> None:
    most = [0]

    async def slow(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        most[0] = max(most[0], served.server.statistics().connections)
        await trio.sleep(1)
        return HeldShares(())

    served = await serve_virtual(dispatch=slow)
    addresses = [served.address]
    async with trio.open_nursery() as nursery:
        for number in range(5):
            address = Address(f"10.0.1.{number}", 7000)
            network = world.at(address.host)
            await nursery.start(
                lambda task_status, network=network, address=address: network.serve(
                    address, served.identity, served.server.serve_connection, task_status=task_status
                )
            )
            addresses.append(address)
        async with open_pool(served.network, max_connections=2) as pool, trio.open_nursery() as askers:

            async def ask(address: Address) -> None:
                await pool.request(None, Reach.of(address), FINE, timeout_s=5)

            for address in addresses * 2:
                askers.start_soon(ask, address)
        nursery.cancel_scope.cancel()
    assert served.server.statistics().requests == 12
    assert most[0] <= 3  # the server sees a connection end a little after the next has begun


async def test_a_pool_with_an_identity_proves_it(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters, rng: Any
) -> None:
    seen = []

    async def note(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        seen.append(caller.node_id)
        return HeldShares(())

    served, me = await serve_virtual(dispatch=note), Identity.create(0, rng.randbytes)
    async with open_pool(served.network, identity=(me, params)) as pool:
        await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
    assert seen == [me.node_id]


async def test_a_fault_of_ours_in_a_call_ends_that_call_alone(
    autojump_clock: Clock, serve_virtual: Serve, world: VirtualStreams, caplog: pytest.LogCaptureFixture
) -> None:
    served, bugs, calls = await serve_virtual(), BugCount(), 0

    class Faulty(VirtualStreamNetwork):
        async def connect(self, address: Address, source: Address | None = None) -> VirtualStream:
            nonlocal calls
            calls += 1
            if calls <= 3:
                raise LookupError("nothing was prepared for this")
            return await super().connect(address, source)

    with caplog.at_level(logging.ERROR):
        async with open_pool(Faulty(world, "10.0.0.2"), bugs=bugs) as pool:
            for _ in range(3):
                with pytest.raises(ConversationFailed):
                    await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
            assert await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
    assert bugs.count == 3
    assert len(caplog.records) == 1  # of one kind the first is told


async def test_a_fault_of_ours_in_a_reply_ends_that_connection_alone(
    autojump_clock: Clock, serve_virtual: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, bugs = await serve_virtual(), BugCount()

    def fail(*_: object) -> Reply:
        raise RecursionError("nothing was prepared for this")

    async with open_pool(served.network, bugs=bugs) as pool:
        with monkeypatch.context() as patched:
            patched.setattr("shoal.node.channel.messages.decode_reply", fail)
            with pytest.raises(ConversationFailed):
                await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
        assert await pool.request(None, Reach.of(served.address), FINE, timeout_s=5)
    assert bugs.count == 1
