"""From what a caller wants to publish to a source that can be read."""

import os
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import TypeAlias

from shoal.node.environment import Environment
from shoal.node.errors import UsageError
from shoal.node.folders.tree import Tree
from shoal.node.folders.walk import WalkChoices
from shoal.node.publishing.folder_source import open_folder_source
from shoal.node.publishing.sources import Source, open_file_source
from shoal.node.publishing.stream_source import (
    FileChunks,
    IterableChunks,
    MemoryChunks,
    Readable,
    StreamSource,
)
from shoal.node.publishing.walking import walk

Publishable: TypeAlias = (
    str | os.PathLike[str] | Tree | bytes | bytearray | memoryview | Readable | AsyncIterable[bytes] | Iterable[bytes]
)
"""What can be published: a path, a tree that was walked, bytes, a binary file object, or an iterable of bytes."""


async def open_source(source: Publishable, env: Environment) -> Source:
    """A source for what is to be published; `LocalError` or `UsageError` for anything that cannot be."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if await env.call(os.path.isdir, path):
            return await open_folder_source(await walk(env, [path], WalkChoices()), env)
        return await open_file_source(source, env)
    if isinstance(source, Tree):
        return await open_folder_source(source, env)
    if isinstance(source, bytes | bytearray | memoryview):
        chunks = MemoryChunks(source)
        return StreamSource(chunks, chunks.size)
    if isinstance(source, Readable):  # before iterables: a file object gives lines, which may be any length
        return StreamSource(FileChunks(source, env))
    if isinstance(source, AsyncIterable):
        return StreamSource(source)
    if isinstance(source, Iterable):
        return StreamSource(IterableChunks(source, env))
    raise UsageError(
        f"A source is a path, bytes, a binary file object, or an iterable of bytes, and not of type "
        f"{type(source).__name__}."
    )
