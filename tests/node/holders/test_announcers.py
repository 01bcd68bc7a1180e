"""The announcers of a file: few, fixed by hashes, on three keys. Together they name every holder."""

from collections import Counter
from typing import Any

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import MAX_ANNOUNCEMENT_BYTES, Address, Contact, NodeId
from shoal.erasure import FileId
from shoal.node.holders.announcers import (
    CLASSES,
    LEAST_ANNOUNCERS,
    MAX_NAMED,
    Hint,
    MalformedAnnouncement,
    announcers,
    class_key,
    class_of,
    pack_announcement,
    read_announcement,
    slice_for,
)

FILE_ID = FileId(blake3(b"file").digest())
ME = Contact(NodeId(bytes(32)), Address.of("198.51.100.7", 4750))


def node(number: int, file: str = "file") -> NodeId:
    return NodeId(blake3(f"{file} node {number}".encode()).digest())


def contact(number: int, *, ipv6: bool, file: str = "file") -> Contact:
    host = f"2001:db8:{number:x}::1" if ipv6 else f"198.51.{number // 250}.{number % 250 + 1}"
    return Contact(node(number, file), Address.of(host, 4750))


def named_together(file: str, holders: dict[Contact, list[int]]) -> set[tuple[int, Contact]]:
    """All pairs of share and node that the announcements of a file name. `holders` maps a contact to its shares."""
    file_id = FileId(blake3(file.encode()).digest())
    chosen = announcers(file_id, [each.node_id for each in holders])
    order = list(dict.fromkeys(each for number in sorted(chosen) for each in chosen[number]))
    by_id = {each.node_id: each for each in holders}
    named = set()
    for announcer in order:
        others = [Hint(share, each) for each, own in holders.items() if each.node_id != announcer for share in own]
        payload = pack_announcement(holders[by_id[announcer]], slice_for(announcer, order, others))
        assert len(payload) <= MAX_ANNOUNCEMENT_BYTES
        named |= {(hint.share, hint.contact) for hint in read_announcement(payload, by_id[announcer])}
    return named


# --- who announces, and whom an announcer names


@given(st.sets(st.binary(min_size=32, max_size=32).map(NodeId), max_size=60), st.randoms())
def test_announcers_of_a_class_are_its_own_by_rank_then_the_best_of_the_others(
    holders: set[NodeId], random: Any
) -> None:
    shuffled = sorted(holders)
    random.shuffle(shuffled)
    chosen = announcers(FILE_ID, shuffled)
    assert chosen == announcers(FILE_ID, sorted(holders)), "the same on every node"
    assert sorted(chosen) == [0, 1, 2]
    for number, ids in chosen.items():
        own = [each for each in holders if class_of(FILE_ID, each) == number]
        assert len(set(ids)) == len(ids)
        if len(holders) <= CLASSES:
            assert set(ids) == holders
        elif len(own) >= len(ids):
            assert set(ids) <= set(own)
        else:
            assert set(own) == set(ids[: len(own)])
        if len(holders) > CLASSES:
            assert len(ids) >= LEAST_ANNOUNCERS


@pytest.mark.parametrize("count", [1, 2, 3])
def test_up_to_three_holders_announce_under_every_key(count: int) -> None:
    holders = [node(number) for number in range(count)]
    assert all(set(ids) == set(holders) for ids in announcers(FILE_ID, holders).values())


def test_nobody_announces_what_nobody_holds() -> None:
    assert announcers(FILE_ID, []) == {0: [], 1: [], 2: []}


def test_two_of_each_class_announce_a_file_of_twelve() -> None:
    chosen = announcers(FILE_ID, [node(number) for number in range(12)])
    assert [len(ids) for ids in chosen.values()] == [2, 2, 2]
    assert len({each for ids in chosen.values() for each in ids}) == 6


def test_a_dead_announcer_is_followed_by_the_next_in_rank() -> None:
    holders = [node(number) for number in range(48)]
    first, second = announcers(FILE_ID, holders)[1][:2]
    left = [each for each in holders if each != first]
    assert announcers(FILE_ID, left)[1][0] == second
    assert announcers(FILE_ID, left)[0] == announcers(FILE_ID, holders)[0], "the other classes stay as they are"


def test_classes_are_even_and_differ_from_file_to_file() -> None:
    counts = Counter(class_of(FILE_ID, node(number)) for number in range(3000))
    assert all(900 < counts[number] < 1100 for number in range(CLASSES))
    other = FileId(bytes(32))
    same = sum(class_of(FILE_ID, node(number)) == class_of(other, node(number)) for number in range(3000))
    assert 900 < same < 1100


def test_keys_do_not_tell_the_file() -> None:
    keys = {class_key(FILE_ID, number) for number in range(CLASSES)}
    assert len(keys) == CLASSES
    assert all(len(key) == 32 and key != FILE_ID for key in keys)


# --- together they name all


@pytest.mark.parametrize("ipv6", [False, True])
def test_announcements_together_name_every_holder(ipv6: bool) -> None:
    for count in range(1, 257):
        holders = {contact(number, ipv6=ipv6): [number] for number in range(count)}
        assert named_together("file", holders) == {(own[0], each) for each, own in holders.items()}, count


@pytest.mark.parametrize("count", [13, 36, 66, 67, 72, 108, 251, 252, 256])
def test_so_they_do_for_many_files(count: int) -> None:
    """Sizes at which an announcement is fullest, with other classes and ranks each time."""
    for file in range(10):
        holders = {contact(number, ipv6=True, file=f"{file}"): [number] for number in range(count)}
        assert len(named_together(f"{file}", holders)) == count


def test_one_host_with_every_share_names_itself() -> None:
    assert len(named_together("file", {ME: list(range(256))})) == 256


@given(st.integers(1, 80), st.integers(0, 40), st.booleans())
def test_slices_of_all_announcers_cover_the_ring(count: int, repeated: int, ipv6: bool) -> None:
    """Also where repair has put a share at two hosts."""
    hints = [Hint(number % count, contact(number, ipv6=ipv6)) for number in range(count + repeated)]
    order = [hint.contact.node_id for hint in hints[:6]]
    covered = {hint for each in order for hint in slice_for(each, order, hints)}
    assert covered == set(hints)


def test_a_stranger_to_the_order_names_from_the_start() -> None:
    hints = [Hint(number, contact(number, ipv6=False)) for number in range(3)]
    assert slice_for(node(99), [hints[0].contact.node_id], hints) == hints
    assert slice_for(node(99), [], []) == []


# --- payloads


@given(
    st.lists(st.integers(0, 255), max_size=256, unique=True),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 60000), st.booleans()), max_size=100),
)
def test_payloads_fit_and_are_read(own: list[int], entries: list[tuple[int, int, bool]]) -> None:
    named = [Hint(share, contact(number, ipv6=ipv6)) for share, number, ipv6 in entries]
    payload = pack_announcement(own, named)
    assert len(payload) <= MAX_ANNOUNCEMENT_BYTES
    hints = read_announcement(payload, ME)
    assert hints[: len(own)] == [Hint(share, ME) for share in own]
    told = hints[len(own) :]
    assert told == named[: len(told)]
    assert len(told) >= min(len(named), 7), "something is named even by a host of all 256 shares"


@given(st.binary(max_size=700))
def test_garbage_is_one_error(payload: bytes) -> None:
    try:
        hints = read_announcement(payload, ME)
    except MalformedAnnouncement:
        return
    assert all(0 <= hint.share < 256 for hint in hints)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {1: 2},
        [1, b"\1", []],
        [3, b"\1", []],
        [2, b"\1"],
        [2, "text", []],
        [2, b"", b""],
        [2, b"", [7]],
        [2, b"", [b""]],
        [2, b"", [bytes(33)]],
        [2, b"", [bytes(33) + bytes([1, 1, 5]) + bytes(5)]],
        [2, b"", [bytes(39)]],
        [2, b"", [bytes(33) + bytes([1, 1, 18]) + bytes(10) + b"\xff\xff" + bytes(6)]],
        [2, b"", [bytes(33) + bytes([1, 1, 6]) + bytes(6)] * (MAX_NAMED + 1)],
    ],
)
def test_malformed_payloads_are_refused(
    value: dict[int, int] | list[int | str | bytes | list[int | bytes]] | None,
) -> None:
    with pytest.raises(MalformedAnnouncement):
        read_announcement(msgpack.packb(value), ME)


def test_later_versions_may_add_fields() -> None:
    assert read_announcement(msgpack.packb([2, b"\5", [], "later"]), ME) == [Hint(5, ME)]
