"""A program that ends with its standard input, and so with the process that started it."""

import os
import sys
from collections.abc import Awaitable, Callable

import trio


async def run_until_eof(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` until it is done or standard input ends."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as lifeline:
                while await lifeline.receive_some():
                    pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await work()
        nursery.cancel_scope.cancel()
