"""Which entries of a folder are wanted: all, or what is at some paths."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from shoal.node.errors import BadData
from shoal.node.fetching.folder import RemoteFolder
from shoal.node.folders.entries import Entry, EntryKind, ancestors, order_key, shown

MAX_PATHS = 10_000  # each costs a look into the index


class PathSelection:
    """The entries at some paths of a folder, with all that is in them and the directories they are in. Without paths
    it is everything.
    """

    def __init__(self, folder: RemoteFolder, paths: Iterable[bytes] = ()) -> None:
        self.folder = folder
        self.paths = _outermost(paths)

    async def batches(self) -> AsyncGenerator[list[Entry], None]:
        """All entries that are wanted, in the order of an index, some hundred at a time. It can be called again.

        :raises NotFound: there is nothing at one of the paths.
        """
        if not self.paths:
            async with aclosing(self.folder.batches()) as batches:
                async for batch in batches:
                    yield batch
        before: set[bytes] = set()
        for path in self.paths:
            entry = await self.folder.find(path)
            parents = list(ancestors(path))
            first = [await self._directory(parent) for parent in parents if parent not in before]
            before = set(parents)
            yield [*first, entry]
            if entry.kind is EntryKind.DIRECTORY:
                async with aclosing(self.folder.batches(path)) as batches:
                    async for batch in batches:
                        yield batch

    async def _directory(self, path: bytes) -> Entry:
        entry = await self.folder.find(path)
        if entry.kind is not EntryKind.DIRECTORY:
            raise BadData(f"The folder cannot be read: something lies in {shown(path)}, which is no folder.")
        return entry


def _outermost(paths: Iterable[bytes]) -> list[bytes]:
    """The paths in the order of an index, without those that lie in another one."""
    kept: list[bytes] = []
    for path in sorted(set(paths), key=order_key):
        if not kept or not path.startswith(kept[-1] + b"/"):
            kept.append(path)
    return kept
