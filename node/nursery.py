"""A nursery whose single failure comes out as itself.

Trio wraps whatever leaves a nursery in an exception group. Inside an operation there is one failure that matters, and
callers want to catch it by its type.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from shoal.node.errors import ShoalError


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """Like `trio.open_nursery`; the failure that matters is raised bare.

    That is the only one there is, or one of several of the same type, or the first `ShoalError` among others, since
    one failing request brings down its neighbours. What the body of the block itself raises stays what it is.
    """
    body: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                body = error
                raise
    except BaseExceptionGroup as group:
        failures = [leaf for leaf in _leaves(group, body) if not isinstance(leaf, trio.Cancelled)]
        chosen = _chosen(failures)
        if chosen is None:
            raise
        raise chosen from chosen.__cause__


def _chosen(failures: list[BaseException]) -> BaseException | None:
    """The one to raise, or None when the whole group says more."""
    if failures and all(type(failure) is type(failures[0]) for failure in failures):
        return failures[0]
    if all(isinstance(failure, Exception) for failure in failures):
        return next((failure for failure in failures if isinstance(failure, ShoalError)), None)
    return None


def _leaves(group: BaseExceptionGroup[BaseException], body: BaseException | None) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup) and member is not body:
            yield from _leaves(member, body)
        else:
            yield member
