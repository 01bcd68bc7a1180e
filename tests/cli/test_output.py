"""Results, notes, JSON lines; nothing of a name ever acts on a terminal."""

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cli.exits import Code, CommandError, ExitOutcome, OutputClosedError
from shoal.cli.output import Output, encode, visible, visible_lines
from shoal.cli.tables import columns, day, display_width, fields, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("Grüße 文件 🐟", "Grüße 文件 🐟"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\udcff\udc80.bin", "\\xff\\x80.bin"),
        ("right\u202eto left", "right\\u202eto left"),
        ("lone \ud800", "lone \\ud800"),
        ("tag \U000e0001", "tag \\U000e0001"),
        ("c1 \x9b", "c1 \\x9b"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(categories=None) | st.sampled_from("\n\x1b\udcff")))
def test_whatever_is_shown_is_printable_and_encodable(text: str) -> None:
    assert visible(text).isprintable()
    visible(text).encode()


def test_line_breaks_of_our_own_stay() -> None:
    assert visible_lines("one\ntwo\x1b") == "one\ntwo\\x1b"


@given(st.dictionaries(st.text(), st.text(st.characters(categories=None)) | st.integers()))
def test_json_is_one_line_of_ascii_and_reads_back(message: dict[str, object]) -> None:
    line = encode(message)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == message


def test_people_get_the_result_on_stdout_and_the_rest_on_stderr(recorded: Callable[..., Any]) -> None:
    output = recorded()
    output.note("on the way")
    output.status(phase="x")
    output.result("the link")
    output.summary(link="the link")
    assert output.out.getvalue() == "the link\n"
    assert output.err.getvalue() == "on the way\n"


def test_scripts_get_json_lines_only(recorded: Callable[..., Any]) -> None:
    output = recorded(json=True)
    output.note("on the way")
    output.status(phase="x")
    output.warn("careful")
    output.complain("partial")
    output.result("the link")
    output.summary(link="the link")
    assert [message["message_type"] for message in output.messages] == ["status", "status", "summary"]
    assert output.messages[1] == {"message_type": "status", "event": "warning", "message": "careful"}
    assert output.err.getvalue() == ""


def test_json_moves_to_stderr_when_a_file_takes_stdout(recorded: Callable[..., Any]) -> None:
    output = recorded(json=True)
    output.file_takes_stdout()
    output.summary(size=1)
    assert output.out.getvalue() == ""
    assert json.loads(output.err.getvalue()) == {"message_type": "summary", "size": 1}


def test_quiet_keeps_results_complaints_and_errors(recorded: Callable[..., Any]) -> None:
    output = recorded(quiet=True)
    output.note("on the way")
    output.warn("careful")
    output.complain("Published 7 of 12 shares.")
    output.result("the link")
    output.error(ExitOutcome(Code.FAILED, "It failed."))
    assert output.out.getvalue() == "the link\n"
    assert output.err.getvalue() == "Published 7 of 12 shares.\nshoal: It failed.\n"


def test_errors(recorded: Callable[..., Any]) -> None:
    output = recorded(json=True)
    output.error(ExitOutcome(Code.NO_PEERS, "Nobody\nanswered \x1b."))
    assert output.messages == [{"message_type": "error", "code": 13, "message": "Nobody\nanswered \x1b."}]
    output = recorded()
    output.error(ExitOutcome(Code.NO_PEERS, "Nobody answered \x1b."))
    assert output.err.getvalue() == "shoal: Nobody answered \\x1b.\n"
    assert output.out.getvalue() == ""


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def test_a_result_nobody_takes_is_not_delivered() -> None:
    with pytest.raises(OutputClosedError):
        Output(stdout=Broken(BrokenPipeError())).result("the link")
    with pytest.raises(CommandError, match="No space left"):
        Output(stdout=Broken(OSError(28, "No space left on device"))).result("the link")


def test_a_closed_stderr_does_not_matter() -> None:
    output = Output(stdout=io.StringIO(), stderr=Broken(BrokenPipeError()))
    output.note("lost")
    output.error(ExitOutcome(Code.FAILED, "lost too"))


def test_a_note_takes_the_progress_line_away_first(recorded: Callable[..., Any]) -> None:
    output = recorded()
    output.before_note = lambda: output.err.write("<cleared>")
    output.note("hello")
    assert output.err.getvalue() == "<cleared>hello\n"


def test_tables_line_up_and_hold_their_cells() -> None:
    text = columns(("name", "size"), [("文件", "1"), ("a\nb", "22"), ("e\u0301", "3")])
    assert text.split("\n") == ["name  size", "文件  1", "a\\nb  22", "e\u0301     3"]
    assert display_width("文件") == 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1234567", "1234567"), ("12345678", "123…678"), ("\n23456789", "\\n2…789"), ("日本語日本語", "日本…語")],
)
def test_a_long_cell_loses_its_middle(text: str, shown: str) -> None:
    assert shortened(text, 7) == shown


@given(st.text(), st.integers(1, 30))
def test_a_shortened_cell_is_never_too_wide(text: str, width: int) -> None:
    assert display_width(shortened(text, width)) <= width


def test_fields_leave_out_what_is_empty() -> None:
    assert fields([("name", "x"), ("kind", ""), ("id", "y\x00")]) == "name: x\nid:   y\\x00"


@pytest.mark.parametrize("zone", ["UTC", "EAST-14", "WEST+12"])
def test_any_moment_can_be_shown(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        shown = [day(moment) for moment in (-1e18, 0.0, 1.7e9, 1e300)]
    time.tzset()
    assert [len(each) for each in shown] == [16] * 4


# --- readers that do not read


@pytest.fixture
def clogged() -> Iterator[tuple[TextIO, int]]:
    """The two ends of a pipe that is full: a text stream to write, a descriptor to read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    with open(writer, "w", encoding="utf-8") as stream:
        yield stream, reader
    os.close(reader)


def read_all(reader: int) -> str:
    os.set_blocking(reader, False)
    found = b""
    with suppress(BlockingIOError):
        while chunk := os.read(reader, 65536):
            found += chunk
    return found.decode().replace("\0", "")


def test_nobody_is_waited_for_while_the_loop_runs(clogged: tuple[TextIO, int]) -> None:
    """All of this would wait for ever."""
    stream, reader = clogged
    output = Output(stdout=stream, stderr=stream)
    output.hold()
    output.note("lost")
    output.insist("lost too")
    assert not output.draw("lost as well")
    output.result("the link")
    assert read_all(reader) == ""
    output.note("behind a result that waits")
    output.release()
    assert read_all(reader) == "the link\n3 messages were left out, because nobody read them in time.\n"


def test_a_long_result_comes_whole_and_in_order(clogged: tuple[TextIO, int]) -> None:
    stream, reader = clogged
    read_all(reader)
    output = Output(stdout=stream, stderr=stream)
    output.hold()
    lines = [f"{number} {'é🐟' * 300}" for number in range(200)]  # more than a pipe takes
    for line in lines:
        output.result(line)
    os.set_blocking(reader, True)
    with ThreadPoolExecutor(1) as pool, open(reader, encoding="utf-8", closefd=False) as file:
        reading = pool.submit(file.read)
        output.release()
        stream.close()
        assert reading.result(timeout=20).splitlines() == lines


def test_a_reader_that_has_gone_is_told_at_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        output = Output(stdout=stream, stderr=stream)
        output.hold()
        with pytest.raises(OutputClosedError):
            output.result("the link")
