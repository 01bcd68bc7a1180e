"""The administrator's wish that a serving node end, and whoever opened the node to see to it.

The node cannot end itself: it lives inside a block of somebody's program. So a wish is taken only where that program
has said that it listens; `shoal node run` does, a program that embeds a node need not.
"""

import trio


class Ending:
    """One node's end, as far as it was asked for."""

    def __init__(self) -> None:
        self._wanted = trio.Event()
        self._is_heard = False
        self.is_open = False  # before that, nobody can have said yet that it listens

    def listen(self) -> trio.Event:
        """Take wishes from now on; the event is set by the first."""
        self._is_heard = True
        return self._wanted

    def ask(self) -> bool:
        """Ask the node to end; whether anybody listens."""
        if self._is_heard:
            self._wanted.set()
        return self._is_heard
