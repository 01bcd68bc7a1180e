"""What is noted of shares that no holder has, where there is too much to note."""

from shoal.dht import NodeId
from shoal.erasure import FileId
from shoal.node.care.presence import CONFIRMED_EPOCHS, GRACE_EPOCHS, MAX_SHARES, Presence

EPOCH_S = 100.0
STRANGER = NodeId(bytes(32))
HONEST = FileId(bytes(32))


def stub(number: int) -> FileId:
    return FileId(number.to_bytes(32, "big"))


def without_grace(presence: Presence, now: float) -> bool:
    return presence.is_without_grace(HONEST, 5, STRANGER, now)


def test_files_that_lack_nearly_all_push_out_no_note_of_one_that_lacks_a_few() -> None:
    presence = Presence(EPOCH_S)
    for epoch in range(int(GRACE_EPOCHS) + 1):
        now = epoch * EPOCH_S
        presence.note_shares(HONEST, 12, {*range(12)} - {5, 7}, now)
        for number in range(1, 2 * MAX_SHARES // 63):
            presence.note_shares(stub(number), 64, {0}, now)
    assert without_grace(presence, now)


def test_notes_that_no_look_has_confirmed_for_long_go_first() -> None:
    presence = Presence(EPOCH_S)
    for number in range(1, MAX_SHARES // 3):
        presence.note_shares(stub(number), 4, {0}, 0.0)
    for epoch in range(int(CONFIRMED_EPOCHS) + 1):
        now = epoch * EPOCH_S
        presence.note_shares(HONEST, 64, {0}, now)
    presence.note_shares(stub(MAX_SHARES), 64, {0}, now + 1)
    presence.note_shares(stub(MAX_SHARES + 1), 64, {0}, now + 1)
    assert without_grace(presence, now + 1)
