"""Remote files, where a test knows that a link is of a file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shoal.erasure import Link
from shoal.node import Node, RemoteFile


@asynccontextmanager
async def open_remote_file(client: Node, link: Link | str, **options: Any) -> AsyncIterator[RemoteFile]:
    """`Node.open_remote` of a file."""
    async with client.open_remote(link, **options) as remote:
        assert isinstance(remote, RemoteFile)
        yield remote
