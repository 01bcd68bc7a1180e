"""Whether a fetch renews: judged by those who have proven their shares in it, and by nobody else."""

from pathlib import Path

import pytest
import trio

from kit.later import seal_without_lease
from kit.lying import on_request
from kit.worlds import holders, prepare
from shoal.dht import Address, Contact, NodeId, Reach
from shoal.erasure import FileId
from shoal.node import Published
from shoal.node.channel import AnyRequest, Renew
from shoal.node.holders.announcers import Hint
from shoal.node.holders.renewal import shortest_promise
from shoal.node.holders.statements import HolderStatement, make_statement, pack_statements
from shoal.simulation.world import EPOCH_START, Machine, World, run_world

DAY_S = 86400.0
K, N = 4, 12
LONG_S = 90 * 86400


def claim_everything(world: World, liar: Machine, published: Published) -> None:
    """All holders take in what the liar signs: that it keeps all shares, for as long as can be."""
    assert liar.node is not None
    identity = liar.node.context.dht.identity
    now = liar.environment.wall()
    network_id, file_id = world.network.parameters.network_id, published.link.id
    signed = [
        make_statement(identity, network_id, file_id, share, Reach.of(liar.address), int(now) + LONG_S, now).signed
        for share in range(N)
    ]
    for machine in holders(world, published):
        machine.serving.known_holders.take_in(file_id, pack_statements(signed))


def days_left(machines: list[Machine], file_id: FileId) -> list[int]:
    """Of the lease of each machine's share."""
    return [round((held.lease_end - now()) / DAY_S) for each in machines for held in each.serving.store.held(file_id)]


def now() -> float:
    """The wall clock of the world."""
    return EPOCH_START + trio.current_time()


def lease_ends(machines: list[Machine], file_id: FileId) -> list[int]:
    """The end of the lease of each machine's share."""
    return [held.lease_end for each in machines for held in each.serving.store.held(file_id)]


def count_renewals(machines: list[Machine]) -> list[bytes]:
    """Filled with the file ids that these machines are asked to renew from now on."""
    asked: list[bytes] = []

    def note(machine: Machine, request: AnyRequest) -> None:
        assert isinstance(request, Renew)
        asked.append(request.file_id)

    on_request(machines, Renew, note)
    return asked


async def fetch(world: World, published: Published, target: Path | None) -> None:
    async with world.client("reader") as client:
        if target is not None:
            await client.fetch(published.link, target)
            return
        async with client.open_fetch(published.link) as file:
            async for _ in file:
                pass


@pytest.mark.parametrize("to_disk", [True, False])
@pytest.mark.parametrize("is_holder", [True, False])
def test_one_liar_that_claims_all_shares_stops_no_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_holder: bool, to_disk: bool
) -> None:
    seal_without_lease(monkeypatch)

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 1, 300_000, settle_s=30, ttl_s=30 * 86400)
        honest = holders(world, published)
        (other,) = [machine for machine in world.running() if machine not in honest]
        liar = honest.pop(0) if is_holder else other
        claim_everything(world, liar, published)
        await fetch(world, published, tmp_path / "fetched" if to_disk else None)
        assert days_left(honest, published.link.id) == [90] * len(honest)

    run_world(51, tmp_path, story)


@pytest.mark.parametrize("to_disk", [True, False])
def test_a_fetch_leaves_the_lease_that_the_publisher_chose(tmp_path: Path, to_disk: bool) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 1, 300_000, settle_s=30, ttl_s=3600)
        machines = holders(world, published)
        asked = count_renewals(machines)
        before = lease_ends(machines, published.link.id)
        assert max(before) <= now() + 3600 + 60
        assert published.lease_until == sorted(before)[-K]
        await trio.sleep(1800)
        await fetch(world, published, tmp_path / "fetched" if to_disk else None)
        assert asked == []
        assert lease_ends(machines, published.link.id) == before
        async with world.client("friend") as client:
            await client.renew(published.link)
        assert days_left(machines, published.link.id) == [90] * N, "by hand it may be extended"

    run_world(53, tmp_path, story)


def test_the_list_of_the_home_shows_what_a_fetch_from_it_has_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_without_lease(monkeypatch)

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 1, 300_000, settle_s=30, ttl_s=30 * 86400)
        async with world.client("publisher") as client:
            (listed,) = client.published()
            assert listed.lease_end == published.lease_until
            done = await client.fetch(published.link, tmp_path / "fetched")
            (renewed,) = client.published()
        assert renewed.lease_end == done.lease_until
        assert renewed.lease_end == pytest.approx(now() + LONG_S, abs=60)

    run_world(54, tmp_path, story)


def test_the_list_of_the_home_learns_of_others_renewals_when_it_checks(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 1, 300_000, settle_s=30, ttl_s=86400)
        async with world.client("friend") as client:
            renewed = await client.renew(published.link)
        async with world.client("publisher") as client:
            await client.check(published.link)
            (listed,) = client.published()
        assert listed.lease_end == pytest.approx(renewed.lease_until, abs=60)

    run_world(55, tmp_path, story)


def test_a_fetch_renews_nothing_that_lasts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N + 1, 300_000, settle_s=30, ttl_s=LONG_S)
        asked = count_renewals(holders(world, published))
        await fetch(world, published, None)
        assert asked == []
        await fetch(world, published, tmp_path / "fetched")
        assert asked == []

    run_world(52, tmp_path, story)


def holder(number: int) -> Contact:
    return Contact(NodeId(bytes([number]) * 32), Address(f"10.0.0.{number}", 1))


def statement(share: int, contact: Contact, lease_end: int) -> HolderStatement:
    return HolderStatement(FileId(bytes(32)), share, contact.node_id, Reach.of(contact.address), lease_end, 0, 1, b"")


def test_only_what_the_provers_signed_of_their_own_shares_counts() -> None:
    anna, bert, liar = holder(1), holder(2), holder(3)
    proven = [Hint(0, anna), Hint(1, bert)]
    signed = [statement(0, anna, 90), statement(1, bert, 80)]
    lies = [statement(share, liar, 10**9) for share in range(2)]
    assert shortest_promise(proven, signed + lies) == 80.0
    assert shortest_promise([*proven, Hint(1, liar)], signed + lies) == 80.0
    assert shortest_promise(proven, [*signed[:1], *lies]) == 0.0  # of Bert's lease nothing is known
    assert shortest_promise(proven, [*signed[:1], statement(0, bert, 90), *lies]) == 0.0  # it is another share's
    assert shortest_promise([], signed) == 0.0
