"""What people and scripts see: results on standard output, everything else on standard error.

With `--json` there is one JSON object per line instead, on standard output (on standard error where standard
output carries a file). Names come from files and strangers, so no control character of theirs ever reaches a
terminal.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

from shoal.cli.exits import CommandError, ExitOutcome, OutputClosedError


def visible(text: str) -> str:
    """`text` with everything a terminal could act on, or that is no character at all, spelled out as an
    escape.

    Bytes of a file name that are not UTF-8 come from the system as lone surrogates; they are shown as
    `\\xNN`.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


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
            self._print_result(self._json_stream, encode({"message_type": "status", **fields}))

    def note(self, text: str) -> None:
        """A line for people on standard error."""
        if not self.json and not self.quiet:
            self._print_aside(visible_lines(text))

    def detail(self, text: str) -> None:
        """A line for people who asked for more with -v."""
        if self.verbose:
            self.note(text)

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
        message = self.in_full(outcome.message)
        if self.json:
            fields = {"message_type": "error", "code": int(outcome.code), "message": message}
            try:
                self._print_result(self._json_stream, encode(fields))
            except (OutputClosedError, CommandError):
                return  # nobody reads any more; the exit code says it too
        elif message:
            self._print_aside(f"shoal: {visible_lines(message)}")

    def _print_result(self, stream: TextIO | None, text: str) -> None:
        """Write and flush at once: a result that cannot be delivered must not look like one that was."""
        self.before_note()
        if stream is None or stream.closed:
            raise OutputClosedError
        try:
            stream.write(text + "\n")
            stream.flush()
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
            self.stderr.write(text + "\n")
            self.stderr.flush()
        except OSError:
            abandon(self.stderr)  # nobody listens; the exit code still tells


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
