"""A share is dropped when three conditions hold, each alone and two together are not enough; then its space is free."""

import random

import pytest

from shoal.node.store import GRACE_S, HeldShare, NotHeld, ShareDamaged, UnknownUpload
from shoal.simulation.disk import PowerCut

DAY_S = 86400
YEAR_S = 365 * DAY_S


@pytest.fixture
def held(store, kit, small):
    """A store with one share; its lease ends at kit.LEASE_END."""
    kit.put(store, small, 0)
    return store


def test_all_three_conditions(held, kit, small):
    late = kit.LEASE_END + GRACE_S + 1
    assert held.drop_expired(kit.LEASE_END + 1, True) == []  # first seen expired
    held.note_uptime(GRACE_S, 0.0)
    assert held.health().expired == 1
    assert held.drop_expired(kit.LEASE_END + GRACE_S, True) == []  # the wall clock: not past it yet
    assert held.drop_expired(late, False) == []  # the clock does not agree
    assert held.held(small.file_id) == [HeldShare(0, kit.LEASE_END)]
    assert held.drop_expired(late, True) == [(small.file_id, 0)]
    assert held.held(small.file_id) == held.files() == held.damaged() == []
    assert held.manifest(small.file_id) is None
    with pytest.raises(NotHeld):
        held.read(small.file_id, 0, 0, 1, True)
    with pytest.raises(UnknownUpload):
        held.commit(kit.upload_id(1), 0, small.encoded, kit.LEASE_END, kit.NOW)
    assert held.drop_expired(late, True) == []
    kit.put(held, small, 0)  # and may come back as any share does
    kit.check_share(held, small, 0)


def test_uptime_counts_from_when_it_was_first_seen(held, kit):
    held.note_uptime(YEAR_S, 0.0)
    assert held.drop_expired(kit.NOW + YEAR_S, True) == []
    held.note_uptime(GRACE_S - 1, 0.0)
    assert held.drop_expired(kit.NOW + YEAR_S, True) == []
    held.note_uptime(1, 0.0)
    assert len(held.drop_expired(kit.NOW + YEAR_S, True)) == 1


def test_a_long_absence_alone_drops_nothing(place, kit, medium):
    """Switched off for a year, on for an hour, off again: nothing is dropped before 14 days of being up."""
    kit.put(place.open(), medium, 0)
    for turn in range(50):
        place.opened[-1].close()
        now = kit.NOW + (1 + turn) * YEAR_S
        store = place.open(now=now)
        store.note_uptime(3600, 0.0)
        assert store.drop_expired(now, True) == []
    assert store.note_uptime(0, 0.0) == 50 * 3600


def test_the_store_knows_when_its_node_was_last_up(place, kit):
    store = place.open(now=kit.NOW)
    assert store.last_up() == 0
    store.note_uptime(3600, kit.NOW + 3600.5)
    store.close()
    assert place.open(now=kit.NOW + 7200).last_up() == kit.NOW + 3600.5


def test_a_clock_far_ahead_starts_nothing_while_it_disagrees(held, kit):
    """Ten years ahead for a month; then right, and the node away over the lease end: the grace is not over."""
    for _ in range(30):
        held.note_uptime(DAY_S, 0.0)
        assert held.drop_expired(kit.NOW + 10 * YEAR_S, False) == []
    assert held.health().expired == 0
    late = kit.LEASE_END + GRACE_S + 5
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S - 1, 0.0)
    assert held.drop_expired(late, True) == []


@pytest.mark.parametrize("agrees", [True, False])
def test_a_clock_that_goes_back_starts_the_grace_anew(held, kit, agrees):
    late = kit.LEASE_END + GRACE_S + 1
    held.drop_expired(late, True)
    held.note_uptime(GRACE_S, 0.0)
    assert held.drop_expired(kit.NOW, agrees) == []  # before the lease end: that is forgotten
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S, 0.0)
    assert len(held.drop_expired(late, True)) == 1


def test_a_renewal_starts_the_grace_anew(held, kit, small):
    late = kit.NOW + YEAR_S
    held.drop_expired(late, True)
    held.note_uptime(GRACE_S, 0.0)
    assert held.renew(small.file_id, 0, kit.LEASE_END + 1) == kit.LEASE_END + 1
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S, 0.0)
    held.renew(small.file_id, 0, kit.LEASE_END)  # shortens nothing, changes nothing
    assert len(held.drop_expired(late, True)) == 1


def test_a_damaged_share_stored_anew_keeps_its_longer_lease(place, kit, medium):
    store = place.open()
    kit.put(store, medium, 0)
    kit.flip(place, place.share_path(medium, 0), 5)
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, False)
    with pytest.raises(NotHeld):
        store.renew(medium.file_id, 0, kit.LEASE_END + 1)
    kit.send(store, medium, 0, kit.upload_id(2))
    assert store.commit(kit.upload_id(2), 0, medium.encoded, int(kit.NOW) + 1, kit.NOW) == kit.LEASE_END
    assert store.held(medium.file_id) == [HeldShare(0, kit.LEASE_END)]


def test_a_share_stored_anew_has_its_grace_anew(place, kit, medium):
    store, late = place.open(), kit.NOW + YEAR_S
    kit.put(store, medium, 0)
    kit.flip(place, place.share_path(medium, 0), 5)
    store.scrub(kit.NOW, 1 << 30)
    store.drop_expired(late, True)
    store.note_uptime(GRACE_S, 0.0)
    kit.put(store, medium, 0, kit.upload_id(2))  # its lease is over as soon as it comes
    assert store.drop_expired(late, True) == []
    store.note_uptime(GRACE_S, 0.0)
    assert store.drop_expired(late, True) == [(medium.file_id, 0)]


def test_only_what_is_due_goes_and_its_manifest_with_the_last_share(place, kit, medium):
    store = place.open()
    for share in range(3):
        kit.put(store, medium, share)
    store.renew(medium.file_id, 1, kit.LEASE_END + YEAR_S)
    assert kit.expire(store, kit.LEASE_END + GRACE_S + 1) == [(medium.file_id, 0), (medium.file_id, 2)]
    kit.check_share(store, medium, 1)
    (page,) = store.files_page()
    assert (page.file_id, page.shares) == (medium.file_id, (HeldShare(1, kit.LEASE_END + YEAR_S),))
    assert store.health().soonest_lease_end == kit.LEASE_END + YEAR_S
    assert kit.expire(store, kit.LEASE_END + 2 * YEAR_S) == [(medium.file_id, 1)]
    assert store.manifest(medium.file_id) is None
    assert store.health().soonest_lease_end is None


def test_lost_and_damaged_shares_are_dropped_by_the_same_conditions(place, kit, medium):
    """The damaged copy stays in quarantine for its 30 days of uptime."""
    store = place.open()
    kit.put(store, medium, 0)
    kit.flip(place, place.share_path(medium, 0), 5)
    assert store.scrub(kit.NOW, 1 << 30).damaged == ((medium.file_id, 0),)
    assert kit.expire(store, kit.NOW + YEAR_S) == [(medium.file_id, 0)]
    assert store.damaged() == []
    assert len(place.names()) == 1
    assert store.usage().share_bytes == kit.used_on_disk(place) > 0
    store.note_uptime(16 * DAY_S, 0.0)
    store.drop_expired(kit.NOW, False)
    assert place.names() == []
    assert store.usage().share_bytes == 0


def test_dropping_frees_the_space(place, kit, medium):
    """File shares at once; small ones, inside the database, when its pages are given back."""
    store = place.open()
    empty = store.usage()
    for share in range(3):
        kit.put(store, medium, share)
    for seed in range(200):
        kit.put(store, kit.publish(1, 30_000, seed=seed), 0, kit.upload_id(100 + seed))
    full = store.usage()
    assert full.database_bytes > 200 * 30_000
    assert len(kit.expire(store, kit.NOW + YEAR_S)) == 203
    after = store.usage()
    assert after.share_bytes == kit.used_on_disk(place) == 0
    assert after.database_bytes < empty.database_bytes + (2 << 20)
    assert after.available_bytes > full.available_bytes + 200 * 30_000
    assert (after.files, after.shares) == (0, 0)
    store.close()
    assert place.open().usage().used_bytes <= after.used_bytes


def test_at_most_a_thousand_at_once_the_longest_expired_first(store, kit, monkeypatch):
    monkeypatch.setattr("shoal.node.store.leases.MAX_DROPS", 2)
    for seed in range(5):
        file = kit.publish(1, 100, seed=seed)
        kit.put(store, file, 0, kit.upload_id(seed))
        store.renew(file.file_id, 0, kit.LEASE_END + 50 - seed)
    dropped = kit.expire(store, kit.NOW + YEAR_S)
    assert dropped == [(kit.publish(1, 100, seed=seed).file_id, 0) for seed in (4, 3)]
    assert [len(store.drop_expired(kit.NOW + YEAR_S, True)) for _ in range(3)] == [2, 1, 0]


def test_uptime_is_no_negative_and_no_endless_number(store):
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="uptime"):
            store.note_uptime(seconds, 0.0)
    assert store.note_uptime(0.5, 0.0) + store.note_uptime(0.5, 0.0) == 1.5


def test_the_row_goes_before_the_file(place, kit, medium):
    recorded = kit.Recorded(place.disk)
    store = place.open(disk=recorded)
    kit.put(store, medium, 0)
    store.drop_expired(kit.NOW + YEAR_S, True)
    store.note_uptime(GRACE_S, 0.0)
    recorded.log.clear()
    assert len(store.drop_expired(kit.NOW + YEAR_S, True)) == 1
    steps = [operation for operation, _ in recorded.log]
    row = steps.index("DELETE FROM shares")
    assert steps[row:] == [
        "DELETE FROM shares",
        "INSERT OR IGNORE INTO garbage VALUES",
        "COMMIT",
        "unlink",
        "fsync_directory",
        "COMMIT",
    ]


@pytest.mark.parametrize("step", ["unlink", "fsync_directory"])
def test_a_file_that_cannot_be_removed_stays_counted_and_never_comes_back(sim, kit, medium, step):
    place = sim()
    store = place.open()
    kit.put(store, medium, 0)
    store.drop_expired(kit.NOW + YEAR_S, True)
    store.note_uptime(GRACE_S, 0.0)
    used = store.usage().share_bytes
    place.disk.fail(step)
    assert store.drop_expired(kit.NOW + YEAR_S, True) == [(medium.file_id, 0)]
    assert store.usage().share_bytes == used
    store.close()
    place.disk.fail("unlink")  # and again at the next start
    store = place.open()
    assert store.held(medium.file_id) == []
    assert store.reconciled.indexed == 0
    assert store.usage().share_bytes == kit.used_on_disk(place)
    store.close()
    store = place.open()
    assert place.names() == []
    assert store.usage().share_bytes == 0


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_power_cut_before_every_operation_of_a_drop(sim, kit, request, shape):
    """Held as before, or gone; in the end gone from the disk, too, and never back."""
    file, keeper = request.getfixturevalue(shape), kit.publish(3, 99, seed=5)
    for seed in range(3):
        number, finished = 0, False
        while not finished:
            place = sim()
            store = place.open()
            kit.put(store, file, 0)
            kit.put(store, file, 1)
            kit.put(store, keeper, 0, kit.upload_id(9))
            store.renew(keeper.file_id, 0, kit.LEASE_END + YEAR_S)
            store.drop_expired(kit.LEASE_END + GRACE_S + 1, True)
            store.note_uptime(GRACE_S, 0.0)
            place.disk.crash_at(number)
            try:
                assert len(store.drop_expired(kit.LEASE_END + GRACE_S + 1, True)) == 2
                finished = True
            except PowerCut:
                pass
            place.disk.crash(random.Random(f"{seed} {number}"))
            store = place.open()
            kit.check_share(store, keeper, 0)
            for held in store.held(file.file_id):
                kit.check_share(store, file, held.share_number)
            assert not (finished and store.held(file.file_id))
            assert store.reconciled.indexed == store.reconciled.lost == store.reconciled.unreadable == 0
            store.drop_expired(kit.LEASE_END + GRACE_S + 1, True)
            assert place.names() == [f"{keeper.file_id.hex()}.0"]
            assert store.usage().share_bytes == kit.used_on_disk(place)
            number += 1
        assert number > 4
