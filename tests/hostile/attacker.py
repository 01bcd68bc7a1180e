"""The attacker's machine, as a program: it does the attacks that it is told of, one after another.

    python -m hostile.attacker

The first line on standard input is its brief. Then each line is the name of an attack to begin, or empty to end it. It
says, as JSON, when it is in position, and what the attack took. It ends with its input.
"""

import json
import os
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any

import trio

from hostile.attacks import ATTACKS
from hostile.machines import Brief
from hostile.means import Means

LINE_BYTES = 4_096


class Lines:
    """The lines of standard input."""

    def __init__(self) -> None:
        self._stream = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
        self._rest = b""

    async def next(self) -> Any:
        """What the next line says; None at the end."""
        while b"\n" not in self._rest:
            piece = await self._stream.receive_some(LINE_BYTES)
            if not piece:
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


async def attack(name: str, brief: Brief, lines: Lines) -> bool:
    """One attack, until the next line; whether there is one. Says when it is in position, and its totals."""
    began, goes_on = time.process_time(), True
    async with AsyncExitStack() as stack:
        closing = stack.enter_context(ExitStack())
        nursery = await stack.enter_async_context(trio.open_nursery())
        means = Means(brief, nursery)
        closing.callback(means.close)
        await nursery.start(partial(ATTACKS[name], means))
        _say({"event": "in position"})
        goes_on = await lines.next() is not None
        nursery.cancel_scope.cancel()
    cpu_s = time.process_time() - began
    _say({"event": "end", **vars(means.meter), "notes": means.notes, "cpu_s": cpu_s})
    return goes_on


async def serve() -> None:
    """Do what the lines say."""
    lines = Lines()
    try:
        brief = Brief.of(await lines.next())
        while (name := await lines.next()) is not None:
            if not await attack(name, brief, lines):
                return
    finally:
        await lines.aclose()


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    trio.run(serve)
