"""What only the node's own administrator may ask: how the node does, and that it end."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgpack

from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    Done,
    GetStatus,
    Reason,
    RequestError,
    Role,
    Status,
    StatusReport,
    Stop,
)
from shoal.node.volunteer.ending import Ending
from shoal.node.volunteer.handlers import Handler

Report: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]


class Administration:
    """Answers the administrator. `status` makes the report; `ending` hears of the wish that the node end."""

    def __init__(self, status: Report, ending: Ending) -> None:
        self._status = status
        self._ending = ending

    def handlers(self) -> Mapping[type[AnyRequest], Handler]:
        """What this part answers."""
        return {GetStatus: self._report, Stop: self._stop}

    async def _report(self, caller: Caller, request: GetStatus, payload: Buffer) -> StatusReport:
        _check_administrator(caller)
        report = await self._status()
        return StatusReport(msgpack.packb(dict(report), use_bin_type=True))

    async def _stop(self, caller: Caller, request: Stop, payload: Buffer) -> Done:
        _check_administrator(caller)
        if not self._ending.is_open:
            raise RequestError(Status.BUSY, Reason.STARTING, "still starting")
        if not self._ending.ask():
            text = "the program that this node is part of does not end on request"
            raise RequestError(Status.UNSUPPORTED, Reason.NO_END, text)
        return Done()


def _check_administrator(caller: Caller) -> None:
    if caller.role is not Role.ADMIN:
        raise RequestError(Status.FORBIDDEN, Reason.NOT_ADMINISTRATOR, "only the node's own administrator may ask this")
