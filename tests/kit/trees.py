"""Trees in memory: entries as an index has them, the plaintext that goes with them, and trees on disk to compare."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from kit.folders import Index, write_index
from kit.later import seal_as_folder
from kit.worlds import publish
from shoal.node import Published, open_node
from shoal.node.folders.entries import Entry, EntryKind, ancestors, order_key
from shoal.simulation.world import World

NOBODY = 65_534  # a user that owns nothing
TIME_NS = 1_700_000_000_123_456_789  # of all entries that are given no other


@dataclass(frozen=True, slots=True)
class To:
    """A symbolic link to `target`."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """An executable file."""

    content: bytes


Node = bytes | None | To | Run  # a file's contents, a directory, a link, a program


def tree(nodes: Mapping[bytes, Node]) -> tuple[list[Entry], bytes]:
    """The entries of these paths and of all directories they are in, and the contents of the files end to end."""
    full: dict[bytes, Node] = {each: None for path in nodes for each in ancestors(path)}
    full.update(nodes)
    entries, plaintext = [], b""
    for path in sorted(full, key=order_key):
        node = full[path]
        if node is None:
            entries.append(Entry(path, EntryKind.DIRECTORY, mtime_ns=TIME_NS))
        elif isinstance(node, To):
            entries.append(Entry(path, EntryKind.SYMLINK, mtime_ns=TIME_NS, target=node.target))
        else:
            content = node.content if isinstance(node, Run) else node
            digest = blake3(content).digest()
            entries.append(
                Entry(path, EntryKind.FILE, len(content), len(plaintext), TIME_NS, isinstance(node, Run), digest)
            )
            plaintext += content
    return entries, plaintext


def on_disk(root: Path) -> dict[bytes, Node]:
    """What is below a folder, in the same form."""
    found: dict[bytes, Node] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            inner = os.path.relpath(path, base)
            if stat.S_ISLNK(status.st_mode):
                found[inner] = To(os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[inner] = None
            else:
                with open(path, "rb") as file:
                    content = file.read()
                found[inner] = Run(content) if status.st_mode & stat.S_IXUSR else content
    return found


async def publish_tree(
    world: World,
    patch: pytest.MonkeyPatch,
    nodes: Mapping[bytes, Node],
    *,
    name: str | None = "photos",
    index: Index | None = None,
    needed: int = 2,
    total: int = 4,
) -> Published:
    """Publish a folder of these nodes; `index` may be another one than an honest publisher would write."""
    entries, contents = tree(nodes)
    written = index or write_index(entries)
    with patch.context() as inner:
        seal_as_folder(inner, written.summary)
        plaintext = b"".join([contents, *written.pages, written.table])
        return await publish(world, plaintext, needed=needed, total=total, name=name, step=2**20)


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder to make things in, as a user for whom permissions count."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        for inside, folders, _ in os.walk(folder):
            for name in folders:
                os.chmod(os.path.join(inside, name), 0o700)
        shutil.rmtree(folder)


def publish_here(network_file: str, home: Path, nodes: Mapping[bytes, Node]) -> str:
    """Publish a folder of the name `photos` to a network of real processes; its link."""
    entries, contents = tree(nodes)
    index = write_index(entries)

    async def run() -> str:
        async with open_node(home, network=Path(network_file)) as node:
            return str((await node.publish(b"".join([contents, *index.pages, index.table]), name="photos")).link)

    with pytest.MonkeyPatch.context() as patch:
        seal_as_folder(patch, index.summary)
        return trio.run(run)
