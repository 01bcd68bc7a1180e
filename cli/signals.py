"""Which signals end a command cleanly, and how they do outside the asynchronous part."""

import signal
import sys

TYPE_CHECKING = False  # typing itself takes 8 ms to load, in which a Ctrl-C would not be ours yet
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

SECOND_TRY_S = 0.01  # soon enough for a person, and past the clean-up code that swallowed the first try


def caught_signals() -> "tuple[signal.Signals, ...]":
    """The signals that end a command cleanly. A SIGHUP that is being ignored (nohup) stays ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def catch_termination() -> None:
    """SIGTERM and SIGHUP end a command the way Ctrl-C does, until the asynchronous part takes them over."""
    for number in caught_signals():
        signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, _interrupt_again)
    sys.unraisablehook = _on_unraisable


def ignore_termination() -> None:
    """For the last steps of a process whose outcome stands already."""
    for number in caught_signals():
        signal.signal(number, signal.SIG_IGN)


def interrupt(_number: int, _frame: "FrameType | None") -> None:
    """The handler for the time before and after the asynchronous part."""
    raise KeyboardInterrupt


def _on_unraisable(found: "Any") -> None:
    """An interruption that Python could not pass on (it came in a destructor, say) is not lost: it comes again."""
    if isinstance(found.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, SECOND_TRY_S)
    else:
        sys.__unraisablehook__(found)


def _interrupt_again(_number: int, _frame: "FrameType | None") -> None:
    signal.raise_signal(signal.SIGTERM)  # to whoever handles it now: `interrupt`, or the asynchronous part
