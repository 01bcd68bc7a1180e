"""The virtual datagram network: what arrives, when, and what does not."""

from random import Random

import pytest
import trio
import trio.testing

from shoal.dht import Address, DatagramSocket, ListenError
from shoal.simulation.datagrams import QUEUE_DATAGRAMS, VirtualDatagrams, Weather

A, B, C = Address("10.0.0.1", 4000), Address("10.0.0.2", 4000), Address("10.0.0.3", 4000)
STEADY = Weather(latency_s=(0.1, 0.1))


def world(weather: Weather = STEADY, seed: int = 1) -> VirtualDatagrams:
    return VirtualDatagrams(Random(seed), weather)


async def sockets(net: VirtualDatagrams, *places: Address) -> list[DatagramSocket]:
    return [await net.at(place.host).bind(place) for place in places]


async def drain(socket: DatagramSocket, seconds: float = 60.0) -> list[bytes]:
    """All that arrives within some virtual seconds."""
    got = []
    with trio.move_on_after(seconds):
        while True:
            got.append((await socket.receive())[0])
    return got


async def test_a_datagram_arrives_after_its_delay_with_its_source(autojump_clock: trio.testing.MockClock) -> None:
    a, b = await sockets(world(), A, B)
    await a.send(b"hello", B)
    assert await b.receive() == (b"hello", A)
    assert trio.current_time() == pytest.approx(0.1)


async def test_a_waiting_receiver_wakes_for_the_earliest(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    net = world(Weather(latency_s=(10.0, 10.0)))
    a, b = await sockets(net, A, B)
    got = []

    async def receive() -> None:
        got.append(((await b.receive())[0], trio.current_time()))

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    await a.send(b"slow", B)
    net.weather = Weather(latency_s=(1.0, 1.0))
    await a.send(b"quick", B)
    await trio.sleep(5)
    assert [data for data, _ in got] == [b"quick"]
    assert got[0][1] == pytest.approx(1.0)


async def test_several_receivers_share_what_arrives(autojump_clock: trio.testing.MockClock) -> None:
    a, b = await sockets(world(), A, B)
    got = []

    async def receive() -> None:
        got.append((await b.receive())[0])

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        for n in range(3):
            await a.send(bytes([n]), B)
    assert sorted(got) == [b"\x00", b"\x01", b"\x02"]


async def test_cancelled_receive_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    a, b = await sockets(world(), A, B)
    for n in range(20):
        await a.send(bytes([n]), B)
    got: list[bytes] = []
    await trio.sleep(1)
    while len(got) < 20:
        with trio.CancelScope() as scope:
            scope.cancel()
            await b.receive()
        got.append((await b.receive())[0])
    assert got == [bytes([n]) for n in range(20)]


async def test_loss_and_duplication_come_at_their_rates(autojump_clock: trio.testing.MockClock) -> None:
    net = world(Weather(loss=0.2, duplication=0.1))
    a, b = await sockets(net, A, B)
    for n in range(1_000):
        await a.send(n.to_bytes(2, "big"), B)
    got = await drain(b)
    assert 740 < len(set(got)) < 860
    assert 50 < len(got) - len(set(got)) < 110
    counted = net.statistics()
    assert (counted.sent, counted.sent_bytes) == (1_000, 2_000)
    assert len(got) == counted.sent - counted.lost + counted.duplicated


async def test_datagrams_overtake_each_other_and_some_come_late(autojump_clock: trio.testing.MockClock) -> None:
    net = world(Weather(latency_s=(0.01, 0.02), late=0.2, late_s=5.0))
    a, b = await sockets(net, A, B)
    for n in range(100):
        await a.send(bytes([n]), B)
    prompt, late = await drain(b, 0.03), await drain(b)
    assert prompt != sorted(prompt)
    assert 5 < len(late) < 40
    assert len(prompt) + len(late) == 100


async def test_partitions_may_be_one_way_and_heal(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    a, b = await sockets(net, A, B)
    net.separate(lambda source, destination: (source, destination) == (A.host, B.host))
    await a.send(b"lost", B)
    await b.send(b"through", A)
    assert await drain(a) == [b"through"]
    net.heal()
    await a.send(b"again", B)
    assert await drain(b) == [b"again"]


async def test_what_is_under_way_survives_a_partition(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    a, b = await sockets(net, A, B)
    await a.send(b"left in time", B)
    net.separate(lambda source, destination: True)
    assert await drain(b) == [b"left in time"]


async def test_queues_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    a, b = await sockets(net, A, B)
    for _ in range(QUEUE_DATAGRAMS + 50):
        await a.send(b"x", B)
    assert len(await drain(b)) == QUEUE_DATAGRAMS
    assert net.statistics().lost == 50


async def test_nobody_there_is_loss(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    (a,) = await sockets(net, A)
    for nowhere in (B, Address("::1", 4000), Address("0.0.0.0", 0)):
        await a.send(b"x", nowhere)
    assert net.statistics().lost == 3


async def test_binding(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    door = net.at("10.0.0.1", "fd00::1")
    wildcard = await door.bind(Address("0.0.0.0", 4000))
    assert wildcard.address == Address("0.0.0.0", 4000)
    six = await door.bind(Address("::", 4000))
    assert six.address == Address("::", 4000)
    free, other = await door.bind(Address("10.0.0.1", 0)), await door.bind(Address("0.0.0.0", 0))
    assert 0 not in (free.address.port, other.address.port)
    assert free.address.port != other.address.port
    for refused in (A, Address("10.9.9.9", 1), Address("fd00::2", 1)):
        with pytest.raises(ListenError):
            await door.bind(refused)
    wildcard.close()
    wildcard.close()
    assert (await door.bind(A)).address == A


async def test_closing_wakes_receivers_and_stops_senders(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    a, b = await sockets(net, A, B)
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await b.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        b.close()
    with pytest.raises(trio.ClosedResourceError):
        await b.send(b"x", A)
    with pytest.raises(trio.ClosedResourceError):
        await b.receive()
    await a.send(b"x", B)
    assert net.statistics().lost == 1


async def test_killing_a_host_closes_its_sockets_only(autojump_clock: trio.testing.MockClock) -> None:
    net = world()
    a, b, c = await sockets(net, A, B, C)
    more = await net.at(A.host).bind(Address(A.host, 4001))
    net.kill(A.host)
    for dead in (a, more):
        with pytest.raises(trio.ClosedResourceError):
            await dead.receive()
    await b.send(b"alive", C)
    assert await c.receive() == (b"alive", B)


async def test_the_same_seed_gives_the_same_weather(autojump_clock: trio.testing.MockClock) -> None:
    async def run() -> list[bytes]:
        net = world(Weather(loss=0.3, duplication=0.3, late=0.3), seed=9)
        a, b = await sockets(net, A, B)
        for n in range(50):
            await a.send(bytes([n]), B)
        return await drain(b)

    assert await run() == await run()
