"""The contact cache: a shortcut that must never stop a start."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NodeId
from shoal.node.home.contacts import MAX_CACHE_BYTES, MAX_CONTACTS, ContactCache

ID = "00" * 32


def contact(number: int) -> Contact:
    host = f"198.51.{number // 250}.{number % 250 + 1}" if number % 2 else f"2001:db8::{number + 1:x}"
    return Contact(NodeId(number.to_bytes(32, "big")), Address.of(host, 4750))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "contacts.json"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contacts") / "contacts.json"


def test_what_is_saved_is_loaded(path: Path) -> None:
    known = [contact(number) for number in range(50)]
    ContactCache(path).save(known)
    assert ContactCache(path).load() == known
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_many_are_cut_and_still_fit(path: Path) -> None:
    ContactCache(path).save([contact(number) for number in range(10 * MAX_CONTACTS)])
    assert ContactCache(path).load() == [contact(number) for number in range(MAX_CONTACTS)]
    assert path.stat().st_size < MAX_CACHE_BYTES


def test_nothing_never_replaces_something(path: Path) -> None:
    ContactCache(path).save([])
    assert not path.exists()
    ContactCache(path).save([contact(1)])
    ContactCache(path).save([])
    assert ContactCache(path).load() == [contact(1)]


@pytest.mark.parametrize(("known", "is_written"), [(range(100), False), (range(30, 130), True), (range(45), True)])
def test_it_is_written_again_only_where_it_has_aged(path: Path, known: range, is_written: bool) -> None:
    ContactCache(path).save([contact(number) for number in range(100)])
    cache = ContactCache(path)
    cache.load()
    before = path.read_bytes()
    cache.save([contact(number) for number in reversed(known)])
    assert (path.read_bytes() != before) is is_written


def test_one_that_was_removed_is_written_again(path: Path) -> None:
    cache = ContactCache(path)
    cache.save([contact(1)])
    path.unlink()
    cache.save([contact(1)])
    assert cache.load() == [contact(1)]


def test_a_disk_that_fails_costs_only_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ContactCache(tmp_path / "file" / "contacts.json").save([contact(1)])
    ContactCache(tmp_path / "missing" / "contacts.json").save([contact(1)])
    ContactCache(tmp_path).save([contact(1)])
    assert ContactCache(tmp_path / "missing" / "contacts.json").load() == []
    assert ContactCache(tmp_path).load() == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        {},
        "text",
        [7],
        [[]],
        [[ID]],
        [[ID, 7]],
        [[7, "1.2.3.4:5"]],
        [["00", "1.2.3.4:5"]],
        [["zz" * 32, "1.2.3.4:5"]],
        [[ID, "host:5"]],
        [[ID, None]],
        [{"0": 1}],
    ],
)
def test_a_damaged_cache_is_no_cache(
    path: Path, value: int | str | dict[Any, Any] | list[int | dict[str, int] | list[int | str | None]] | None
) -> None:
    path.write_text(json.dumps(value))
    assert ContactCache(path).load() == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[" + b" " * MAX_CACHE_BYTES + b"]", b"[[1" * 9])
def test_bytes_that_are_no_json_are_no_cache(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert ContactCache(path).load() == []


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=10))
def test_no_json_crashes_a_start(scratch: Path, value: int | list[int | str | list[int | None] | None] | None) -> None:
    scratch.write_text(json.dumps(value))
    assert ContactCache(scratch).load() == []


def test_a_disk_that_fails_costs_just_the_cache(path: Path) -> None:
    known = [contact(number) for number in range(50)]
    cache = ContactCache(path)
    cache.save(known)
    cache.path = path.with_name("x" * 300)  # not even whether it is there can be told
    cache.save(known)
    assert cache.load() == []
