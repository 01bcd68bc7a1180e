"""A nursery for helpers that live as long as a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends.

    An error of the block comes out as it is, not inside an ExceptionGroup as from a bare nursery: the helpers are no
    business of the caller, who wants to write `except Unreachable`.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - only carried past the end of the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
