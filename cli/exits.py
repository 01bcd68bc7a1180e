"""How a command ends: the exit codes, and the one table that gives every error its code.

Only `family` imports the node library, so that a usage error costs no more than the start of Python. When an error
of the library arrives, the library is loaded already.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import IntEnum

from shoal.values import dataclass


class Code(IntEnum):
    """Exit codes; scripts depend on them. An unknown code means failure."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NOT_FOUND = 10
    DAEMON_RUNS = 11
    WRONG_KEY = 12
    NO_PEERS = 13
    BAD_DATA = 14
    REFUSED = 15
    INTERRUPTED = 130


MEANINGS: dict[Code, str] = {
    Code.OK: "done",
    Code.FAILED: "failed on this machine: a file, a disk, a port, an existing target, no daemon to ask",
    Code.USAGE: "wrong usage, malformed link, link without a key, bad configuration",
    Code.PARTIAL: "partial or degraded: done in part; readable, but on fewer hosts than it should be",
    Code.NOT_FOUND: "not found, or too few holders answered",
    Code.DAEMON_RUNS: "another daemon runs on this home",
    Code.WRONG_KEY: "the link's key belongs to another file",
    Code.NO_PEERS: "no peer of the network answered",
    Code.BAD_DATA: "enough holders answered, but the data is bad, or it needs a newer Shoal",
    Code.REFUSED: "peers answered and refused: full, or over a quota",
    Code.INTERRUPTED: "interrupted by SIGINT, SIGTERM or SIGHUP; what was under way has been cleaned up",
}

_MAX_CAUSES = 20  # a chain of causes is a handful long; the bound guards against a loop


class CommandError(Exception):
    """A command cannot go on, for a reason the command line found by itself. `str()` is for the user."""

    def __init__(self, message: str, code: Code = Code.FAILED) -> None:
        super().__init__(message)
        self.code = code


class BadUsageError(CommandError):
    """The command line as typed makes no sense; found before anything was done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Code.USAGE)


class OutputClosedError(Exception):
    """The reader of our standard output has gone; there is nobody left to tell."""


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """How to end after an error. `bug`: nobody foresaw it. An empty message is not worth printing.

    `causes`: how many of the hosts that were asked failed, by cause.
    """

    code: Code
    message: str
    bug: bool = False
    causes: Mapping[str, int] = field(default_factory=dict)


def explain(error: BaseException) -> ExitOutcome:
    """The exit code and the words for `error`, looked for inside exception groups too.

    An interruption wins over everything else, and something unforeseen over what was foreseen.
    """
    outcomes = [_explain_one(leaf) for leaf in leaves(error)]
    for outcome in outcomes:
        if outcome.code is Code.INTERRUPTED:
            return outcome
    return next((outcome for outcome in outcomes if outcome.bug), outcomes[0])


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside nested exception groups, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _explain_one(error: BaseException) -> ExitOutcome:
    if _is_interruption(error):
        return ExitOutcome(Code.INTERRUPTED, "Interrupted.")
    if isinstance(error, CommandError):
        return ExitOutcome(error.code, str(error))
    if isinstance(error, OutputClosedError):
        return ExitOutcome(Code.FAILED, "")
    code = _family_code(error)
    if code is not None:
        return ExitOutcome(code, str(error), causes=_causes(error))
    if isinstance(error, OSError):
        return ExitOutcome(Code.FAILED, _os_words(error))
    return ExitOutcome(Code.FAILED, _bug_words(error), bug=True)


def family() -> tuple[tuple[type[Exception], Code], ...]:
    """The exit code of every error of the library, the more special first. Imports the library."""
    from shoal.node import errors

    return (
        (errors.UsageError, Code.USAGE),
        (errors.AlreadyRunning, Code.DAEMON_RUNS),
        (errors.NoPeers, Code.NO_PEERS),
        (errors.NotFound, Code.NOT_FOUND),
        (errors.WrongKey, Code.WRONG_KEY),
        (errors.BadData, Code.BAD_DATA),
        (errors.NeedsNewerShoal, Code.BAD_DATA),
        (errors.Refused, Code.REFUSED),
        (errors.LocalError, Code.FAILED),
        (errors.ShoalError, Code.FAILED),
    )


def _family_code(error: BaseException) -> Code | None:
    if "shoal.node.errors" not in sys.modules:
        return None  # no error of the library can exist yet, and loading it now could fail too
    return next((code for kind, code in family() if isinstance(error, kind)), None)


def _causes(error: BaseException) -> Mapping[str, int]:
    from shoal.node.errors import ShoalError

    return {cause.value: count for cause, count in error.causes.items()} if isinstance(error, ShoalError) else {}


def _is_interruption(error: BaseException) -> bool:
    """Also a KeyboardInterrupt that came at a bad moment and is the cause of the scheduler's own error."""
    seen: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if isinstance(seen, KeyboardInterrupt):
            return True
        if seen is None or type(seen).__name__ != "TrioInternalError":
            return False
        seen = seen.__cause__ or seen.__context__
    return False


def _os_words(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}." if error.filename is not None else f"{reason}."


def _bug_words(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0][:300]
    return (
        f"This is a bug in Shoal: {type(error).__name__}{': ' + first_line if first_line else ''}. "
        "Run the same command with -v for the details, and please report them."
    )
