"""A share is dropped when three conditions hold, each alone and two together are not enough; then its space is free."""

import random
from collections.abc import Callable

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import GRACE_S, HeldShare, NotHeld, ShareDamaged, ShareStore, UnknownUpload
from shoal.node.store.limits import Bounds
from shoal.simulation.disk import PowerCut

DAY_S = 86400
YEAR_S = 365 * DAY_S


@pytest.fixture
def held(store: ShareStore, small: Published) -> ShareStore:
    """A store with one share; its lease ends at stores.LEASE_END."""
    stores.put(store, small, 0)
    return store


def test_all_three_conditions(held: ShareStore, small: Published) -> None:
    late = stores.LEASE_END + GRACE_S + 1
    assert held.drop_expired(stores.LEASE_END + 1, True) == []  # first seen expired
    held.note_uptime(GRACE_S, 0.0)
    assert held.health().expired == 1
    assert held.drop_expired(stores.LEASE_END + GRACE_S, True) == []  # the wall clock: not past it yet
    assert held.drop_expired(late, False) == []  # the clock does not agree
    assert held.held(small.file_id) == [HeldShare(0, stores.LEASE_END)]
    assert held.drop_expired(late, True) == [(small.file_id, 0)]
    assert (held.held(small.file_id), held.files(), held.damaged()) == ([], [], [])
    assert held.manifest(small.file_id) is None
    with pytest.raises(NotHeld):
        held.read(small.file_id, 0, 0, 1, True)
    with pytest.raises(UnknownUpload):
        held.commit(stores.upload_id(1), 0, small.encoded, stores.LEASE_END, stores.NOW)
    assert held.drop_expired(late, True) == []
    stores.put(held, small, 0)  # and may come back as any share does
    stores.check_share(held, small, 0)


def test_uptime_counts_from_when_it_was_first_seen(held: ShareStore) -> None:
    held.note_uptime(YEAR_S, 0.0)
    assert held.drop_expired(stores.NOW + YEAR_S, True) == []
    held.note_uptime(GRACE_S - 1, 0.0)
    assert held.drop_expired(stores.NOW + YEAR_S, True) == []
    held.note_uptime(1, 0.0)
    assert len(held.drop_expired(stores.NOW + YEAR_S, True)) == 1


def test_a_long_absence_alone_drops_nothing(place: Place, medium: Published) -> None:
    """Switched off for a year, on for an hour, off again: nothing is dropped before 14 days of being up."""
    stores.put(place.open(), medium, 0)
    for turn in range(50):
        place.opened[-1].close()
        now = stores.NOW + (1 + turn) * YEAR_S
        store = place.open(now=now)
        store.note_uptime(3600, 0.0)
        assert store.drop_expired(now, True) == []
    assert store.note_uptime(0, 0.0) == 50 * 3600


def test_the_store_knows_when_its_node_was_last_up(place: Place) -> None:
    store = place.open(now=stores.NOW)
    assert store.last_up() == 0
    store.note_uptime(3600, stores.NOW + 3600.5)
    store.close()
    assert place.open(now=stores.NOW + 7200).last_up() == stores.NOW + 3600.5


def test_a_clock_far_ahead_starts_nothing_while_it_disagrees(held: ShareStore) -> None:
    """Ten years ahead for a month; then right, and the node away over the lease end: the grace is not over."""
    for _ in range(30):
        held.note_uptime(DAY_S, 0.0)
        assert held.drop_expired(stores.NOW + 10 * YEAR_S, False) == []
    assert held.health().expired == 0
    late = stores.LEASE_END + GRACE_S + 5
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S - 1, 0.0)
    assert held.drop_expired(late, True) == []


@pytest.mark.parametrize("agrees", [True, False])
def test_a_clock_that_goes_back_starts_the_grace_anew(held: ShareStore, agrees: bool) -> None:
    late = stores.LEASE_END + GRACE_S + 1
    held.drop_expired(late, True)
    held.note_uptime(GRACE_S, 0.0)
    assert held.drop_expired(stores.NOW, agrees) == []  # before the lease end: that is forgotten
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S, 0.0)
    assert len(held.drop_expired(late, True)) == 1


def test_a_renewal_starts_the_grace_anew(held: ShareStore, small: Published) -> None:
    late = stores.NOW + YEAR_S
    held.drop_expired(late, True)
    held.note_uptime(GRACE_S, 0.0)
    assert held.renew(small.file_id, 0, stores.LEASE_END + 1) == stores.LEASE_END + 1
    assert held.drop_expired(late, True) == []
    held.note_uptime(GRACE_S, 0.0)
    held.renew(small.file_id, 0, stores.LEASE_END)  # shortens nothing, changes nothing
    assert len(held.drop_expired(late, True)) == 1


def test_a_damaged_share_stored_anew_keeps_its_longer_lease(place: Place, medium: Published) -> None:
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 5)
    with pytest.raises(ShareDamaged):
        store.read(medium.file_id, 0, 0, 1, False)
    with pytest.raises(NotHeld):
        store.renew(medium.file_id, 0, stores.LEASE_END + 1)
    stores.send(store, medium, 0, stores.upload_id(2))
    assert store.commit(stores.upload_id(2), 0, medium.encoded, int(stores.NOW) + 1, stores.NOW) == stores.LEASE_END
    assert store.held(medium.file_id) == [HeldShare(0, stores.LEASE_END)]


def test_a_share_stored_anew_has_its_grace_anew(place: Place, medium: Published) -> None:
    store, late = place.open(), stores.NOW + YEAR_S
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 5)
    store.scrub(stores.NOW, 1 << 30)
    store.drop_expired(late, True)
    store.note_uptime(GRACE_S, 0.0)
    stores.put(store, medium, 0, stores.upload_id(2))  # its lease is over as soon as it comes
    assert store.drop_expired(late, True) == []
    store.note_uptime(GRACE_S, 0.0)
    assert store.drop_expired(late, True) == [(medium.file_id, 0)]


def test_only_what_is_due_goes_and_its_manifest_with_the_last_share(place: Place, medium: Published) -> None:
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)
    store.renew(medium.file_id, 1, stores.LEASE_END + YEAR_S)
    assert stores.expire(store, stores.LEASE_END + GRACE_S + 1) == [(medium.file_id, 0), (medium.file_id, 2)]
    stores.check_share(store, medium, 1)
    (page,) = store.files_page()
    assert (page.file_id, page.shares) == (medium.file_id, (HeldShare(1, stores.LEASE_END + YEAR_S),))
    assert store.health().soonest_lease_end == stores.LEASE_END + YEAR_S
    assert stores.expire(store, stores.LEASE_END + 2 * YEAR_S) == [(medium.file_id, 1)]
    assert store.manifest(medium.file_id) is None
    assert store.health().soonest_lease_end is None


def test_lost_and_damaged_shares_are_dropped_by_the_same_conditions(place: Place, medium: Published) -> None:
    """The damaged copy stays in quarantine for its 30 days of uptime."""
    store = place.open()
    stores.put(store, medium, 0)
    stores.flip(place, place.share_path(medium, 0), 5)
    assert store.scrub(stores.NOW, 1 << 30).damaged == ((medium.file_id, 0),)
    assert stores.expire(store, stores.NOW + YEAR_S) == [(medium.file_id, 0)]
    assert store.damaged() == []
    assert len(place.names()) == 1
    assert store.usage().share_bytes == stores.used_on_disk(place) > 0
    store.note_uptime(16 * DAY_S, 0.0)
    store.drop_expired(stores.NOW, False)
    assert place.names() == []
    assert store.usage().share_bytes == 0


def test_dropping_frees_the_space(place: Place, medium: Published) -> None:
    """File shares at once; small ones, inside the database, when its pages are given back."""
    store = place.open()
    empty = store.usage()
    for share in range(3):
        stores.put(store, medium, share)
    for seed in range(200):
        stores.put(store, stores.publish(1, 30_000, seed=seed), 0, stores.upload_id(100 + seed))
    full = store.usage()
    assert full.database_bytes > 200 * 30_000
    assert len(stores.expire(store, stores.NOW + YEAR_S)) == 203
    after = store.usage()
    assert after.share_bytes == stores.used_on_disk(place) == 0
    assert after.database_bytes < empty.database_bytes + (2 << 20)
    assert after.available_bytes > full.available_bytes + 200 * 30_000
    assert (after.files, after.shares) == (0, 0)
    store.close()
    assert place.open().usage().used_bytes <= after.used_bytes


def test_at_most_a_thousand_at_once_the_longest_expired_first(place: Place) -> None:
    store = place.open(bounds=Bounds(drops=2))
    for seed in range(5):
        file = stores.publish(1, 100, seed=seed)
        stores.put(store, file, 0, stores.upload_id(seed))
        store.renew(file.file_id, 0, stores.LEASE_END + 50 - seed)
    dropped = stores.expire(store, stores.NOW + YEAR_S)
    assert dropped == [(stores.publish(1, 100, seed=seed).file_id, 0) for seed in (4, 3)]
    assert [len(store.drop_expired(stores.NOW + YEAR_S, True)) for _ in range(3)] == [2, 1, 0]


def test_uptime_is_no_negative_and_no_endless_number(store: ShareStore) -> None:
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="uptime"):
            store.note_uptime(seconds, 0.0)
    assert store.note_uptime(0.5, 0.0) + store.note_uptime(0.5, 0.0) == 1.5


def test_the_row_goes_before_the_file(place: Place, medium: Published) -> None:
    recorded = stores.Recorded(place.disk)
    store = place.open(disk=recorded)
    stores.put(store, medium, 0)
    store.drop_expired(stores.NOW + YEAR_S, True)
    store.note_uptime(GRACE_S, 0.0)
    recorded.log.clear()
    assert len(store.drop_expired(stores.NOW + YEAR_S, True)) == 1
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
def test_a_file_that_cannot_be_removed_stays_counted_and_never_comes_back(
    sim: Callable[[], Place], medium: Published, step: str
) -> None:
    place = sim()
    store = place.open()
    stores.put(store, medium, 0)
    store.drop_expired(stores.NOW + YEAR_S, True)
    store.note_uptime(GRACE_S, 0.0)
    used = store.usage().share_bytes
    place.sim.fail(step)
    assert store.drop_expired(stores.NOW + YEAR_S, True) == [(medium.file_id, 0)]
    assert store.usage().share_bytes == used
    store.close()
    place.sim.fail("unlink")  # and again at the next start
    store = place.open()
    assert store.held(medium.file_id) == []
    assert store.reconciled.indexed == 0
    assert store.usage().share_bytes == stores.used_on_disk(place)
    store.close()
    store = place.open()
    assert place.names() == []
    assert store.usage().share_bytes == 0


@pytest.mark.parametrize("shape", ["small", "medium"])
def test_a_power_cut_before_every_operation_of_a_drop(
    sim: Callable[[], Place], request: pytest.FixtureRequest, shape: str
) -> None:
    """Held as before, or gone; in the end gone from the disk, too, and never back."""
    file, keeper = request.getfixturevalue(shape), stores.publish(3, 99, seed=5)
    for seed in range(3):
        number, finished = 0, False
        while not finished:
            place = sim()
            store = place.open()
            stores.put(store, file, 0)
            stores.put(store, file, 1)
            stores.put(store, keeper, 0, stores.upload_id(9))
            store.renew(keeper.file_id, 0, stores.LEASE_END + YEAR_S)
            store.drop_expired(stores.LEASE_END + GRACE_S + 1, True)
            store.note_uptime(GRACE_S, 0.0)
            place.sim.crash_at(number)
            try:
                assert len(store.drop_expired(stores.LEASE_END + GRACE_S + 1, True)) == 2
                finished = True
            except PowerCut:
                pass
            place.sim.crash(random.Random(f"{seed} {number}"))
            store = place.open()
            stores.check_share(store, keeper, 0)
            for held in store.held(file.file_id):
                stores.check_share(store, file, held.share_number)
            assert not (finished and store.held(file.file_id))
            assert store.reconciled.indexed == store.reconciled.lost == store.reconciled.unreadable == 0
            store.drop_expired(stores.LEASE_END + GRACE_S + 1, True)
            assert place.names() == [f"{keeper.file_id.hex()}.0"]
            assert store.usage().share_bytes == stores.used_on_disk(place)
            number += 1
        assert number > 4
