"""Hosts that kept silent lately: remembered for minutes, across commands, and bounded."""

from pathlib import Path

from shoal.dht import Address, Contact, NodeId
from shoal.node.home.silence import MAX_SILENT, SILENT_FOR_S, Silence

NOW = 1_800_000_000.0


def contact(number: int, port: int = 4750) -> Contact:
    return Contact(NodeId(number.to_bytes(32, "big")), Address("198.51.100.1", port))


def test_a_host_is_silent_for_minutes_until_it_answers() -> None:
    silence = Silence()
    silence.note(contact(1), NOW)
    assert silence.is_silent(contact(1), NOW + SILENT_FOR_S - 1)
    assert not silence.is_silent(contact(1), NOW + SILENT_FOR_S)
    assert not silence.is_silent(contact(1), NOW - 1)  # the clock was put back
    assert not silence.is_silent(contact(1, port=4751), NOW)  # it has moved
    assert not silence.is_silent(contact(2), NOW)
    silence.heard(contact(1))
    assert not silence.is_silent(contact(1), NOW)


def test_the_latest_count_where_there_are_many() -> None:
    silence = Silence()
    for number in range(MAX_SILENT + 5):
        silence.note(contact(number), NOW)
    assert len(silence) == MAX_SILENT
    assert not silence.is_silent(contact(4), NOW)
    assert silence.is_silent(contact(5), NOW)


def test_the_next_command_of_the_home_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "silent.json"
    first = Silence(path)
    first.save()
    assert not path.exists()  # nothing to tell
    first.note(contact(1), NOW)
    first.save()
    second = Silence(path)
    second.load()
    assert second.is_silent(contact(1), NOW)
    second.heard(contact(1))
    second.save()
    third = Silence(path)
    third.load()
    assert len(third) == 0


def test_a_damaged_file_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "silent.json"
    for content in (b"", b"[[1]]", b'[["00", "198.51.100.1:4750", 1]]', b'{"a": 1}', b"[" * 10_000, b"\xff"):
        path.write_bytes(content)
        silence = Silence(path)
        silence.load()
        assert len(silence) == 0


def test_no_file_where_nothing_can_be_written(tmp_path: Path) -> None:
    silence = Silence(tmp_path / "missing" / "silent.json")
    silence.note(contact(1), NOW)
    silence.save()
    assert silence.is_silent(contact(1), NOW)
