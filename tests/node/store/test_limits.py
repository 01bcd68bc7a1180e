"""Capacity, reserve, table and sources: refused with numbers, counted honestly."""

import random
from collections.abc import Callable

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.erasure import BLOCK_BYTES
from shoal.node.store import Limit, StoreFull
from shoal.node.store.accounts import Accounts
from shoal.node.store.intake import Intake
from shoal.node.store.limits import (
    MAX_UPLOADS_PER_SOURCE,
    OWN_SOURCE,
    Bounds,
    share_cost_bytes,
)

MB = 10**6
GB = 10**9
HOUR_S = 3600
FILE = b"f" * 16


def accounts(
    capacity: int = 50 * GB, reserve: int = 0, free: int = 1000 * GB, private: bool = False, database: int = 0
) -> Accounts:
    return Accounts(
        capacity_bytes=capacity,
        reserve_bytes=reserve,
        free_bytes=lambda: free,
        database_bytes=lambda: database,
        intake=Intake(),
        private=private,
    )


def uid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_used_bytes_are_the_real_bytes(place: Place, medium: Published, small: Published) -> None:
    store = place.open()
    for share in range(3):
        stores.put(store, medium, share)
    stores.put(store, small, 0, stores.upload_id(9))
    usage = store.usage()
    on_disk = sum(
        -(-place.disk.size(place.root / "shares" / folder / name) // 4096) * 4096
        for folder in place.disk.list_directory(place.root / "shares")
        for name in place.disk.list_directory(place.root / "shares" / folder)
    )
    assert usage.share_bytes == on_disk
    assert usage.database_bytes == place.disk.database_bytes(place.root / "shares.db") > 4096
    assert usage.used_bytes == usage.share_bytes + usage.upload_bytes + usage.database_bytes
    assert (usage.files, usage.shares, usage.uploads, usage.upload_bytes) == (2, 4, 0, 0)
    store.close()
    assert place.open().usage().share_bytes == on_disk


def test_capacity_is_refused_with_numbers(place: Place, medium: Published) -> None:
    store = place.open(capacity=2 * MB)
    stores.put(store, medium, 0)
    stores.put(store, medium, 1)
    with pytest.raises(StoreFull) as full:
        stores.send(store, medium, 2, stores.upload_id(3), bound=11 * BLOCK_BYTES)
    assert full.value.limit is Limit.CAPACITY
    assert full.value.needed_bytes > 11 * BLOCK_BYTES > full.value.available_bytes
    assert full.value.available_bytes == store.available_bytes(stores.NOW)
    with pytest.raises(StoreFull):  # unknown size: refused when the room is used up
        stores.send(store, medium, 2, stores.upload_id(4))
    assert store.usage().used_bytes <= 2 * MB


def test_lowered_capacity_stops_accepting_and_drops_nothing(place: Place, medium: Published) -> None:
    store = place.open()
    stores.put(store, medium, 0)
    store.close()
    store = place.open(capacity=MB // 2)
    assert store.available_bytes(stores.NOW) == 0
    with pytest.raises(StoreFull):
        store.begin(stores.upload_id(9), stores.SOURCE, 1000, stores.NOW)
    stores.check_share(store, medium, 0)


def test_free_disk_is_left_to_others(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    place.sim.total_bytes = 3 * MB
    store = place.open(reserve=2 * MB)
    stores.put(store, medium, 0)
    with pytest.raises(StoreFull) as full:
        stores.send(store, medium, 1, stores.upload_id(2), bound=11 * BLOCK_BYTES)
    assert full.value.limit is Limit.DISK
    assert place.disk.free_bytes(place.root) >= 2 * MB


def test_another_program_fills_the_disk_during_an_upload(sim: Callable[[], Place], medium: Published) -> None:
    place = sim()
    store = place.open(reserve=MB)
    store.begin(stores.upload_id(1), stores.SOURCE, 11 * BLOCK_BYTES, stores.NOW)
    place.sim.total_bytes = MB
    with pytest.raises(StoreFull) as full:
        store.write(stores.upload_id(1), 0, medium.blocks[0][:1], medium.data_leaves[:1], stores.NOW)
    assert full.value.limit is Limit.DISK


def test_the_estimate_is_never_too_small(place: Place) -> None:
    for count, last in [(1, 100), (1, BLOCK_BYTES), (2, 100), (33, BLOCK_BYTES), (64, 5000)]:
        file = stores.publish(count, last)
        store = place.open()
        before = store.usage()
        stores.put(store, file, 0, random.randbytes(16))
        after = store.usage()
        assert after.share_bytes - before.share_bytes <= share_cost_bytes(file.manifest.layout.share_bytes)


def test_an_offer_takes_no_room_and_bytes_take_what_they_need() -> None:
    book = accounts(capacity=10 * GB, private=True)
    book.admit(uid(1), b"", 900 * MB, 0.0)
    assert book.available_bytes(0.0) == 10 * GB
    book.receive(uid(1), 100 * MB, 0.0)
    assert book.available_bytes(0.0) == 10 * GB - share_cost_bytes(100 * MB)
    book.close(uid(1))
    assert book.available_bytes(0.0) == 10 * GB


def test_an_offer_that_cannot_fit_is_refused_before_a_byte_is_sent() -> None:
    book = accounts(capacity=10 * GB, private=True)
    with pytest.raises(StoreFull) as full:
        book.admit(uid(1), b"a", 11 * GB, 0.0)
    assert full.value.limit is Limit.CAPACITY
    book.admit(uid(1), b"a", 6 * GB, 0.0)
    book.receive(uid(1), 3 * GB, 0.0)
    with pytest.raises(StoreFull):  # the other one moves: it will come to as much again
        book.admit(uid(2), b"b", 5 * GB, 20.0)
    book.admit(uid(2), b"b", 5 * GB, 3000.0)  # it has stopped


def test_a_source_takes_a_tenth_of_the_free_space_a_day() -> None:
    book = accounts(capacity=10 * GB)
    with pytest.raises(StoreFull) as full:
        book.admit(uid(1), b"a", 1001 * MB, 0.0)
    assert full.value.limit is Limit.SOURCE
    book.admit(uid(1), b"a", 990 * MB, 0.0)
    for _ in range(99):
        book.receive(uid(1), 10 * MB, 0.0)
    with pytest.raises(StoreFull):
        book.admit(uid(2), b"a", 20 * MB, HOUR_S)
    book.admit(uid(3), b"b", 20 * MB, HOUR_S)
    book.admit(uid(2), b"a", 20 * MB, 24 * HOUR_S)


def test_a_source_of_unknown_sizes_takes_no_more() -> None:
    book = accounts(capacity=10 * GB)
    for number in range(4):
        book.admit(uid(number), b"a", 0, 0.0)
        book.receive(uid(number), 240 * MB, 0.0)
    with pytest.raises(StoreFull) as full:
        book.receive(uid(0), 60 * MB, 0.0)
    assert full.value.limit is Limit.SOURCE


def test_offers_use_up_nothing_of_a_sources_day() -> None:
    book = accounts(capacity=10 * GB)
    for number in range(MAX_UPLOADS_PER_SOURCE):
        book.admit(uid(number), b"a", 900 * MB, 0.0)
    for number in range(MAX_UPLOADS_PER_SOURCE):
        book.close(uid(number))
    book.admit(uid(99), b"a", 900 * MB, 0.0)


def test_bytes_that_could_not_be_written_use_up_nothing_either() -> None:
    book = accounts(capacity=10 * GB)
    book.admit(uid(1), b"a", 900 * MB, 0.0)
    for _ in range(50):
        book.receive(uid(1), 100 * MB, 0.0)
        book.give_back(uid(1), 100 * MB, 0.0)
    book.receive(uid(1), 900 * MB, 0.0)


def test_the_source_limit_is_lifted_in_a_private_network() -> None:
    book = accounts(capacity=10 * GB, private=True)
    book.admit(uid(1), b"a", 5 * GB, 0.0)


def test_the_source_limit_survives_a_restart(place: Place, medium: Published) -> None:
    store = place.open(capacity=20 * MB, private=False)
    stores.put(store, medium, 0)
    stores.put(store, medium, 1)
    for again in (False, True):
        if again:
            store.close()
            store = place.open(capacity=20 * MB, private=False)
        with pytest.raises(StoreFull) as full:
            store.begin(stores.upload_id(9), stores.SOURCE, 11 * BLOCK_BYTES, stores.NOW)
        assert full.value.limit is Limit.SOURCE


def test_a_share_of_our_own_that_is_made_again_has_its_room_set_aside() -> None:
    """No stranger's uploads stand in its way, nor is it one source's share of the day."""
    book = accounts(capacity=10 * GB)
    book.admit(uid(100), OWN_SOURCE, 6 * GB, 0.0)
    assert book.available_bytes(0.0) == 10 * GB - share_cost_bytes(6 * GB) == 10 * GB - book.usage().promised_bytes
    with pytest.raises(StoreFull) as full:
        book.admit(uid(101), OWN_SOURCE, 6 * GB, 0.0)
    assert full.value.limit is Limit.CAPACITY
    book.receive(uid(100), 2 * GB, 0.0)
    assert book.available_bytes(0.0) == 10 * GB - share_cost_bytes(6 * GB)
    book.close(uid(100))
    assert OWN_SOURCE not in {source for source, _, _ in book.intake_changes()}


def test_what_was_made_again_only_in_part_is_gone_after_a_restart(place: Place, medium: Published) -> None:
    """It goes by a number that nobody else knows, so nobody could go on with it."""
    store = place.open()
    for source, number in ((OWN_SOURCE, 1), (stores.SOURCE, 2)):
        store.begin(stores.upload_id(number), source, medium.manifest.layout.share_bytes, stores.NOW)
        store.write(stores.upload_id(number), 0, medium.blocks[0][:1], medium.data_leaves[:1], stores.NOW)
        store.sync(stores.upload_id(number), stores.NOW)
    store.close()
    store = place.open()
    assert store.usage().uploads == 1
    assert store.durable_blocks(stores.upload_id(2)) == 1
    store.close()


def test_one_source_opens_a_bounded_number_of_uploads() -> None:
    book = accounts()
    for number in range(MAX_UPLOADS_PER_SOURCE):
        book.admit(uid(number), b"a", 0, 0.0)
    with pytest.raises(StoreFull):
        book.admit(uid(999), b"a", 0, 0.0)
    book.admit(uid(999), b"b", 0, 0.0)


def test_a_wrong_clock_does_not_block_a_source_for_ever() -> None:
    intake = Intake()
    intake.charge(b"a", 10 * GB, 400 * 86400.0)  # the clock was a year ahead
    intake.forget(0.0)
    assert intake.taken(b"a", 0.0) == 0


def test_small_shares_in_memory_are_bounded(sim: Callable[[], Place]) -> None:
    store = sim().open(bounds=Bounds(memory_blocks_bytes=5000))
    files = [stores.publish(1, 1000 + seed) for seed in range(12)]
    for number, file in enumerate(files):
        stores.send(store, file, 0, stores.upload_id(number))
    held = [upload.small for upload in store.uploads.by_id.values() if upload.small]
    assert sum(map(len, held)) <= 5000
    for number, file in enumerate(files):
        store.commit(stores.upload_id(number), 0, file.encoded, stores.LEASE_END, stores.NOW)
        stores.check_share(store, file, 0)


def test_long_uploads_sync_by_themselves_and_open_files_are_bounded(
    sim: Callable[[], Place], medium: Published
) -> None:
    store = sim().open(bounds=Bounds(auto_sync_blocks=8, open_upload_files=3))
    for number in range(6):
        stores.send(store, medium, 0, stores.upload_id(number))
        assert store.durable_blocks(stores.upload_id(number)) == (8 if number < 3 else 11)
    assert sum(upload.file is not None for upload in store.uploads.by_id.values()) == 3
    store.commit(stores.upload_id(0), 0, medium.encoded, stores.LEASE_END, stores.NOW)
    stores.check_share(store, medium, 0)
