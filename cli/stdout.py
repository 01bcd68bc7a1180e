"""Writing a file's bytes, or a long list, to standard output, at the pace of its reader."""

import os
import sys

from shoal.cli.exits import CommandError, OutputClosedError
from shoal.cli.output import abandon


async def write_stdout(data: bytes) -> None:
    """All of `data`, in a thread, since its reader may take its time.

    Raises OutputClosedError when the reader has gone, which is its right, and CommandError when it cannot be written.
    """
    import trio

    await trio.to_thread.run_sync(_write, data, abandon_on_cancel=True)


def _write(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputClosedError
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError as error:
        abandon(sys.stdout)
        raise OutputClosedError from error
    except OSError as error:
        abandon(sys.stdout)
        raise CommandError(f"Cannot write to standard output: {error.strerror}.") from error
