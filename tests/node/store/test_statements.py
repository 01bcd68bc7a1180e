"""Holder statements: kept per share number, bounded, and nobody is pushed out."""

import pytest

from kit import stores
from kit.stores import Place, Published
from shoal.node.store import KeptStatement, ShareStore


def statement(share: int, holder: int, expires_in: int = 100, size: int = 200) -> KeptStatement:
    return KeptStatement(
        share, bytes([holder]) * 32, int(stores.NOW) + expires_in, stores.LEASE_END, bytes([holder]) * size
    )


def test_kept_over_a_restart(place: Place, small: Published) -> None:
    store = place.open()
    stores.put(store, small, 0)
    given = [statement(share, holder) for share in range(3) for holder in range(2)]
    assert store.add_statements(small.file_id, given, stores.NOW) == 6
    assert store.add_statements(small.file_id, given, stores.NOW) == 0
    store.close()
    assert place.open().statements(small.file_id) == given


def test_only_about_files_held_here(store: ShareStore, small: Published) -> None:
    assert store.add_statements(small.file_id, [statement(0, 1)], stores.NOW) == 0
    assert store.statements(small.file_id) == []


def test_at_most_four_holders_and_the_first_ones_stay(store: ShareStore, small: Published) -> None:
    stores.put(store, small, 0)
    store.add_statements(small.file_id, [statement(0, holder) for holder in range(4)], stores.NOW)
    assert store.add_statements(small.file_id, [statement(0, 9, 10_000)], stores.NOW) == 0
    newer = statement(0, 2, 500)
    assert store.add_statements(small.file_id, [newer], stores.NOW) == 1
    assert store.add_statements(small.file_id, [statement(0, 2)], stores.NOW) == 0, "older ones do not come back"
    assert newer in store.statements(small.file_id)
    assert store.add_statements(small.file_id, [statement(1, 9)], stores.NOW) == 1


def test_expired_ones_make_room(store: ShareStore, small: Published) -> None:
    stores.put(store, small, 0)
    store.add_statements(small.file_id, [statement(0, holder) for holder in range(4)], stores.NOW)
    late = stores.NOW + 200
    assert store.add_statements(small.file_id, [statement(0, 9, 300)], late) == 1
    assert [kept.holder_id[0] for kept in store.statements(small.file_id)] == [9]


@pytest.mark.parametrize("bad", [{"expires_in": 0}, {"size": 513}])
def test_expired_or_long_ones_are_not_taken(store: ShareStore, small: Published, bad: dict[str, int]) -> None:
    stores.put(store, small, 0)
    assert store.add_statements(small.file_id, [statement(0, 1, **bad)], stores.NOW) == 0
