"""A nursery whose single failure comes out as itself.

Trio wraps whatever leaves a nursery in an exception group. Inside an operation there is one failure that matters, and
callers want to catch it by its type.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """Like `trio.open_nursery`; when one thing failed, or several in the same way, that error is raised bare."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        failures = [leaf for leaf in _leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if failures and all(type(leaf) is type(failures[0]) for leaf in failures):
            raise failures[0] from failures[0].__cause__
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _leaves(member)
        else:
            yield member
