"""Locks per file, so that what happens to one share on disk and in the database happens one thing at a time."""

import threading

LOCKS = 16  # files share them by chance; more would gain little on one disk


class FileLocks:
    """A fixed number of locks, spread over files by their id.

    Held by whoever gives a share's file its name, another name, or none, from before the first step until after the
    last. Taken after an upload's lock, before those of the database and the open handles.
    """

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def of(self, file_id: bytes) -> threading.Lock:
        """The lock to hold for this file."""
        return self._locks[file_id[0] % LOCKS]
