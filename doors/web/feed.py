"""What changed, for everybody who listens: the latest state of each thing, never a queue of old ones."""

import trio

MAX_LISTENERS = 64  # a tab has one


class Listener:
    """One that listens. It is behind by the latest change of each thing at most, however slow it is."""

    def __init__(self) -> None:
        self._changed: dict[tuple[str, str], None] = {}
        self._news = trio.Event()

    def note(self, kind: str, name: str) -> None:
        """Something has changed."""
        self._changed[kind, name] = None
        self._news.set()

    async def wait(self) -> list[tuple[str, str]]:
        """What has changed since the last call; waits until something has."""
        await self._news.wait()
        self._news = trio.Event()
        changed, self._changed = list(self._changed), {}
        return changed


class Feed:
    """All listeners, and what wakes them."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def note(self, kind: str, name: str = "") -> None:
        """Tell everybody that a thing has changed."""
        for listener in self._listeners:
            listener.note(kind, name)

    def open(self) -> Listener | None:
        """A new listener; None where there are too many."""
        if len(self._listeners) >= MAX_LISTENERS:
            return None
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def close(self, listener: Listener) -> None:
        """It listens no more."""
        self._listeners.discard(listener)
