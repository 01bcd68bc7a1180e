"""What people and scripts see: results on standard output, everything else on standard error.

With `--json` there is one JSON object per line instead, on standard output (on standard error where standard
output carries a file). Names come from files and strangers, so no control character of theirs ever reaches a
terminal.

While the event loop runs nothing here waits for the reader of a pipe or a terminal: a node must not stand still because
nobody reads what it says. A result that cannot be written at once is written when the loop has ended. What is said on
the way is left out.
"""

import json
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from shoal.cli.exits import CommandError, ExitOutcome, OutputClosedError

_DIGITS = "(?:[^0-9a-z'\"]{0,6}[0-9a-z])"  # of base32, with what may stand between them
_SECRETS = (  # behind as much of a link or a receipt as nobody writes by chance
    re.compile(rf"([a-z2-7]{{16}}\W{{0,8}}(?:#|%23)){_DIGITS}{{8,64}}[0-9a-z]*", re.IGNORECASE),
    re.compile(rf"(receipt:){_DIGITS}{{8,120}}[0-9a-z]*", re.IGNORECASE),
)
_FRAGMENT = re.compile(r"(?<![a-z2-7:])[a-z2-7]{24,}")


def visible(text: str) -> str:
    """`text` with everything a terminal could act on, or that is no character at all, spelled out as an
    escape.

    Bytes of a file name that are not UTF-8 come from the system as lone surrogates; they are shown as
    `\\xNN`.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def without_keys(text: str) -> str:
    """`text` with the key of every link in it, and every receipt, left out. An error must not carry a secret along.

    What is behind the mark is taken for the key whatever it is, up to the length of one: it may be mistyped or broken.
    """
    for secret in _SECRETS:
        text = secret.sub(r"\1…", text)
    return text


def without_fragments(text: str) -> str:
    """The same, and without what may be a part of a key that was typed or pasted apart from its link."""
    return _FRAGMENT.sub("…", without_keys(text))


def visible_lines(text: str) -> str:
    """The same for a text of several lines: the line breaks stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _escape(char: str) -> str:
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if point in (9, 10, 13):
        return {9: "\\t", 10: "\\n", 13: "\\r"}[point]
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def encode(message: Mapping[str, object]) -> str:
    """One JSON object on one line, in ASCII, so that no encoding or terminal can spoil it."""
    return json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


# A pipe that is writable takes PIPE_BUF bytes without a wait. No character is written as more than 10 (`\\U0001f41f`).
PIECE_CHARS = select.PIPE_BUF // 10


def takes_now(stream: TextIO) -> bool:
    """Whether a piece of text could be written without waiting for a reader."""
    try:
        descriptor = stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
    except (OSError, ValueError):
        return True  # no real descriptor; or a broken one, which the write will tell
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS))


class Output:
    """The three ways to talk: `result` and `summary` for the answer, `note` and `warn` for people, `status`
    for JSON.

    `json` switches to JSON lines; `quiet` leaves only results and errors; `verbose` counts the -v given.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: int = 0,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.interrupt_hint = ""  # what to tell somebody who stops the command now
        self.before_note: Callable[[], None] = _nothing  # a progress line takes itself away here
        self.in_full: Callable[[str], str] = str  # gives the commands in an error's words the options that were typed
        self._json_stream = self.stdout
        self._is_held = False
        self._backlog: list[tuple[TextIO, str]] = []  # results that nobody has read yet
        self._left_out = 0

    def hold(self) -> None:
        """From now on wait for no reader. Called before the event loop runs, and when a command was interrupted."""
        self._is_held = True

    def release(self) -> None:
        """Wait for readers again, and write the results that they had not taken. Errors as for `result`."""
        self._is_held = False
        backlog, self._backlog = self._backlog, []
        for stream, text in backlog:
            self._deliver(stream, text)
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self.note(f"{left_out} messages were left out, because nobody read them in time.")

    @property
    def interactive(self) -> bool:
        """Whether a person looks at standard error right now, so that a progress line makes sense."""
        return not self.json and not self.quiet and _is_terminal(self.stderr)

    @property
    def redrawable(self) -> bool:
        """Whether a line can be drawn over on that person's terminal."""
        return self.interactive and os.environ.get("TERM", "") != "dumb"

    @property
    def results_on_terminal(self) -> bool:
        """Whether the result is read by a person and not by a script."""
        return _is_terminal(self.stdout)

    def file_takes_stdout(self) -> None:
        """From now on standard output carries a file: JSON goes to standard error."""
        self._json_stream = self.stderr

    def result(self, text: str) -> None:
        """The answer itself, one or more lines on standard output; JSON has it in the summary instead."""
        if not self.json:
            self._print_result(self.stdout, visible_lines(text))

    def summary(self, **fields: object) -> None:
        """The last JSON object of a command that got somewhere."""
        if self.json:
            self._print_result(self._json_stream, encode({"message_type": "summary", **fields}))

    def status(self, **fields: object) -> None:
        """A JSON object about something on the way."""
        if self.json:
            self._print_result(self._json_stream, encode({"message_type": "status", **fields}), may_be_left_out=True)

    def note(self, text: str) -> None:
        """A line for people on standard error."""
        if not self.json and not self.quiet:
            self._print_aside(visible_lines(text))

    def detail(self, text: str) -> None:
        """A line for people who asked for more with -v."""
        if self.verbose:
            self.note(without_keys(text))

    def warn(self, text: str) -> None:
        """Something that wants attention and is no error."""
        self.note(f"Warning: {text}")
        if not self.quiet:
            self.status(event="warning", message=text)

    def complain(self, text: str) -> None:
        """Part of the outcome that even --quiet must not hide; JSON has it in the summary."""
        if not self.json:
            self._print_aside(visible_lines(text))

    def insist(self, text: str) -> None:
        """A line on standard error with every option, --json and --quiet too."""
        self._print_aside(visible_lines(text))

    def error(self, outcome: ExitOutcome) -> None:
        """The last word of a command that failed."""
        message = without_keys(self.in_full(outcome.message))
        if self.json:
            fields: dict[str, object] = {"message_type": "error", "code": int(outcome.code), "message": message}
            if outcome.causes:
                fields["causes"] = dict(outcome.causes)
            try:
                self._print_result(self._json_stream, encode(fields))
            except (OutputClosedError, CommandError):
                return  # nobody reads any more; the exit code says it too
        elif message:
            self._print_aside(f"shoal: {visible_lines(message)}")

    def draw(self, text: str) -> bool:
        """Write on the terminal as it is: a progress line, or what erases it. Whether it was written."""
        try:
            return self._write(self.stderr, text, may_be_left_out=True)
        except (OSError, ValueError):
            return False  # the terminal went away; the operation goes on

    def _print_result(self, stream: TextIO | None, text: str, *, may_be_left_out: bool = False) -> None:
        """Write and flush at once: a result that cannot be delivered must not look like one that was."""
        self.before_note()
        if stream is None or stream.closed:
            raise OutputClosedError
        self._deliver(stream, text + "\n", may_be_left_out=may_be_left_out)

    def _deliver(self, stream: TextIO, text: str, *, may_be_left_out: bool = False) -> None:
        try:
            self._left_out += not self._write(stream, text, may_be_left_out=may_be_left_out)
        except BrokenPipeError as error:
            abandon(stream)
            raise OutputClosedError from error
        except OSError as error:
            abandon(stream)
            raise CommandError(f"Cannot write the result to standard output: {error.strerror}.") from error

    def _print_aside(self, text: str) -> None:
        self.before_note()
        if self.stderr is None or self.stderr.closed:
            return
        try:
            self._left_out += not self._write(self.stderr, text + "\n", may_be_left_out=True)
        except OSError:
            abandon(self.stderr)  # nobody listens; the exit code still tells

    def _write(self, stream: TextIO, text: str, *, may_be_left_out: bool) -> bool:
        """Write now, or when `release` is called. False when it was left out."""
        if not self._is_held:
            stream.write(text)
            stream.flush()
            return True
        waits = any(other is stream for other, _ in self._backlog)
        for written, piece in enumerate(_pieces(text)):
            waits = waits or not takes_now(stream)
            if waits and may_be_left_out and not written:
                return False
            if waits:
                self._backlog.append((stream, piece))
            else:
                stream.write(piece)
                stream.flush()
        return True


def abandon(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that Python's own flush at exit does not complain about it."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return  # not a real descriptor: nothing will be flushed to it either


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _nothing() -> None:
    pass
