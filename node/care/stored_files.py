"""The files kept here, and what our store knows of their holders."""

from collections.abc import Sequence

from shoal.dht import NodeId
from shoal.erasure import FileId, Manifest
from shoal.node.care.fairness import in_turn
from shoal.node.care.findings import WatchedFile
from shoal.node.environment import Environment
from shoal.node.holders.known import KnownHolders
from shoal.node.store import ShareStore

PAGE_FILES = 500


class StoredFiles:
    """Reads one store. Everything here raises StoreError where our disk fails."""

    def __init__(self, env: Environment, me: NodeId, store: ShareStore, known_holders: KnownHolders) -> None:
        self._env = env
        self._me = me
        self._store = store
        self._known_holders = known_holders

    async def pages(self) -> list[list[FileId]]:
        """All files that are kept here, by pages."""
        pages: list[list[FileId]] = []
        while page := await self._env.call(self._store.files, pages[-1][-1] if pages else b"", PAGE_FILES):
            pages.append([FileId(raw) for raw in page])
        return pages

    def holders(self, file_id: FileId) -> list[NodeId]:
        """Which nodes we know to keep shares of a file; ourselves too. Blocking: called in a worker."""
        return sorted({NodeId(each) for each in self._store.holders(file_id)} | {self._me})

    async def read(self, file_id: FileId) -> WatchedFile | None:
        """A file with what is known of it; None when nothing of it is kept any more."""
        manifest = await self._env.call(self._store.manifest, file_id)
        statements = await self._known_holders.known(file_id)
        if manifest is None or not statements:
            return None
        sources = await self._env.call(self._store.source_groups, [file_id])
        return WatchedFile(file_id, Manifest.decode(manifest), tuple(statements), sources[file_id])

    async def in_turn(self, file_ids: Sequence[FileId]) -> list[FileId]:
        """These files, those of every group of sources in turn."""
        sources = await self._env.call(self._store.source_groups, file_ids)
        return in_turn(file_ids, sources.__getitem__)
