"""The contact cache: a shortcut that must never stop a start."""

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NodeId
from shoal.node.contacts import MAX_CACHE_BYTES, MAX_CONTACTS, load_contacts, save_contacts

ID = "00" * 32


def contact(number):
    host = f"198.51.{number // 250}.{number % 250 + 1}" if number % 2 else f"2001:db8::{number + 1:x}"
    return Contact(NodeId(number.to_bytes(32, "big")), Address.of(host, 4750))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "contacts.json"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("contacts") / "contacts.json"


def test_what_is_saved_is_loaded(path):
    known = [contact(number) for number in range(50)]
    save_contacts(path, known)
    assert load_contacts(path) == known
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_many_are_cut_and_still_fit(path):
    save_contacts(path, [contact(number) for number in range(10 * MAX_CONTACTS)])
    assert load_contacts(path) == [contact(number) for number in range(MAX_CONTACTS)]
    assert path.stat().st_size < MAX_CACHE_BYTES


def test_nothing_never_replaces_something(path):
    save_contacts(path, [])
    assert not path.exists()
    save_contacts(path, [contact(1)])
    save_contacts(path, [])
    assert load_contacts(path) == [contact(1)]


def test_a_disk_that_fails_costs_only_the_cache(tmp_path):
    (tmp_path / "file").write_text("")
    save_contacts(tmp_path / "file" / "contacts.json", [contact(1)])
    save_contacts(tmp_path / "missing" / "contacts.json", [contact(1)])
    save_contacts(tmp_path, [contact(1)])
    assert load_contacts(tmp_path / "missing" / "contacts.json") == []
    assert load_contacts(tmp_path) == []


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
def test_a_damaged_cache_is_no_cache(path, value):
    path.write_text(json.dumps(value))
    assert load_contacts(path) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[" + b" " * MAX_CACHE_BYTES + b"]", b"[[1" * 9])
def test_bytes_that_are_no_json_are_no_cache(path, content):
    path.write_bytes(content)
    assert load_contacts(path) == []


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=10))
def test_no_json_crashes_a_start(scratch, value):
    scratch.write_text(json.dumps(value))
    assert load_contacts(scratch) == []
