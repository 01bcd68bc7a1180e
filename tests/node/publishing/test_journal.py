"""The journal of a publish: read back as written, or not at all; one process at a time."""

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NodeId, labelled_hash
from shoal.erasure import BLOCK_BYTES, ShareEncoder, best_codec
from shoal.node.errors import LocalError
from shoal.node.publishing.journal import (
    CHECKSUM_BYTES,
    KEPT_S,
    Journal,
    JournalEntry,
    NoJournal,
    UploadNote,
    journal_for,
)

NOW = 1_800_000_000.0
SIZE = 10**9
CHAIN = bytes(range(64, 96))
COMMAND = ["/data/fish.txt", None, 4, 12, None, 7776000, False, None]


def note(share: int, *, ipv6: bool = False) -> UploadNote:
    address = Address.of("2001:db8::1" if ipv6 else "198.51.100.7", 4750 + share)
    return UploadNote(share, Contact(NodeId(bytes([share]) * 32), address), bytes([share]) * 16)


def encoder_state(segments: int, *, n: int = 6) -> list[object]:
    encoder = ShareEncoder(2, n, best_codec())
    for _ in range(segments):
        encoder.add_segment(bytes(2 * BLOCK_BYTES), False)
    return encoder.state()


ENTRY = JournalEntry(
    source_size=SIZE,
    file_key=bytes(range(32)),
    owner_secret=bytes(range(32, 64)),
    k=2,
    n=6,
    possible_n=12,
    started_at=NOW,
    uploads=tuple(note(share, ipv6=share % 2 == 1) for share in range(6)),
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    folder = tmp_path / "publishing"
    folder.mkdir()
    return Journal(folder, COMMAND)


def test_what_is_saved_is_loaded(journal: Journal) -> None:
    for entry in (
        ENTRY,
        ENTRY.at(5, encoder_state(5), CHAIN, 655_160),
        replace(ENTRY, manifest=b"manifest", size=10**12, uploads=()),
    ):
        journal.save(entry)
        assert journal.load(SIZE, NOW) == entry
    assert stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600
    journal.remove()
    journal.remove()
    assert journal.load(SIZE, NOW) is None


def test_an_encoder_goes_on_from_the_journal(journal: Journal) -> None:
    journal.save(ENTRY.at(5, encoder_state(5), CHAIN, 655_160))
    entry = journal.load(SIZE, NOW)
    assert entry is not None
    resumed = ShareEncoder.from_state(best_codec(), entry.encoder)
    assert resumed.segment_count == entry.segment == 5
    assert resumed.state() == encoder_state(5)


def test_the_widest_code_fits(journal: Journal) -> None:
    uploads = tuple(note(share, ipv6=True) for share in range(256))
    entry = replace(ENTRY, n=256, uploads=uploads, manifest=bytes(16384)).at(7, encoder_state(7, n=256), CHAIN, 10**6)
    journal.save(entry)
    assert journal.load(SIZE, NOW) == entry


def test_a_source_of_another_size_is_not_resumed(journal: Journal) -> None:
    journal.save(ENTRY)
    assert journal.load(SIZE + 1, NOW) is None


def test_old_journals_are_not_resumed(journal: Journal) -> None:
    journal.save(ENTRY)
    assert journal.load(SIZE, NOW + KEPT_S - 1) == ENTRY
    assert journal.load(SIZE, NOW + KEPT_S) is None
    assert journal.load(SIZE, NOW - 1) is None, "a clock that was set back proves nothing"


def test_a_file_with_an_id_is_completed_for_as_long_as_a_lease_lasts(journal: Journal) -> None:
    entry = replace(ENTRY, manifest=b"manifest")
    journal.save(entry)
    assert journal.load(SIZE, NOW + 89 * 86400) == entry
    assert journal.load(SIZE, NOW - 3600) == entry, "a clock that was set back"
    assert journal.load(SIZE, NOW + 90 * 86400) is None


@given(st.integers(0, 1000), st.integers(0, 7))
def test_any_flipped_bit_costs_a_fresh_start(at: int, bit: int) -> None:
    content = bytearray(ENTRY.encode())
    content[at % len(content)] ^= 1 << bit
    with pytest.raises(ValueError, match="damaged"):
        JournalEntry.decode(bytes(content))


def test_a_damaged_journal_is_no_journal(journal: Journal) -> None:
    journal.save(ENTRY)
    content = journal.path.read_bytes()
    for damaged in (b"", content[:5], content[:-1], content + b"\0", bytes(len(content)), os.urandom(300)):
        journal.path.write_bytes(damaged)
        assert journal.load(SIZE, NOW) is None
    journal.path.unlink()
    journal.path.mkdir()
    assert journal.load(SIZE, NOW) is None


@pytest.mark.parametrize(
    "fields", [b"", b"\x91" * 3000, b"\xdd\xff\xff\xff\xff", b"\xc0", b"\x93\x01\x02\x03", b"\x9c" + b"\x01" * 12]
)
def test_whatever_stands_behind_a_right_checksum_is_a_journal_or_none(fields: bytes) -> None:
    checksum = labelled_hash("publish journal content")(fields)[:CHECKSUM_BYTES]
    with pytest.raises(ValueError):  # noqa: PT011 - the one error of a journal
        JournalEntry.decode(checksum + fields)


def test_every_command_has_its_own_journal(tmp_path: Path) -> None:
    commands = [COMMAND, ["/data/fish2.txt", *COMMAND[1:]], [*COMMAND[:-2], True, None], ["/data/\udcff", *COMMAND[1:]]]
    paths = {Journal(tmp_path, command).path for command in commands}
    assert len(paths) == len(commands)
    assert all(path.parent == tmp_path for path in paths)
    assert Journal(tmp_path, list(COMMAND)).path in paths


# --- the lock


def test_one_process_publishes_a_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "made" / "when needed", COMMAND)
    with journal.locked():
        with pytest.raises(LocalError, match="another process"), Journal(journal.path.parent, COMMAND).locked():
            pass
        with Journal(journal.path.parent, ["another"]).locked():
            pass
    with journal.locked():
        pass


def test_a_finished_publish_leaves_nothing(journal: Journal) -> None:
    with journal.locked():
        journal.save(ENTRY)
        journal.remove()
    assert os.listdir(journal.path.parent) == []


def test_an_interrupted_publish_leaves_its_journal(journal: Journal) -> None:
    with journal.locked():
        journal.save(ENTRY)
    with journal.locked():
        assert journal.load(SIZE, NOW) == ENTRY


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "publishing").write_text("")
    with pytest.raises(LocalError, match="publishing"), Journal(tmp_path / "publishing", COMMAND).locked():
        pass


def test_journals_that_nobody_can_resume_are_swept(tmp_path: Path) -> None:
    def journal(number: int, *, manifest: bytes = b"") -> Journal:
        made = Journal(tmp_path, [number])
        with made.locked():
            made.save(replace(ENTRY, manifest=manifest))
        return made

    fresh, old, finished, own = journal(1), journal(2), journal(3, manifest=b"m"), journal(4)
    ancient = journal(5, manifest=b"m")
    month_ago = time.time() - 30 * 86400
    for each in (old, finished, own):
        os.utime(each.path, (month_ago, month_ago))
    os.utime(ancient.path, (0, 0))
    (tmp_path / "junk.journal").write_bytes(b"junk")
    os.utime(tmp_path / "junk.journal", (0, 0))
    with own.locked():
        own.sweep()
    left = sorted(path.name for path in tmp_path.glob("*.journal"))
    assert left == sorted(each.path.name for each in (fresh, finished, own))


def test_a_file_has_a_journal_for_each_choice(tmp_path: Path) -> None:
    first = journal_for(tmp_path, [str(tmp_path / "fish.txt")], [1])
    assert isinstance(first, Journal)
    assert first.is_kept
    other = journal_for(tmp_path, [str(tmp_path / "fish.txt")], [2])
    assert isinstance(other, Journal)
    assert other.path != first.path
    assert first.path == Journal(tmp_path, [str(tmp_path / "fish.txt"), 1]).path


def test_a_stream_has_one_that_does_nothing(tmp_path: Path) -> None:
    journal = journal_for(tmp_path / "publishing", None, [1])
    assert isinstance(journal, NoJournal)
    assert not journal.is_kept
    with journal.locked(), journal.locked():
        journal.save(ENTRY)
        journal.sweep()
        assert journal.load(SIZE, NOW) is None
        journal.remove()
    assert list(tmp_path.iterdir()) == []
