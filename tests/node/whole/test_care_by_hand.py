"""Checking, repairing, renewing, keeping and deleting by hand, in whole simulated networks."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kit import worlds
from kit.forging import publish_forgery
from kit.later import seal_without_lease
from kit.lying import handlers
from kit.worlds import chunks, fetched, holders
from shoal.erasure import BLOCK_BYTES, FileId, Link, LinkKind
from shoal.node import (
    BadData,
    LocalError,
    NotFound,
    Phase,
    Progress,
    Published,
    Receipt,
    TooFewShares,
    UsageError,
    WrongKey,
)
from shoal.node.channel import (
    Blocks,
    Buffer,
    Caller,
    Delete,
    Read,
    Renew,
    Reply,
    RequestError,
    Status,
    Survey,
    Surveyed,
    Write,
)
from shoal.node.holders.deletion import sign_deletion
from shoal.node.holders.surveys import SurveyRow, pack_survey
from shoal.node.home.ledger import Ledger
from shoal.node.store import ShareStore
from shoal.simulation.world import EPOCH_START, Machine, World, run_world

DAY_S = 86400.0
K, N = 4, 12


async def prepare(
    world: World, nodes: int, size: int = 600_000, *, code: tuple[int, int] = (K, N)
) -> tuple[Published, bytes]:
    """A file that is published for 30 days, and its bytes."""
    published, data, _ = await worlds.prepare(
        world, nodes, size, needed=code[0], total=code[1], settle_s=30, name="file", ttl_s=30 * 86400
    )
    return published, data


def store_of(machine: Machine) -> ShareStore:
    return machine.serving.store


# --- check


def test_a_healthy_file_is_checked_quickly_and_by_its_hash(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data = await prepare(world, 14)
        async with world.client("checker") as client:
            checked = await client.check(published.link.hash)
            assert checked.healthy
            assert checked.readable
            assert not checked.verified
            assert not checked.deleted
            assert (checked.k, checked.n, checked.good_shares, checked.hosts, checked.survives) == (K, N, N, N, N - K)
            assert checked.outcomes == {"ok": N, "wrong": 0, "missing": 0, "offline": 0, "stalled": 0, "busy": 0}
            assert checked.read_bytes <= N * BLOCK_BYTES
            assert checked.seconds < 2.0
            assert checked.lease_until == pytest.approx(EPOCH_START + trio.current_time() + 30 * DAY_S, abs=60)
            whole = await client.check(published.link, verify=True)
            assert whole.verified
            assert whole.healthy
            assert whole.read_bytes > 3 * len(data)

    run_world(31, tmp_path, story)


def test_each_way_to_fail_is_told_apart(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 13)
        machines = holders(world, published)
        await world.crash(machines[0].name)
        store_of(machines[1]).delete(published.link.id, b"?", int(EPOCH_START + 200 * DAY_S), EPOCH_START)
        honest = handlers(machines[2])[Read]

        async def wrong(caller: Caller, request: Any, payload: Buffer) -> Reply:
            reply: Any = await honest(caller, request, payload)
            return Blocks(reply.share_proof, reply.data_leaves, reply.data_proof, bytes(len(reply.payload)))

        async def stall(caller: Caller, request: Any, payload: Buffer) -> Reply:
            await trio.sleep(1000)
            raise AssertionError

        async def refuse(caller: Caller, request: Any, payload: Buffer) -> Reply:
            raise RequestError(Status.BUSY)

        handlers(machines[2])[Read] = wrong
        handlers(machines[3])[Read] = stall
        handlers(machines[4])[Read] = refuse
        async with world.client("checker") as client:
            checked = await client.check(published.link)
        assert checked.outcomes == {"ok": 7, "wrong": 1, "missing": 1, "offline": 1, "stalled": 1, "busy": 1}
        assert (checked.good_shares, checked.hosts, checked.survives) == (7, 7, 3)
        assert checked.readable
        assert not checked.healthy
        assert not checked.deleted  # nobody's signature
        assert checked.seconds < 20.0

    run_world(32, tmp_path, story)


def test_too_few_is_a_result_and_nothing_is_an_error(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 13)
        for machine in holders(world, published)[: N - K + 1]:
            await world.crash(machine.name)
        async with world.client("checker") as client:
            checked = await client.check(published.link)
            assert (checked.readable, checked.good_shares, checked.lease_until) == (False, K - 1, None)
            with pytest.raises(TooFewShares):
                await client.repair(published.link)
            with pytest.raises(TooFewShares):
                await client.renew(published.link)
            with pytest.raises(NotFound):
                await client.check(Link(FileId(bytes(32)), LinkKind.PRIVATE))

    run_world(33, tmp_path, story)


def test_only_verify_finds_one_wrong_block_among_many(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 13, size=20 * K * BLOCK_BYTES)
        machine = holders(world, published)[5]
        honest = handlers(machine)[Read]

        async def rotten(caller: Caller, request: Any, payload: Buffer) -> Reply:
            reply: Any = await honest(caller, request, payload)
            read: Reply = reply
            if request.first_block <= 19 < request.first_block + request.count:
                spoiled = bytearray(reply.payload)
                spoiled[-1] ^= 1
                return Blocks(reply.share_proof, reply.data_leaves, reply.data_proof, bytes(spoiled))
            return read

        handlers(machine)[Read] = rotten
        async with world.client("checker") as client:
            seen: list[Progress] = []
            checked = await client.check(published.link, verify=True, on_progress=seen.append)
        assert checked.outcomes["wrong"] == 1
        assert checked.good_shares == N - 1
        assert seen[-1].total_bytes == seen[-1].done_bytes
        assert len(seen) > N

    run_world(34, tmp_path, story)


# --- repair


def test_lost_shares_are_made_again_on_new_hosts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data = await prepare(world, 22)
        lost = holders(world, published)[:7]
        for machine in lost:
            await world.crash(machine.name)
        async with world.client("repairer") as client:
            repaired = await client.repair(published.link.hash)
            assert repaired.rebuilt == tuple(range(7))
            assert (repaired.good_before, repaired.good_after, repaired.hosts) == (5, N, N)
            assert repaired.complete
            assert repaired.findable
            share_bytes = repaired.sent_bytes // 7
            assert repaired.sent_bytes == 7 * share_bytes
            assert len(data) <= K * share_bytes < len(data) * 1.2
            assert repaired.lease_until == pytest.approx(EPOCH_START + 30 * DAY_S, abs=300)
            again = await client.repair(published.link)
            assert (again.rebuilt, again.sent_bytes, again.good_before) == ((), 0, N)
        for machine in holders(world, published)[7:]:
            await world.crash(machine.name)
        await trio.sleep(60)
        async with world.client("checker") as client:
            checked = await client.check(published.link)
            assert checked.good_shares == 7
            assert checked.lease_until == pytest.approx(repaired.lease_until, abs=300)
        assert await fetched(world, published, "reader") == data

    run_world(35, tmp_path, story)


def test_two_repairers_at_once_waste_little_and_break_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data = await prepare(world, 20, size=6_000_000)
        world.streams.bytes_per_s = 400_000.0
        for machine in holders(world, published)[:5]:
            await world.crash(machine.name)
        results = []

        async def repair(name: str, after_s: float) -> None:
            async with world.client(name) as client:
                await trio.sleep(after_s)
                results.append(await client.repair(published.link))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(repair, "one", 0.0)
            nursery.start_soon(repair, "two", 2.0)
        assert all(each.complete for each in results)
        kept = [
            (each.share_number, machine.name)
            for machine in world.running()
            for each in store_of(machine).held(published.link.id)
        ]
        assert len(kept) == N
        lost_bytes = 5 * max(len(data) / K, 1)
        # 1.0 where the second sees the first at work before it begins, else up to 1.5 (seeds 1 to 8)
        assert sum(each.sent_bytes for each in results) <= 1.6 * lost_bytes
        assert await fetched(world, published, "reader") == data

    run_world(36, tmp_path, story)


def test_a_repairer_killed_half_way_leaves_nothing_broken(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data = await prepare(world, 20, size=4_000_000)
        world.streams.bytes_per_s = 300_000.0
        for machine in holders(world, published)[:5]:
            await world.crash(machine.name)
        async with world.client("one") as client:
            with trio.CancelScope() as killed:

                def on_progress(progress: Progress) -> None:
                    if progress.phase is Phase.REBUILDING and 2 * progress.done_bytes > (progress.total_bytes or 0):
                        killed.cancel()

                await client.repair(published.link, on_progress=on_progress)
            assert killed.cancelled_caught
        async with world.client("two") as client:
            repaired = await client.repair(published.link)
            assert repaired.complete
            assert repaired.sent_bytes < 0.8 * 5 * len(data) / K  # what the first one sent was of use
        assert await fetched(world, published, "reader") == data

    run_world(37, tmp_path, story)


def test_where_no_host_is_free_the_result_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, N)
        for machine in holders(world, published)[:3]:
            await world.crash(machine.name)
        async with world.client("repairer") as client:
            repaired = await client.repair(published.link)
            assert (repaired.complete, repaired.good_before, repaired.good_after) == (False, N - 3, N - 3)

    run_world(38, tmp_path, story)


# --- renew, keep


def test_anyone_renews_and_nobody_shortens(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 13)
        async with world.client("stranger") as client:
            renewed = await client.renew(published.link.hash)
            assert (renewed.shares, renewed.hosts, renewed.causes) == (N, N, {})
            limit = EPOCH_START + trio.current_time() + 90 * DAY_S
            assert renewed.lease_until == pytest.approx(limit, abs=60)
            shorter = await client.renew(published.link, 3600)
            assert shorter.lease_until == renewed.lease_until
            checked = await client.check(published.link)
            assert checked.lease_until == renewed.lease_until
            with pytest.raises(UsageError):
                await client.renew(published.link, 91 * 86400)
        machine = holders(world, published)[0]
        reply: Any = await handlers(machine)[Renew](Caller(machine.address), Renew(published.link.id, 2**60), b"")
        assert reply.shares[0][1] <= EPOCH_START + trio.current_time() + 90 * DAY_S
        await trio.sleep(2 * DAY_S)
        reply = await handlers(machine)[Renew](Caller(machine.address), Renew(published.link.id, 2**60), b"")
        assert reply.shares[0][1] == int(EPOCH_START + trio.current_time() + 90 * DAY_S)
        with pytest.raises(RequestError):
            await handlers(machine)[Renew](Caller(machine.address), Renew(bytes(32), 3600), b"")

    run_world(39, tmp_path, story)


def test_a_fetch_renews_what_has_less_than_sixty_days_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal_without_lease(monkeypatch)

    async def story(world: World) -> None:
        published, data, _ = await worlds.prepare(world, 4, 1000, needed=1, total=3)
        await trio.sleep(31 * DAY_S)
        assert await fetched(world, published, "reader") == data
        async with world.client("checker") as client:
            checked = await client.check(published.link)
        assert checked.lease_until == pytest.approx(EPOCH_START + trio.current_time() + 90 * DAY_S, abs=60)

    run_world(40, tmp_path, story)


def test_a_kept_file_is_renewed_by_the_homes_node_and_not_after_unkeep(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 4, size=1000, code=(1, 3))
        keeper: Any = world.machines["node-3"].node
        renewed = await keeper.keep(published.link)
        (kept,) = keeper.kept()
        assert (str(kept.link), kept.lease_until) == (published.link.hash, renewed.lease_until)
        await trio.sleep(20 * DAY_S)
        (later,) = keeper.kept()
        assert later.renewed_at > kept.renewed_at
        assert later.lease_until > EPOCH_START + trio.current_time() + 70 * DAY_S
        assert keeper.unkeep(published.link)
        assert not keeper.unkeep(published.link)
        assert keeper.kept() == []

    run_world(41, tmp_path, story)


# --- delete


def test_the_owner_deletes_and_nobody_else_can(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data = await prepare(world, 14)
        network_id = world.network.parameters.network_id
        machine = holders(world, published)[0]
        scheme = machine.environment.scheme
        forged = sign_deletion(bytes(32), scheme, network_id, published.link.id, EPOCH_START)
        request = Delete(published.link.id, forged.issued, forged.signature)
        with pytest.raises(RequestError) as caught:
            await handlers(machine)[Delete](Caller(machine.address), request, b"")
        assert caught.value.failure.status is Status.FORBIDDEN
        async with world.client("stranger") as client:
            with pytest.raises(UsageError):
                await client.delete(published.link)
            with pytest.raises(WrongKey):
                await client.delete(receipt=Receipt(published.link.id, bytes(32)))
        assert await fetched(world, published, "reader") == data
        away = holders(world, published)[3]
        await world.crash(away.name)
        async with world.client("publisher") as client:
            receipt = client.receipt(published.link)
            await client.keep(published.link)
            deleted = await client.delete(published.link)
            assert (deleted.confirmed, deleted.causes) == (N - 1, {"silent": 1})
            assert not deleted.complete
            assert client.published()[0].deleted_at is not None
            assert client.kept() == []
            again = await client.delete(published.link)  # nobody knows the manifest any more
            assert (again.confirmed, again.causes) == (N - 1, {"silent": 1})
        with pytest.raises(NotFound, match=f"{N - 1} have none of the file, 1 did not answer"):
            await fetched(world, published, "late reader")
        assert not any(store_of(each).held(published.link.id) for each in world.running())
        await world.start(away.name)
        await trio.sleep(60)
        async with world.client("elsewhere") as client:
            checked = await client.check(published.link)
            assert (checked.deleted, checked.readable) == (True, False)
            with pytest.raises(NotFound, match="deleted"):
                await client.repair(published.link)
            again = await client.delete(receipt=receipt)
            assert again.complete
            once_more = await client.delete(receipt=receipt)
            assert (once_more.confirmed, once_more.complete) == (N, True)
        assert not store_of(away).held(published.link.id)
        assert not any(store_of(each).held(published.link.id) for each in world.running())

    run_world(42, tmp_path, story)


def test_a_deletion_is_remembered_also_where_the_clock_was_far_behind(tmp_path: Path) -> None:
    """Once it is right, nothing seems to have been deleted long ago: a holder that comes back would repair the file."""

    async def story(world: World) -> None:
        published, _ = await prepare(world, 4, 5_000, code=(1, 3))
        machine = holders(world, published)[0]
        machine.clock.ahead_s -= 200 * DAY_S
        async with world.client("publisher") as client:
            assert (await client.delete(published.link)).complete
        machine.clock.ahead_s += 200 * DAY_S
        store = store_of(machine)
        now = machine.clock.read()
        store.drop_expired(now, clock_agrees=True)
        assert store.tombstone(published.link.id)
        store.drop_expired(now + 179 * DAY_S, clock_agrees=True)
        assert store.tombstone(published.link.id)
        store.drop_expired(now + 181 * DAY_S, clock_agrees=True)
        assert not store.tombstone(published.link.id)

    run_world(47, tmp_path, story)


# --- publishers that lie


def writes_to(world: World) -> list[str]:
    """A growing list of the machines that are sent blocks from now on."""
    asked: list[str] = []
    for machine in world.running():
        honest = handlers(machine)[Write]

        async def write(
            caller: Caller,
            request: Any,
            payload: Buffer,
            honest: Callable[..., Awaitable[Reply]] = honest,
            name: str = machine.name,
        ) -> Reply:
            asked.append(name)
            return await honest(caller, request, payload)

        handlers(machine)[Write] = write
    return asked


@pytest.mark.parametrize("forged", [{9}, set(range(K, N))])
def test_shares_that_are_no_codeword_stop_check_and_repair_and_no_holder_is_blamed(
    tmp_path: Path, forged: set[int]
) -> None:
    async def story(world: World) -> None:
        await prepare(world, 16)
        published = await publish_forgery(world, world.rng.randbytes(600_000), forged, needed=K, total=N)
        await world.crash(holders(world, published)[0].name)
        asked = writes_to(world)
        async with world.client("checker") as client:
            with pytest.raises(BadData, match="No holder is to blame"):
                await client.check(published.link)
            with pytest.raises(BadData, match="No holder is to blame"):
                await client.repair(published.link)
        assert asked == []

    run_world(43, tmp_path, story)


def test_a_rebuilt_share_that_misses_its_root_is_never_kept(tmp_path: Path) -> None:
    """The false share is the lost one, so that nothing is wrong until it is made again."""

    async def story(world: World) -> None:
        await prepare(world, 16)
        published = await publish_forgery(world, world.rng.randbytes(600_000), {N - 1}, needed=K, total=N)
        await world.crash(holders(world, published)[N - 1].name)
        async with world.client("checker") as client:
            assert (await client.check(published.link)).good_shares == N - 1
            with pytest.raises(BadData, match="No holder is to blame"):
                await client.repair(published.link)
            assert (await client.check(published.link)).good_shares == N - 1
        assert sum(len(store_of(each).held(published.link.id)) for each in world.running()) == N - 1

    run_world(44, tmp_path, story)


def test_false_claims_of_shares_do_not_keep_repair_from_its_work(tmp_path: Path) -> None:
    """A host that says it keeps the lost shares, and cannot prove one, is not counted: they are made again, and it is
    asked to keep at most one like any other."""

    async def story(world: World) -> None:
        published, data = await prepare(world, 18)
        for machine in holders(world, published)[:4]:
            await world.crash(machine.name)
        claims = (*(SurveyRow(share, int(EPOCH_START + 1e7)) for share in range(4)), SurveyRow(200, 1))
        keepers = {machine.name for machine in holders(world, published)}
        liar = next(machine for machine in world.running() if machine.name not in keepers)

        async def claim(caller: Caller, request: Any, payload: Buffer) -> Reply:
            return Surveyed(0, pack_survey([claims]))

        handlers(liar)[Survey] = claim
        async with world.client("repairer") as client:
            repaired = await client.repair(published.link)
            assert repaired.complete
        assert len(store_of(liar).held(published.link.id)) <= 1
        kept = [store_of(machine).held(published.link.id) for machine in world.running()]
        shares = {held.share_number for each in kept for held in each}
        assert shares == set(range(12))
        assert await fetched(world, published, "reader") == data

    run_world(45, tmp_path, story)


# --- leases that ended, and our own list


def test_a_file_whose_lease_has_ended_is_renewed_before_it_is_repaired(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await prepare(world, 14)
        async with world.client("hasty") as client:
            published = await client.publish(chunks(bytes(9000)), needed=K, total=N, ttl_s=3600)
        await world.crash(holders(world, published)[0].name)
        await trio.sleep(2 * 3600)
        async with world.client("mender") as client:
            with pytest.raises(UsageError, match="shoal renew"):
                await client.repair(published.link)
            await client.renew(published.link)
            assert (await client.repair(published.link)).complete

    run_world(61, tmp_path, story)


def test_what_is_renewed_is_kept_longer_in_the_publishers_list_too(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _ = await prepare(world, 13)
        async with world.client("publisher") as client:
            (before,) = client.published()
            renewed = await client.renew(published.link, ttl_s=60 * 86400)
            (after,) = client.published()
        assert before.lease_end < after.lease_end == renewed.lease_until

    run_world(62, tmp_path, story)


def test_what_is_no_time_to_live_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.start("node-0")
        began = trio.current_time()
        async with world.client("alone") as client:
            for ttl_s in (59 * 60, 91 * 86400):
                with pytest.raises(UsageError, match="1h to 90d"):
                    await client.renew(Link(FileId(bytes(32)), LinkKind.PUBLIC), ttl_s)
            assert trio.current_time() == began

    run_world(63, tmp_path, story)


def test_a_deletion_holds_though_our_own_list_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ledger: Ledger, file_id: FileId, now: float) -> None:
        raise LocalError("Cannot use the list: disk full.")

    async def story(world: World) -> None:
        published, _ = await prepare(world, 13)
        monkeypatch.setattr(Ledger, "mark_deleted", fail)
        async with world.client("publisher") as client:
            assert (await client.delete(published.link)).complete

    run_world(64, tmp_path, story)
    assert "disk full" in caplog.text
