"""Calls of the share store on behalf of a peer: in a worker, with its failures turned into answers."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from shoal.node.care.problems import Problems
from shoal.node.channel import Reason, RequestError, Status
from shoal.node.environment import Environment
from shoal.node.store import FileDeleted, Limit, LocalFailure, NotHeld, PeerMistake, StoreFull, UnknownUpload

T = TypeVar("T")

_LIMITS = {  # what a caller is told of the limit that was reached
    Limit.CAPACITY: Reason.CAPACITY,
    Limit.DISK: Reason.DISK,
    Limit.UPLOADS: Reason.UPLOADS,
    Limit.SOURCE: Reason.SOURCE,
}


class StoreCalls:
    """Calls the store. `problems` hears of a disk that fails."""

    def __init__(self, env: Environment, problems: Problems) -> None:
        self._env = env
        self._problems = problems

    async def call(self, function: Callable[..., T], *args: object) -> T:
        """Call a function of the store in a worker. Raises RequestError where the store raises an error of its own."""
        with self._answers():
            return await self._env.call(function, *args)

    async def asked(self, work: Awaitable[T]) -> T:
        """The same for work that calls the store by itself."""
        with self._answers():
            return await work

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Translate what the store says into an answer."""
        try:
            yield
        except StoreFull as error:
            if error.is_the_systems:
                self._problems.failed(error)
            raise RequestError(Status.FULL, _LIMITS[error.limit], str(error)) from error
        except (NotHeld, UnknownUpload) as error:
            raise RequestError(Status.NOT_FOUND, text=str(error)) from error
        except FileDeleted as error:
            raise RequestError(Status.FORBIDDEN, Reason.DELETED, str(error)) from error
        except PeerMistake as error:
            raise RequestError(Status.MALFORMED, text=str(error)) from error
        except LocalFailure as error:
            self._problems.failed(error)
            raise RequestError(Status.INTERNAL, Reason.DISK_FAILED, "this holder's disk failed") from error
