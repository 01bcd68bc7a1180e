"""Relays that lie, stall, drop and die. Each ends one conversation alone, or has a node knock in vain, so often."""

import random

import pytest
import trio
import trio.testing

from kit.peers import make_server
from kit.relays import FINE, PARAMS, RelayHost, ask_relay, call, start_homebody, start_relay
from shoal.dht import Address, Contact, Identity, Reach
from shoal.node.channel import (
    Dials,
    HeldShares,
    OtherNode,
    PeerError,
    RawStream,
    Reserved,
    Ring,
    Rung,
    TlsNetwork,
    open_pool,
)
from shoal.node.channel.circuits import JOINED, PREAMBLE_BYTES, RINGING
from shoal.node.channel.dials import HOST_DIALS
from shoal.node.channel.relayed import HEAD_START_S, RelayCalls
from shoal.node.channel.slots import Slot
from shoal.simulation.nat import Nat
from shoal.simulation.streams import VirtualStreams

Clock = trio.testing.MockClock
HOME, CALLER, VICTIM = "10.0.1.1", "10.0.2.1", "10.7.7.7"


@pytest.fixture
def world() -> VirtualStreams:
    world = VirtualStreams(random.Random(6))
    world.nats[HOME] = Nat.SYMMETRIC
    world.nats[CALLER] = Nat.SYMMETRIC
    return world


async def start(nursery: trio.Nursery, world: VirtualStreams, number: int, **options: object) -> RelayHost:
    host = f"10.9.{number}.1"
    return await start_relay(nursery, world.at(host), host, seed=10 + number, **options)  # type: ignore[arg-type]


async def stall(raw: RawStream, slot: Slot) -> None:
    """Says that it rings, and does nothing."""
    await raw.receive(PREAMBLE_BYTES)
    await raw.send(RINGING)
    await trio.sleep_forever()


async def drop(raw: RawStream, slot: Slot) -> None:
    """Hangs up."""
    await raw.receive(PREAMBLE_BYTES)


async def babble(raw: RawStream, slot: Slot) -> None:
    """Joins the caller to itself, and talks nonsense."""
    await raw.receive(PREAMBLE_BYTES)
    await raw.send(RINGING + JOINED + bytes(100))
    await trio.sleep_forever()


@pytest.mark.parametrize(("handler", "most_s"), [(stall, HEAD_START_S + 3), (drop, 3), (babble, 8)])
async def test_the_next_relay_is_tried(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams, handler: object, most_s: float
) -> None:
    bad = await start(nursery, world, 1, raw_handler=lambda own: handler)
    good = await start(nursery, world, 2)
    home = await start_homebody(nursery, world.at(HOME), [bad.contact, good.contact], host=HOME)
    await home.wait_for(2)
    begun = trio.current_time()
    reach = Reach((), (bad.contact, good.contact))
    async with open_pool(world.at(CALLER), params=PARAMS) as pool:
        assert isinstance(await pool.request(home.identity.node_id, reach, FINE, timeout_s=20), HeldShares)
        assert trio.current_time() - begun < most_s
        assert good.relay.statistics().circuits == 1


async def test_a_relay_that_dies_ends_its_circuits_alone(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    relays = [await start(nursery, world, n) for n in (1, 2)]
    contacts = [each.contact for each in relays]
    home = await start_homebody(nursery, world.at(HOME), contacts, host=HOME)
    await home.wait_for(2)
    async with open_pool(world.at(CALLER), params=PARAMS) as pool:
        one, two = Reach((), (contacts[0],)), Reach((), (contacts[1],))
        for way in (one, two):
            await pool.request(home.identity.node_id, way, FINE, timeout_s=5)
        world.separate(lambda a, b: contacts[0].address.host in (a, b))
        world.kill(contacts[0].address.host)
        with pytest.raises(PeerError):
            await pool.request(home.identity.node_id, one, FINE, timeout_s=30)
        assert isinstance(await pool.request(home.identity.node_id, two, FINE, timeout_s=5), HeldShares)


async def test_a_node_knocks_so_often_at_an_address_that_a_relay_makes_up(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    """Whatever a relay says of its callers: one host hears of it 16 times at once, and the node goes on."""
    tries = 0

    class Lying(type(world.at(HOME))):  # type: ignore[misc]
        async def punch(self, source: Address, target: Address) -> None:
            nonlocal tries
            assert target.host == VICTIM
            tries += 1

    relay = await start(nursery, world, 1)
    dials = Dials(private=False)
    home = await start_homebody(nursery, Lying(world, HOME), [relay.contact], host=HOME, dials=dials)
    await home.wait_for(1)
    for number in range(100):
        lie = Reserved(b"", bytes([number]) * 16, Address(VICTIM, 1 + number).pack())
        home.relayed.nursery.start_soon(home.relayed.answer, relay.contact, lie)
    await trio.sleep(60)
    assert tries == HOST_DIALS.count
    assert len(home.relayed.relays) == 1


async def test_a_caller_knocks_so_often_at_an_address_that_a_relay_makes_up(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    relay = await start(nursery, world, 1)
    home = await start_homebody(nursery, world.at(HOME), [relay.contact], host=HOME)
    await home.wait_for(1)
    tries = 0

    class Counting(type(world.at(CALLER))):  # type: ignore[misc]
        async def punch(self, source: Address, target: Address) -> None:
            nonlocal tries
            assert target.host == VICTIM
            tries += 1

    network = Counting(world, CALLER)
    honest = ask_relay(network)

    async def lying(contact: Contact, ring: Ring) -> Rung:
        return Rung((await honest(contact, ring)).token, Address(VICTIM, 5).pack())

    dials = Dials(private=False)
    for _ in range(HOST_DIALS.count + 4):  # each forgets that the punch before has failed
        calls = RelayCalls(network, lying, dials, lambda address: True)
        connection = await call(nursery, network, home.identity.node_id, [relay.contact], calls=calls)
        assert isinstance(await connection.request(FINE, timeout_s=5), HeldShares)
        await connection.aclose()
    assert HOST_DIALS.count <= tries <= HOST_DIALS.count + 1  # one came back with time


async def test_no_punch_goes_where_no_node_can_be(
    autojump_clock: Clock, nursery: trio.Nursery, world: VirtualStreams
) -> None:
    """A relay cannot have its callers knock at machines of their own homes."""
    public = RelayCalls(world.at(CALLER), ask_relay(world.at(CALLER)), None, lambda address: not address.is_loopback)
    node_id = Identity.create(0, random.Random(1).randbytes).node_id
    assert public.punch_target(node_id, Address("127.0.0.1", 22).pack()) is None
    assert public.punch_target(node_id, b"") is None
    assert public.punch_target(node_id, Address("5.5.5.5", 22).pack()) == Address("5.5.5.5", 22)


async def test_a_relay_that_answers_in_the_place_of_the_node_is_found_out(nursery: trio.Nursery) -> None:
    """For real: its key is not the node's."""
    network, rng = TlsNetwork(), random.Random(4)
    mallory = Identity.create(0, rng.randbytes)

    def wiretap(own: object) -> object:
        async def handler(raw: RawStream, slot: Slot) -> None:
            await raw.receive(PREAMBLE_BYTES)
            await raw.send(RINGING + JOINED)
            server = make_server(mallory, PARAMS)
            await network.answer(raw, mallory, server.serve_connection, slots=relay.slots)

        return handler

    relay = await start_relay(nursery, network, "127.0.0.1", raw_handler=wiretap)  # type: ignore[arg-type]
    home = await start_homebody(nursery, network, [relay.contact])
    await home.wait_for(1)
    calls = RelayCalls(network, ask_relay(network), None, lambda address: False)
    with pytest.raises(OtherNode):
        await call(nursery, network, home.identity.node_id, [relay.contact], calls=calls)
