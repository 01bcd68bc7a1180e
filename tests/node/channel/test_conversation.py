"""Client and server together, over the virtual network and a clock that jumps."""

import random
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from shoal.dht import Address, Identity, NetworkParameters
from shoal.erasure import BLOCK_BYTES
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    ConnectionSlots,
    Disconnected,
    Done,
    GetHeld,
    GetStatus,
    HeldShares,
    MemoryBudget,
    OtherNetwork,
    OtherNode,
    Read,
    Reason,
    RemoteError,
    Reply,
    Role,
    Status,
    Throttle,
    TimedOut,
    Write,
    open_connection,
)
from shoal.node.channel import messages as m
from shoal.node.channel.conversation import FIRST_REQUEST_S, MAX_REQUESTS_COUNT
from shoal.node.channel.frames import FrameReader, FrameWriter
from shoal.node.channel.hello import client_hello
from shoal.node.channel.limits import PATIENCE_S
from shoal.node.channel.memory import MemoryHolder
from shoal.node.channel.places import Origin
from shoal.node.errors import in_words
from shoal.node.holders.outcome import Outcome
from shoal.node.publishing.lanes import DropReason, reason_of
from shoal.node.repairing.audit import outcome_of

Clock = trio.testing.MockClock
Serve = Callable[..., Awaitable[Any]]
FINE, MISSING, BUG, FULL, SLOW = (GetHeld(bytes([number]) * 32) for number in range(5))
BLOCK = bytes(range(256)) * 256


async def test_requests_and_replies(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address, served.identity.node_id) as peer:
        assert peer.node_id == served.identity.node_id
        assert await peer.request(FINE, timeout_s=5) == HeldShares(((1, 99),))
        blocks = await peer.request(Read(bytes(32), 7, 0, 16, True), timeout_s=5)
        assert blocks.payload == b"\x07" * (16 * BLOCK_BYTES)
        written = await peer.request(
            Write(bytes(16), 0, bytes(96), False), payload=[BLOCK, memoryview(BLOCK), b"end"], timeout_s=5
        )
        assert written.received_blocks == 3
    await trio.sleep(1)
    statistics = served.server.statistics()
    assert (statistics.connections, statistics.requests, statistics.memory_bytes) == (0, 3, 0)


async def test_failures_keep_the_connection(
    autojump_clock: Clock, serve_virtual: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError) as missing:
            await peer.request(MISSING, timeout_s=5)
        assert (missing.value.status, missing.value.text) == (Status.NOT_FOUND, "no such file")
        with pytest.raises(RemoteError) as full:
            await peer.request(FULL, timeout_s=5)
        assert (full.value.status, full.value.reason) == (Status.FULL, Reason.CAPACITY)
        assert (full.value.text, full.value.price) == ("no room", 7)
        with pytest.raises(RemoteError) as bug:
            await peer.request(BUG, timeout_s=5)
        assert (bug.value.status, bug.value.text) == (Status.INTERNAL, "")
        assert await peer.request(FINE, timeout_s=5)
    assert served.server.statistics().bugs == 1
    assert "a bug of ours" in caplog.text


async def test_replies_find_their_requests_in_any_order(
    autojump_clock: Clock, serve_virtual: Serve, rng: random.Random
) -> None:
    async def shuffled(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        assert isinstance(request, GetHeld)
        await trio.sleep(rng.random())
        return HeldShares(((request.file_id[0], 0),))

    served = await serve_virtual(dispatch=shuffled)
    async with open_connection(served.network, served.address) as peer, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            reply = await peer.request(GetHeld(bytes([number]) * 32), timeout_s=60)
            assert reply.shares == ((number, 0),)

        for number in range(100):
            nursery.start_soon(ask, number)


async def test_a_late_reply_is_dropped_and_the_connection_goes_on(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(TimedOut):
            await peer.request(SLOW, timeout_s=1)
        with trio.move_on_after(1):
            await peer.request(SLOW, timeout_s=60)
        assert await peer.request(FINE, timeout_s=1)
        await trio.sleep(10)
        assert await peer.request(FINE, timeout_s=1)
        assert not peer.closed
        assert peer.in_flight == 0


async def test_a_request_cancelled_half_sent_closes_the_connection(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual(throttle=Throttle(down_bytes_per_s=50_000))
    throttle = Throttle(up_bytes_per_s=100_000)
    async with open_connection(served.network, served.address, throttle=throttle) as peer:
        with trio.move_on_after(1):
            await peer.request(Write(bytes(16), 0, b"", False), payload=[BLOCK] * 16, timeout_s=600)
        await trio.sleep(1)
        assert peer.closed
        with pytest.raises(Disconnected):
            await peer.request(FINE, timeout_s=5)


async def test_a_request_cancelled_before_its_turn_harms_nobody(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    throttle = Throttle(up_bytes_per_s=500_000)
    async with open_connection(served.network, served.address, throttle=throttle) as peer:
        async with trio.open_nursery() as nursery:
            big = Write(bytes(16), 0, b"", False)
            nursery.start_soon(lambda: peer.request(big, payload=[BLOCK] * 16, timeout_s=600))
            await trio.sleep(0.5)
            with pytest.raises(TimedOut):
                await peer.request(FINE, timeout_s=0.5)
        assert await peer.request(FINE, timeout_s=5)


async def test_a_request_of_somebody_cancelled_already_leaves_the_connection_in_use(
    autojump_clock: Clock, serve_virtual: Serve
) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        with trio.CancelScope() as scope:
            scope.cancel()
            await peer.request(FINE, timeout_s=5)
        assert scope.cancelled_caught
        assert await peer.request(FINE, timeout_s=5)
        assert served.server.statistics().requests == 1


async def test_the_wrong_node_is_noticed(autojump_clock: Clock, serve_virtual: Serve, rng: random.Random) -> None:
    served = await serve_virtual()
    other = Identity.create(0, rng.randbytes)
    with pytest.raises(OtherNode, match="another node"):
        async with open_connection(served.network, served.address, other.node_id):
            pass


@pytest.mark.parametrize("says_so", [True, False])
async def test_networks_do_not_mix(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters, says_so: bool
) -> None:
    """Either side refuses, with both names. A caller that names no network may belong to any."""
    served = await serve_virtual()
    other = NetworkParameters("elsewhere", 0, private=True)
    with pytest.raises(OtherNetwork) as caught:
        async with open_connection(served.network, served.address, params=other):
            pass
    assert repr(params.name) in str(caught.value)
    assert "'elsewhere'" in str(caught.value)
    assert in_words({caught.value.cause: 1}) == "1 belongs to another network"  # which is no lie
    assert reason_of(caught.value) is DropReason.FOREIGN
    assert outcome_of(caught.value, answered=True) is Outcome.OFFLINE
    async with open_connection(served.network, served.address, params=params if says_so else None) as peer:
        await peer.request(FINE, timeout_s=5)
    stream = await served.network.connect(served.address)
    await FrameWriter(stream, Throttle()).send(m.encode_hello(client_hello(other)))
    reader = FrameReader(stream, Throttle())
    with trio.fail_after(5):
        assert await reader.wait()
        await reader.read_head()
        assert not await reader.wait()  # the server has closed
    stream.abort()


async def test_identify_as_a_peer(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters, rng: random.Random
) -> None:
    callers = list[Caller]()

    async def note(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        callers.append(caller)
        return HeldShares(())

    served, caller = await serve_virtual(dispatch=note), Identity.create(0, rng.randbytes)
    async with open_connection(served.network, served.address) as peer:
        await peer.request(FINE, timeout_s=5)
        await peer.identify(caller, params, Role.PEER, timeout_s=5)
        await peer.request(FINE, timeout_s=5)
    assert [(each.role, each.node_id) for each in callers] == [
        (Role.ANONYMOUS, None),
        (Role.PEER, caller.node_id),
    ]


async def test_only_the_nodes_own_key_is_the_administrator(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters, rng: random.Random
) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError) as anonymous:
            await peer.request(GetStatus(), timeout_s=5)
        assert anonymous.value.status == Status.FORBIDDEN
        await peer.identify(served.identity, params, Role.ADMIN, timeout_s=5)
        assert (await peer.request(GetStatus(), timeout_s=5)).payload == b"fine"
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError) as stranger:
            await peer.identify(Identity.create(0, rng.randbytes), params, Role.ADMIN, timeout_s=5)
        assert stranger.value.status == Status.FORBIDDEN
        await trio.sleep(1)
        assert peer.closed


async def test_a_proof_for_another_network_or_server_is_refused(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters
) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError):
            await peer.identify(served.identity, NetworkParameters("other", 0), Role.ADMIN, timeout_s=5)


async def test_a_peer_without_proof_of_work_is_refused(
    autojump_clock: Clock, serve_virtual: Serve, rng: random.Random
) -> None:
    strict = NetworkParameters("strict", pow_bits=40)
    served = await serve_virtual()
    served.server.params = strict
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError, match="proof of work"):
            await peer.identify(Identity.create(0, rng.randbytes), strict, Role.PEER, timeout_s=5)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(autojump_clock: Clock, serve_virtual: Serve) -> None:
    async def long_work(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        await trio.sleep(150)
        return HeldShares(())

    served = await serve_virtual(dispatch=long_work)
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(FINE, timeout_s=200) == HeldShares(())
        await trio.sleep(55)
        assert not peer.closed
        await trio.sleep(70)
        assert peer.closed


async def test_work_that_never_ends_is_ended(autojump_clock: Clock, serve_virtual: Serve) -> None:
    async def stuck(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        await trio.sleep_forever()
        return Done()

    served = await serve_virtual(dispatch=stuck)
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError) as caught:
            await peer.request(FINE, timeout_s=1000)
    assert caught.value.status == Status.BUSY


async def test_requests_in_work_and_bytes_are_bounded(autojump_clock: Clock, serve_virtual: Serve) -> None:
    at_once = [0, 0]
    release = trio.Event()

    async def count(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await release.wait()
        at_once[0] -= 1
        return HeldShares(())

    served = await serve_virtual(dispatch=count)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(_ask_many, served, FINE, MAX_REQUESTS_COUNT)
        await trio.sleep(5)
        assert at_once[1] == 2 * MAX_REQUESTS_COUNT
        release.set()
    assert served.server.memory.used_bytes == 0


async def _ask_many(served: Any, message: AnyRequest, count: int) -> None:
    async with open_connection(served.network, served.address) as peer, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(lambda: peer.request(message, timeout_s=100))


async def test_without_memory_a_node_is_busy_and_recovers(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual(memory=MemoryBudget(2**20))
    elsewhere = MemoryHolder(Origin.of(Address("10.9.0.1", 1), private=False), lambda: 0, lambda: None)
    held = served.server.memory.take(elsewhere, 2**19, trio.current_time())
    held.wait_for_us()
    write = Write(bytes(16), 0, b"", False)
    async with open_connection(served.network, served.address) as peer:
        with pytest.raises(RemoteError) as busy:
            await peer.request(write, payload=[BLOCK] * 16, timeout_s=10)
        assert busy.value.status == Status.BUSY
        assert await peer.request(FINE, timeout_s=5)
        served.server.memory.release(held)
        assert await peer.request(write, payload=[BLOCK] * 16, timeout_s=10)


async def test_a_burst_waits_for_memory(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual(memory=MemoryBudget(2 * 2**20))
    write = Write(bytes(16), 0, b"", False)

    async def ask() -> None:
        async with open_connection(served.network, served.address) as peer:
            assert await peer.request(write, payload=[BLOCK] * 16, timeout_s=10)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert served.server.memory.used_bytes == 0


async def test_slow_readers_lose_their_place_when_others_need_it(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual(memory=MemoryBudget(2**20))
    stream = await served.network.connect(served.address)
    slow_reads = [m.encode_request(number, Read(bytes(32), 0, 0, 16, True)) for number in range(2)]
    for header in (m.encode_hello(client_hello()), *slow_reads):
        await stream.send(struct.pack(">II", len(header), 0) + header)
    await trio.sleep(30)
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(Read(bytes(32), 0, 0, 16, True), timeout_s=30)


async def test_the_rate_caps_hold_over_connections_together(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual(throttle=Throttle(up_bytes_per_s=1_000_000, down_bytes_per_s=2_000_000))

    async def read(count: int) -> None:
        async with open_connection(served.network, served.address) as peer:
            for _ in range(count):
                await peer.request(Read(bytes(32), 0, 0, 16, True), timeout_s=60)

    async def write(count: int) -> None:
        async with open_connection(served.network, served.address) as peer:
            for _ in range(count):
                await peer.request(Write(bytes(16), 0, b"", False), payload=[BLOCK] * 16, timeout_s=60)

    for work, rate in ((read, 1_000_000), (write, 2_000_000)):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work, 5)
        wanted_s = 20 * 2**20 / rate
        assert wanted_s * 0.95 < trio.current_time() - begun < wanted_s * 1.1


async def test_our_own_cap_is_not_held_against_the_peer(autojump_clock: Clock, serve_virtual: Serve) -> None:
    """At 20 kB/s a frame of 1 MiB takes 52 s: by our own will, so patience must not end."""
    served = await serve_virtual(throttle=Throttle(up_bytes_per_s=20_000, down_bytes_per_s=20_000))
    async with open_connection(served.network, served.address) as peer:
        assert await peer.request(Read(bytes(32), 0, 0, 16, True), timeout_s=100)
        await peer.request(Write(bytes(16), 0, b"", False), payload=[BLOCK] * 16, timeout_s=200)


async def test_a_server_full_of_work_serves_the_administrator(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters
) -> None:
    """The only place is taken by a peer at work, from where all others come too."""
    served = await serve_virtual(slots=ConnectionSlots(total=1))
    async with open_connection(served.network, served.address) as busy, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: busy.request(SLOW, timeout_s=60))
        await trio.sleep(1)
        async with open_connection(served.network, served.address) as peer:
            with pytest.raises(RemoteError) as refused:
                await peer.request(FINE, timeout_s=5)
            assert (refused.value.status, refused.value.reason) == (Status.BUSY, Reason.CONNECTIONS)
        async with open_connection(served.network, served.address) as peer:
            await peer.identify(served.identity, params, Role.ADMIN, timeout_s=5)
            await trio.sleep(2 * FIRST_REQUEST_S)
            assert (await peer.request(GetStatus(), timeout_s=5)).payload == b"fine"
            assert not busy.closed


async def test_all_that_a_peer_asks_is_answered_where_there_is_no_room_and_later_there_is(
    autojump_clock: Clock, serve_virtual: Serve
) -> None:
    served, answers = await serve_virtual(slots=ConnectionSlots(total=1)), list[int]()
    async with (
        open_connection(served.network, served.address) as peer,
        open_connection(served.network, served.address) as busy,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(RemoteError) as refused:
                await peer.request(FINE, timeout_s=5)
            answers.append(refused.value.reason)

        async def work() -> None:
            with pytest.raises(Disconnected):
                await busy.request(SLOW, timeout_s=60)

        nursery.start_soon(work)
        await trio.sleep(1)
        async with trio.open_nursery() as asking:
            for number in range(4):
                asking.start_soon(ask)
                await trio.sleep(0.01 * number)
        assert answers == [Reason.CONNECTIONS] * 4
        await busy.aclose()
        await trio.sleep(11)  # until the server is done with it
        assert await peer.request(FINE, timeout_s=5)


async def test_a_peer_is_turned_away_where_all_are_at_work(
    autojump_clock: Clock, serve_virtual: Serve, params: NetworkParameters, rng: random.Random
) -> None:
    served = await serve_virtual(slots=ConnectionSlots(total=1))
    async with open_connection(served.network, served.address) as busy, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: busy.request(SLOW, timeout_s=60))
        await trio.sleep(1)
        async with open_connection(served.network, served.address) as peer:
            with pytest.raises(RemoteError) as refused:
                await peer.identify(Identity.create(0, rng.randbytes), params, Role.PEER, timeout_s=5)
            assert (refused.value.status, refused.value.reason) == (Status.BUSY, Reason.CONNECTIONS)


async def test_a_caller_that_asks_for_nothing_is_closed(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer:
        await trio.sleep(FIRST_REQUEST_S - 1)
        assert not peer.closed
        await trio.sleep(2)
        assert peer.closed


async def test_a_payload_that_does_not_come_ends_the_connection(autojump_clock: Clock, serve_virtual: Serve) -> None:
    """A write is announced with 1 MiB, of which nothing comes."""
    served = await serve_virtual()
    stream = await served.network.connect(served.address)
    for header, payload_bytes in (
        (m.encode_hello(client_hello()), 0),
        (m.encode_request(0, Write(bytes(16), 0, b"", False)), 2**20),
    ):
        await stream.send(struct.pack(">II", len(header), payload_bytes) + header)
    await trio.sleep(PATIENCE_S - 1)
    assert served.server.memory.used_bytes == 2**20
    await trio.sleep(2)
    assert served.server.memory.used_bytes == served.server.statistics().connections == 0


@pytest.mark.parametrize(("bytes_per_s", "passes"), [(125_000 / 48, True), (900, False)])
async def test_a_part_of_a_slow_line_is_enough_and_less_is_not(
    autojump_clock: Clock, world: Any, serve_virtual: Serve, bytes_per_s: float, passes: bool
) -> None:
    """48 uploads share a line of 1 Mbit/s; both directions of a connection."""
    served = await serve_virtual()
    world.bytes_per_s = bytes_per_s
    async with open_connection(served.network, served.address) as peer:
        for ask in (
            lambda: peer.request(Write(bytes(16), 0, b"", False), payload=[BLOCK] * 16, timeout_s=2000),
            lambda: peer.request(Read(bytes(32), 0, 0, 16, True), timeout_s=2000),
        ):
            if passes:
                assert await ask()
            else:
                with pytest.raises((Disconnected, TimedOut)):
                    await ask()


async def test_closing_ends_requests_under_way(autojump_clock: Clock, serve_virtual: Serve) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Disconnected):
                await peer.request(SLOW, timeout_s=60)

        nursery.start_soon(ask)
        await trio.sleep(1)
        await peer.aclose()


async def test_the_death_of_the_server_ends_requests(autojump_clock: Clock, serve_virtual: Serve, world: Any) -> None:
    served = await serve_virtual()
    async with open_connection(served.network, served.address) as peer, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Disconnected):
                await peer.request(SLOW, timeout_s=60)

        nursery.start_soon(ask)
        await trio.sleep(1)
        world.kill(served.address.host)
