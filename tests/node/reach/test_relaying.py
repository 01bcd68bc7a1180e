"""Relays: a node behind them is called by its own key, whatever they do; what they spend is bounded."""

import random

import pytest
import trio
import trio.testing

from kit.relays import FINE, Homebody, RelayHost, ask_relay, call, start_homebody, start_relay
from shoal.node.channel import (
    MAX_PAYLOAD_BYTES,
    GetRelayed,
    HeldShares,
    PeerConnection,
    PeerError,
    Read,
    RemoteError,
    Ring,
    Status,
    Throttle,
    TlsNetwork,
    open_connection,
)
from shoal.node.channel.relayed import MET_S, UNPUNCHED_S, RelayCalls
from shoal.node.reach import relaying
from shoal.node.reach.relaying import (
    DAY_PART,
    IDLE_S,
    LEAST_BUFFER_BYTES,
    MAX_CIRCUITS,
    buffer_bytes,
)
from shoal.simulation.nat import Nat
from shoal.simulation.streams import VirtualStreams

Clock = trio.testing.MockClock
HOME, CALLER = "10.0.1.1", "10.0.2.1"


@pytest.fixture
def world() -> VirtualStreams:
    return VirtualStreams(random.Random(5))


async def some_relays(nursery: trio.Nursery, world: VirtualStreams, count: int) -> list[RelayHost]:
    return [await start_relay(nursery, world.at(f"10.9.{n}.1"), f"10.9.{n}.1", seed=10 + n) for n in range(count)]


async def homebody(nursery: trio.Nursery, world: VirtualStreams, relays: list[RelayHost]) -> Homebody:
    contacts = [each.contact for each in relays]
    home = await start_homebody(nursery, world.at(HOME), contacts, host=HOME)
    await home.wait_for(min(3, len(relays)))
    return home


@pytest.mark.parametrize(
    ("mine", "theirs", "punched"),
    [
        (Nat.RESTRICTED, Nat.RESTRICTED, True),
        (Nat.RESTRICTED, None, True),
        (Nat.SYMMETRIC, None, False),
        (Nat.SYMMETRIC, Nat.RESTRICTED, False),
        (Nat.SYMMETRIC, Nat.SYMMETRIC, False),
    ],
)
async def test_a_node_behind_a_router_answers(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams, mine: Nat, theirs: Nat | None, punched: bool
) -> None:
    world.nats[HOME] = mine
    if theirs is not None:
        world.nats[CALLER] = theirs
    relays = await some_relays(nursery, world, 4)
    home = await homebody(nursery, world, relays)
    connection = await call(nursery, world.at(CALLER), home.identity.node_id, home.relayed.relays)
    assert connection.node_id == home.identity.node_id
    assert isinstance(await connection.request(FINE, timeout_s=5), HeldShares)
    assert sum(each.relay.statistics().circuits for each in relays) == (0 if punched else 1)
    assert connection.remote.host == (HOME if punched else home.relayed.relays[0].address.host)


async def test_three_relays_are_kept_and_replaced(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    world.nats[HOME] = Nat.SYMMETRIC
    relays = await some_relays(nursery, world, 5)
    home = await homebody(nursery, world, relays)
    first = home.relayed.relays[0]
    world.separate(lambda one, other: first.address.host in (one, other))
    await trio.sleep(60)
    await home.wait_for(3)
    assert first not in home.relayed.relays


async def test_a_node_counts_for_the_relay_that_brings_it(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    """It names two others first, which do not ring it. Else one machine would be as many hosts as there are relays."""
    world.nats[HOME] = Nat.SYMMETRIC
    relays = await some_relays(nursery, world, 3)
    home = await homebody(nursery, world, relays[:1])
    network, node_id = world.at(CALLER), home.identity.node_id
    calls = RelayCalls(network, ask_relay(network), None, lambda address: True)
    named = [relays[number].contact for number in (1, 2, 0)]
    await call(nursery, network, node_id, named, calls=calls)
    assert calls.met_at(node_id) == relays[0].contact.address
    world.nats[HOME] = Nat.RESTRICTED
    await trio.sleep(UNPUNCHED_S + 1)
    await call(nursery, network, node_id, named, calls=calls)
    met = calls.met_at(node_id)
    assert met is not None
    assert met.host == HOME
    world.nats[HOME] = Nat.SYMMETRIC
    await call(nursery, network, node_id, named, calls=calls)
    assert calls.met_at(node_id) == met
    home.stop()  # a day of its questions is long
    await trio.sleep(MET_S)
    assert calls.met_at(node_id) is None


async def test_a_relay_forgets_a_node_that_is_gone(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    relays = await some_relays(nursery, world, 1)
    home = await homebody(nursery, world, relays)
    relay = relays[0].contact
    async with open_connection(world.at(CALLER), relay.address) as connection:
        nodes = (await connection.request(GetRelayed(), timeout_s=5)).nodes
        assert nodes == home.identity.node_id + bytes([30])
        home.stop()
        world.kill(HOME)
        await trio.sleep(30)
        with pytest.raises(RemoteError) as caught:
            await connection.request(Ring(home.identity.node_id), timeout_s=5)
        assert caught.value.status == Status.NOT_FOUND
        assert (await connection.request(GetRelayed(), timeout_s=5)).nodes == b""


async def test_a_real_circuit_and_a_real_punch(nursery: trio.Nursery) -> None:
    """On loopback nothing is in the way: the punch works. One that is not worth it goes through the relay."""
    network = TlsNetwork()
    relay = await start_relay(nursery, network, "127.0.0.1")
    home = await start_homebody(nursery, network, [relay.contact])
    await home.wait_for(1)
    connection = await call(nursery, network, home.identity.node_id, [relay.contact])
    assert isinstance(await connection.request(FINE, timeout_s=5), HeldShares)
    assert relay.relay.statistics().circuits_made == 0
    calls = RelayCalls(network, ask_relay(network), None, lambda address: False)
    connection = await call(nursery, network, home.identity.node_id, [relay.contact], calls=calls)
    read = await connection.request(Read(bytes(32), 3, 0, 16, True), timeout_s=5)
    assert bytes(read.payload) == bytes([3]) * MAX_PAYLOAD_BYTES
    assert relay.relay.statistics().circuits == 1
    assert relay.relay.statistics().passed_bytes > MAX_PAYLOAD_BYTES
    await connection.aclose()
    with trio.fail_after(5):
        while relay.relay.statistics().circuits:  # noqa: ASYNC110 - it has no event for this
            await trio.sleep(0.02)


async def test_a_circuit_without_a_byte_ends(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    """Both ends stay, and nobody asks: the relay does not keep it for them."""
    world.nats[HOME] = Nat.SYMMETRIC
    relays = await some_relays(nursery, world, 1)
    home = await homebody(nursery, world, relays)
    await call(nursery, world.at(CALLER), home.identity.node_id, home.relayed.relays)
    assert relays[0].relay.statistics().circuits == 1
    await trio.sleep(IDLE_S + 1)
    assert relays[0].relay.statistics().circuits == 0


async def read_on(connection: PeerConnection) -> None:
    """Until it breaks."""
    while True:
        await connection.request(Read(bytes(32), 3, 0, 1, True), timeout_s=60)


async def test_a_relay_passes_on_so_much_in_a_day(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's part is used up in the middle of a circuit: that ends, no other begins, and the next day all is well."""
    monkeypatch.setattr(relaying, "DAY_S", 3600.0)
    monkeypatch.setattr(relaying, "BUSY_PART", 20)
    world.nats[HOME] = Nat.SYMMETRIC
    rate = 20_000.0  # 450 kB for one node in such a day
    relay = await start_relay(nursery, world.at("10.9.0.1"), "10.9.0.1", throttle=Throttle(rate))
    home = await homebody(nursery, world, [relay])
    connection = await call(nursery, world.at(CALLER), home.identity.node_id, home.relayed.relays)
    most = rate * 3600 / 20 / DAY_PART
    with pytest.raises(PeerError):
        await read_on(connection)
    assert most <= relay.relay.statistics().passed_bytes < most + 2**16
    with pytest.raises(RemoteError) as caught:
        await call(nursery, world.at(CALLER), home.identity.node_id, home.relayed.relays)
    assert caught.value.status == Status.FULL
    await trio.sleep(3600)
    connection = await call(nursery, world.at(CALLER), home.identity.node_id, home.relayed.relays)
    assert isinstance(await connection.request(FINE, timeout_s=60), HeldShares)


def test_all_circuits_together_hold_so_much() -> None:
    """Each was joined when so many others were there. The system keeps two buffers at each of its two ends."""
    held = sum(4 * buffer_bytes(number) for number in range(1, MAX_CIRCUITS + 1))
    assert held <= 270 * 2**20
    assert buffer_bytes(MAX_CIRCUITS) == LEAST_BUFFER_BYTES
