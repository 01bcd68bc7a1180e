"""Files for which no host was found: when to seek one again. Plain bookkeeping with `now`."""

import random

from shoal.erasure import FileId
from shoal.node.care.no_hosts import CHANGED_PARTS, LONGEST_PAUSE_EPOCHS, MAX_FILES, SOON_PARTS, NoHosts

DAY_S = 86400.0
FILE = FileId(b"f" * 32)
OTHER = FileId(b"o" * 32)
PEERS = {b"a", b"b", b"c"}


def test_the_pauses_grow_up_to_a_month() -> None:
    vain = NoHosts(DAY_S)
    pauses = [vain.note(FILE, PEERS, 0.0, is_danger=False) / DAY_S for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, 32, 32]
    assert pauses[-1] == LONGEST_PAUSE_EPOCHS
    assert [vain.note(OTHER, PEERS, 0.0, is_danger=True) / DAY_S * SOON_PARTS for _ in range(3)] == [1, 2, 4]


def test_hosts_are_sought_again_after_the_pause_and_not_before() -> None:
    vain = NoHosts(DAY_S)
    assert not vain.is_vain(FILE, PEERS, 0.0)
    pause_s = vain.note(FILE, PEERS, 0.0, is_danger=False)
    assert vain.is_vain(FILE, PEERS, pause_s - 1)
    assert vain.is_vain(FILE, {b"a"}, pause_s - 1), "fewer than before"
    assert not vain.is_vain(FILE, PEERS, pause_s)
    assert not vain.is_vain(OTHER, PEERS, 1.0)
    vain.forget(FILE)
    assert not vain.is_vain(FILE, PEERS, 1.0)
    assert len(vain) == 0


def test_a_peer_that_is_new_is_a_reason_to_seek_before_the_pause_ends() -> None:
    vain, newcomers = NoHosts(DAY_S), PEERS | {b"new"}
    vain.note(FILE, PEERS, 0.0, is_danger=True)
    vain.note(OTHER, PEERS, 0.0, is_danger=False)
    for now, due in ((1.0, []), (DAY_S / CHANGED_PARTS, [FILE])):
        assert vain.is_vain(FILE, newcomers, now) is not (due == [FILE])
        assert vain.due(newcomers, now) == due
        assert vain.is_vain(OTHER, newcomers, now)
    assert not vain.is_vain(FILE, PEERS, DAY_S / CHANGED_PARTS), "it was named, and may be sought for"
    assert vain.due(PEERS, DAY_S / 2) == []
    assert vain.due(newcomers, DAY_S / 2) == [OTHER], "the first was named already"


def test_a_change_is_a_reason_long_after_the_pause_as_well() -> None:
    vain = NoHosts(DAY_S)
    vain.note(FILE, PEERS, 0.0, is_danger=True)
    assert vain.due(PEERS, 3 * DAY_S) == []
    assert vain.due(PEERS | {b"new"}, 3 * DAY_S) == [FILE]
    assert vain.due(PEERS | {b"new"}, 3 * DAY_S) == []


def test_what_is_remembered_is_bounded() -> None:
    vain, rng = NoHosts(DAY_S), random.Random(1)
    for _ in range(MAX_FILES + 9):
        vain.note(rng.randbytes(32), PEERS, 0.0, is_danger=False)
    assert len(vain) == MAX_FILES
