"""Running a command's asynchronous part: signals become cancellation, and clean-up has a deadline."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from shoal.cli.exits import Code, ExitOutcome
from shoal.cli.output import Output
from shoal.cli.signals import caught_signals

# A clean-up is a few closes and a few ended processes: seconds. A thread stuck in a dead file system could
# hold it for ever, and then ending hard is the lesser evil: every write of ours survives it.
CLEANUP_LIMIT_S = 20.0
IMPATIENT_SIGNALS = 3  # so many in all mean "now"


def run(work: Callable[[], Awaitable[int]], output: Output) -> int:
    """Run `work` to its exit code. KeyboardInterrupt when a signal stopped it, after its clean-up.

    Once interrupted, the command waits for nobody who might read what it has to say.
    """
    output.hold()
    try:
        code = trio.run(_supervise, work, output)
    except KeyboardInterrupt:
        raise
    except BaseException:
        output.release()
        raise
    output.release()
    return code


async def _supervise(work: Callable[[], Awaitable[int]], output: Output) -> int:
    result: int | None = None
    with trio.open_signal_receiver(*caught_signals()) as arriving:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_watch, arriving, scope, output)
            with scope:
                result = await work()
            nursery.cancel_scope.cancel()
    if result is None:
        raise KeyboardInterrupt
    return result


async def _watch(arriving: AsyncIterator[int], scope: trio.CancelScope, output: Output) -> None:
    """Cancel `scope` on the first signal; end the process hard when clean-up hangs or somebody insists."""
    await anext(arriving)
    scope.cancel()
    with trio.move_on_after(CLEANUP_LIMIT_S):
        for _ in range(IMPATIENT_SIGNALS - 1):
            await anext(arriving)
            output.note("Cleaning up…")
    output.error(ExitOutcome(Code.INTERRUPTED, "Interrupted, and stopped before the clean-up was done."))
    os._exit(Code.INTERRUPTED)
