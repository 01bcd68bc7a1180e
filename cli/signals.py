"""Which signals end a command cleanly, and how they do outside the asynchronous part."""

import signal
from types import FrameType


def caught_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a command cleanly. A SIGHUP that is being ignored (nohup) stays ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """The handler for the time before and after the asynchronous part."""
    raise KeyboardInterrupt
