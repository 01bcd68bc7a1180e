"""Whole services on a virtual network under a clock that jumps: joining, looking up, storing, finding."""

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kit.virtual_dht import Lab
from shoal.dht import (
    MAX_ANNOUNCEMENT_BYTES,
    Address,
    Announcement,
    DhtService,
    Identity,
    K,
    NetworkParameters,
    NobodyAnsweredError,
    NoReplyError,
    Record,
    RecordKey,
    RecordKind,
    RecordTooLargeError,
    StoreReport,
    distance,
)

KEY = RecordKey(b"k" * 32)


@pytest.fixture
def lab(make_lab: Callable[..., Lab], params: NetworkParameters) -> Lab:
    return make_lab(params)


@pytest.fixture
def lossy(make_lab: Callable[..., Lab], params: NetworkParameters) -> Lab:
    """5 % of datagrams lost, 5 % doubled, up to 100 ms on the way and out of order."""
    return make_lab(params, seed=2, loss=0.05, duplication=0.05, delay_s=(0.001, 0.1))


async def collect(service: DhtService, key: RecordKey = KEY, **options: Any) -> list[Record]:
    """All records of one full search."""
    with trio.fail_after(120):
        async with service.search(RecordKind.PROVIDER, key, **options) as found:
            return [record async for record in found]


def announcement(payload: bytes = b"here", key: RecordKey = KEY, **options: Any) -> Announcement:
    return Announcement(key, payload, **options)


# -- joining ------------------------------------------------------------------------------------------------


async def test_alone_a_node_is_its_own_network(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node(advertise=[Address("10.0.1.1", 4100)])
    assert await node.find_closest(KEY) == []
    assert await node.announce([announcement()]) == [StoreReport(KEY, closest=1, stored=1)]
    assert [record.announcement for record in await collect(node)] == [b"here"]
    with pytest.raises(NobodyAnsweredError, match="0 addresses"):
        await node.wait_joined(5)


async def test_thirty_nodes_started_at_once_converge_within_thirty_seconds(
    autojump_clock: trio.testing.MockClock, lab: Lab, nursery: trio.Nursery, rng: Random
) -> None:
    nodes = [await lab.node() for _ in range(30)]
    for node in nodes:
        nursery.start_soon(node.bootstrap, [nodes[0].addresses[0]])
    await trio.sleep(30)
    assert min(len(node.contacts()) for node in nodes) >= K
    for node in nodes[::6]:
        target = rng.randbytes(32)
        found = await node.find_closest(target, thorough=node is nodes[0])
        assert {contact.node_id for contact in found} == nearest(nodes, node, target)
        order = [distance(contact.node_id, target) for contact in found]
        assert order == sorted(order)


def nearest(nodes: Any, asking: Any, target: Any = KEY, count: Any = K) -> Any:
    others = [node.identity.node_id for node in nodes if node is not asking]
    return set(sorted(others, key=lambda node_id: distance(node_id, target))[:count])


async def test_the_bootstrap_node_comes_later(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    early = await lab.node()
    place = Address("10.9.9.9", 4100)
    assert await early.bootstrap([place]) == 0
    await trio.sleep(20)
    await lab.node(place.host)
    await early.wait_joined(15)
    assert [contact.address for contact in early.contacts()] == [place]


async def test_a_cache_of_contacts_survives_the_bootstrap_node(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(8)
    cache = nodes[3].contacts()
    lab.stop(nodes[0])
    newcomer = await lab.node()
    await newcomer.bootstrap([Address("10.0.1.1", 4100)], cache)
    assert len(newcomer.contacts()) == 7


async def test_who_comes_in_need_not_wait_for_the_dead_that_the_doors_know(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(8)
    for node in nodes[2:]:
        lab.stop(node)
    newcomer, knocked_at = await lab.client(), list[float]()
    began = trio.current_time()
    await newcomer.bootstrap(
        [node.addresses[0] for node in nodes[:2]], on_knocked=lambda: knocked_at.append(trio.current_time() - began)
    )
    assert knocked_at[0] < 0.3
    assert trio.current_time() - began > 2 * knocked_at[0]
    assert len(newcomer.contacts()) == 2


async def test_a_cut_off_node_returns_by_itself(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(5)
    lonely = nodes[4]
    lab.network.cut.add("10.0.5.1")
    for _ in range(4):
        await lonely.find_closest(KEY)
        await trio.sleep(30)
    assert lonely.contacts() == ()
    with pytest.raises(NobodyAnsweredError):
        await lonely.wait_joined(60)
    lab.network.cut.clear()
    await lonely.wait_joined(60)
    await trio.sleep(60)
    assert len(lonely.contacts()) == 4


async def test_two_networks_never_mix(
    autojump_clock: trio.testing.MockClock, lab: Lab, make_lab: Callable[..., Lab]
) -> None:
    one = await lab.node()
    lab.params = NetworkParameters("another", 0, True)
    other = await lab.node()
    assert await other.bootstrap([one.addresses[0]]) == 0
    assert one.statistics().dropped == {"network": one.statistics().datagrams_in}


async def test_our_own_address_is_no_peer(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node()
    assert await node.bootstrap([node.addresses[0]]) == 0
    await trio.sleep(600)
    assert node.contacts() == ()
    assert node.statistics().datagrams_out < 400  # the retries slow down


async def test_clients_enter_no_table_and_answer_nothing(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(5)
    client = await lab.client()
    assert not client.serving
    assert await client.bootstrap([nodes[0].addresses[0]]) == 5
    await client.find_closest(KEY)
    await trio.sleep(100)
    assert client.addresses == ()
    assert client.own_addresses() == ()
    for node in nodes:
        assert client.identity.node_id not in {contact.node_id for contact in node.contacts()}
    (report,) = await client.announce([announcement()])
    assert (report.closest, report.stored) == (5, 0)


async def test_a_serving_node_needs_its_proof(
    autojump_clock: trio.testing.MockClock, rng: Random, params: NetworkParameters, lab: Lab
) -> None:
    demanding = NetworkParameters("work", pow_bits=30, private=True)
    with pytest.raises(ValueError, match="30 bits"):
        DhtService(
            demanding, Identity.create(0, rng.randbytes), lab.network.host("10.0.0.1"), listen=[Address("0.0.0.0", 1)]
        )


async def test_it_runs_once_and_closes_its_sockets(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    node = await lab.node()
    lab.stop(node)
    await trio.sleep(1)
    assert lab.network.sockets == {}
    with pytest.raises(RuntimeError, match="once"):
        await node.run()


# -- what nodes say of themselves ---------------------------------------------------------------------------


async def test_space_classes_come_with_lookups(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    spaces = [0, 10, 33, 40]
    nodes = [await lab.node(space=lambda space=space: space) for space in spaces]
    for node in nodes[1:]:
        await node.bootstrap([nodes[0].addresses[0]])
    await trio.sleep(30)
    said = {contact.node_id: contact.space for contact in await nodes[0].find_closest(KEY)}
    assert said == {node.identity.node_id: space for node, space in zip(nodes[1:], spaces[1:], strict=True)}
    assert {contact.space for contact in nodes[0].contacts()} == {10, 33, 40}


async def test_nodes_learn_their_address_from_others(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(4)
    assert nodes[2].own_addresses() == (Address("10.0.3.1", 4100),)
    advertised = Address("10.77.0.1", 5)
    said = await lab.node(advertise=[advertised])
    assert said.own_addresses() == (advertised,)


# -- records ------------------------------------------------------------------------------------------------


async def test_announced_and_found_from_anywhere(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(23)
    (report,) = await nodes[7].announce([announcement(b"payload")])
    assert (report.closest, report.stored) == (K, K)
    client = await lab.client()
    await client.bootstrap([nodes[20].addresses[0]])
    for asking in (nodes[1], nodes[7], client):
        (record,) = await collect(asking)
        assert record.announcement == b"payload"
        assert record.provider.node_id == nodes[7].identity.node_id
        assert record.provider.address == Address("10.0.8.1", 4100)
    assert await collect(client, RecordKey(b"x" * 32), thorough=True) == []


async def test_many_providers_with_long_payloads_are_all_found(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(12)
    for number, node in enumerate(nodes):
        (report,) = await node.announce([announcement(bytes([number]) * 600)])
        assert report.stored == 12
    client = await lab.client()
    await client.bootstrap([nodes[3].addresses[0]])
    records = await collect(client)
    assert sorted(record.announcement[0] for record in records) == list(range(12))


async def test_records_for_the_same_nodes_share_datagrams(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(10)
    before = len(lab.network.sent)
    items = [announcement(b"tiny", RecordKey(bytes([n]) * 32)) for n in range(12)]
    reports = await nodes[0].announce(items)
    assert all((report.closest, report.stored) == (10, 10) for report in reports)
    stores = [size for source, _, size in lab.network.sent[before:] if source.host == "10.0.1.1" and size > 900]
    assert len(stores) <= 9 * 3


async def test_a_newer_announcement_replaces_the_older(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(6)
    await nodes[1].announce([announcement(b"old")])
    await trio.sleep(5)
    await nodes[1].announce([announcement(b"new")])
    assert [record.announcement for record in await collect(nodes[4])] == [b"new"]


async def test_bad_announcements_are_refused_before_anything_is_sent(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    node = await lab.node()
    with pytest.raises(RecordTooLargeError):
        await node.announce([announcement(bytes(MAX_ANNOUNCEMENT_BYTES + 1))])
    with pytest.raises(RecordTooLargeError):
        node.keep_announced([announcement(bytes(MAX_ANNOUNCEMENT_BYTES + 1))])
    with pytest.raises(ValueError, match="key"):
        await node.announce([announcement(key=RecordKey(b"short"))])
    with pytest.raises(ValueError, match="kind"):
        async with node.search(99, KEY):
            pass


async def test_kept_announcements_outlive_their_records(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(6)
    assert not nodes[1].is_announcing(KEY)
    nodes[1].keep_announced([announcement(b"kept")])
    assert nodes[1].is_announcing(KEY)
    await trio.sleep(30)
    assert [record.announcement for record in await collect(nodes[4])] == [b"kept"]
    await trio.sleep(100 * 3600)
    assert [record.announcement for record in await collect(nodes[4])] == [b"kept"]
    nodes[1].keep_announced([announcement(b"changed")])
    await trio.sleep(30)
    assert [record.announcement for record in await collect(nodes[4])] == [b"changed"]
    nodes[1].stop_announcing(KEY)
    assert not nodes[1].is_announcing(KEY)
    assert nodes[1].statistics().kept == 0
    await trio.sleep(49 * 3600)
    assert await collect(nodes[4]) == []


async def test_keeping_starts_later_when_just_announced(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(6)
    await nodes[1].announce([announcement()])
    sent = nodes[1].statistics().datagrams_out
    nodes[1].keep_announced([announcement()], announced=True)
    nodes[1].keep_announced([announcement()])  # the same again changes nothing
    await trio.sleep(100)
    assert nodes[1].statistics().datagrams_out - sent < 40
    await trio.sleep(100 * 3600)
    assert len(await collect(nodes[4])) == 1


async def test_kept_announcements_are_retried_until_there_is_a_network(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    node = await lab.node()
    node.keep_announced([announcement()])
    await trio.sleep(3600)
    others = [await lab.node() for _ in range(3)]
    await node.bootstrap([others[0].addresses[0]])
    for other in others[1:]:
        await other.bootstrap([others[0].addresses[0]])
    await trio.sleep(13.5 * 3600)
    assert len(await collect(others[2])) == 1


async def test_what_is_kept_from_the_start_is_stored_by_others_once_there_are_others(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    """A node that looked around before it had met anybody took its own copy for enough, for 30 hours."""
    others = await lab.grid(6)
    node = await lab.node()
    node.keep_announced([announcement()])
    await trio.sleep(1)
    await node.bootstrap([others[0].addresses[0]])
    await trio.sleep(60)
    assert sum(other.statistics().records for other in others) == len(others)


# -- trouble ------------------------------------------------------------------------------------------------


async def test_a_lossy_network_only_costs_time(autojump_clock: trio.testing.MockClock, lossy: Lab) -> None:
    nodes = await lossy.grid(16)
    assert min(len(node.contacts()) for node in nodes) >= 13
    for number in range(4):
        key = RecordKey(bytes([number]) * 32)
        (report,) = await nodes[number].announce([announcement(b"x" * 500, key)])
        assert report.stored >= 15
        assert len(await collect(nodes[-1 - number], key)) == 1


async def test_dead_nodes_are_noticed_and_forgotten(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(14)
    (report,) = await nodes[1].announce([announcement()])
    assert report.stored == 14
    for node in nodes[6:]:
        lab.stop(node)
    started = trio.current_time()
    assert len(await collect(nodes[0])) == 1
    assert trio.current_time() - started < 12
    await trio.sleep(60)
    assert len(nodes[0].contacts()) == 5


async def test_a_silent_node_is_probed_before_it_is_forgotten(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(5)
    lab.network.cut.add("10.0.3.1")
    await nodes[0].find_closest(KEY)  # one failure
    assert len(nodes[0].contacts()) == 4
    lab.network.cut.clear()
    await trio.sleep(60)  # the probe is answered
    assert len(nodes[0].contacts()) == 4


async def test_who_fell_silent_is_asked_by_one_datagram_until_it_is_back(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    """Each question to a node that was away once cost three."""
    nodes = await lab.grid(4)
    gone, identity = nodes[3].addresses[0], nodes[3].identity
    (contact,) = [each for each in nodes[1].contacts() if each.address == gone]
    lab.stop(nodes[3])
    for _ in range(3):
        await nodes[1].find_closest(contact.node_id)
        await trio.sleep(60)
    assert contact not in nodes[1].contacts()

    async def ask() -> int:
        before = len(lab.network.sent)
        with contextlib.suppress(NoReplyError):
            await nodes[1].query(contact, 1, b"?")
        return sum(source == nodes[1].addresses[0] for source, target, _ in lab.network.sent[before:] if target == gone)

    assert await ask() == 1
    back = await lab.node(gone.host, identity=identity)
    await back.bootstrap([nodes[0].addresses[0]])
    await trio.sleep(60)
    assert contact in nodes[1].contacts()
    lab.stop(back)
    await trio.sleep(1)
    assert await ask() == 3


async def test_a_node_that_restarted_is_found_under_its_new_id(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(6)
    lab.stop(nodes[3])
    await trio.sleep(1)
    again = await lab.node("10.0.4.1")
    await again.bootstrap([nodes[0].addresses[0]])
    await nodes[5].find_closest(KEY)  # meets the newcomer in place of the one it knew
    await trio.sleep(60)
    found = {contact.node_id for contact in await nodes[5].find_closest(KEY)}
    assert again.identity.node_id in found
    assert nodes[3].identity.node_id not in found


async def test_the_same_node_restarted_answers_in_full_despite_old_cookies(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(12)
    asking, restarting = nodes[1], nodes[4]
    await asking.find_closest(KEY)
    lab.stop(restarting)
    await trio.sleep(1)
    again = await lab.node("10.0.5.1", identity=restarting.identity)
    await again.bootstrap([nodes[0].addresses[0]])
    (report,) = await asking.announce([announcement()])
    assert (report.closest, report.stored) == (12, 12)
    assert again.statistics().records == 1


async def test_cancelled_requests_leave_nothing(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(6)
    lab.network.cut.update(f"10.0.{n}.1" for n in range(2, 7))
    for seconds in (0.0, 0.001, 0.1, 1.0):
        with trio.move_on_after(seconds):
            await nodes[0].find_closest(KEY)
        with trio.move_on_after(seconds):
            await nodes[0].announce([announcement()])
        with trio.move_on_after(seconds):
            async with nodes[0].search(RecordKind.PROVIDER, KEY) as found:
                async for _ in found:
                    pass
    # Five contacts were lost. Each may be pinged as a door, as one of the lost, and as one that is in doubt.
    # What twelve cancelled operations leave would be more.
    assert nodes[0].statistics().pending <= 3 * 5


async def test_leaving_a_search_early_ends_it_and_errors_stay_bare(
    autojump_clock: trio.testing.MockClock, lab: Lab
) -> None:
    nodes = await lab.grid(6)
    await nodes[1].announce([announcement()])
    async with nodes[0].search(RecordKind.PROVIDER, KEY) as found:
        assert (await found.receive()).announcement == b"here"
    with pytest.raises(KeyError):
        async with nodes[0].search(RecordKind.PROVIDER, KEY):
            raise KeyError("of the caller")
    await trio.sleep(0.001)
    assert nodes[0].statistics().pending == 0


async def test_an_idle_network_is_quiet(autojump_clock: trio.testing.MockClock, lab: Lab) -> None:
    nodes = await lab.grid(10)
    before = nodes[3].statistics().datagrams_out
    await trio.sleep(5 * 24 * 3600)
    per_day = (nodes[3].statistics().datagrams_out - before) / 5
    assert per_day < 100  # measured: 40, sent requests and replies together
    assert len(nodes[3].contacts()) == 9
