"""Many cases in one test: which of them failed."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(name: str) -> Iterator[None]:
    """Within the block, a failure is noted to be one of this case."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name!r}")
        raise
