"""The journal of a publish under way: what the same command needs to go on after kill -9.

One file per command (source, options), mode 0600, replaced atomically. It holds the file key, so that the finished link
is the one promised, and the owner's secret. A finished publish leaves no journal.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import msgpack

from shoal.dht import Contact, NodeId, ProtocolError, Reach, labelled_hash, reach_of
from shoal.node.errors import LocalError
from shoal.node.formats import MAX_LEASE_S, unpack
from shoal.node.home.home import DIRECTORY_MODE, FILE_MODE, still_at, write_private
from shoal.node.publishing.sealing import NOTHING_SEALED
from shoal.values import dataclass

VERSION = 4
KEPT_S = 23 * 3600.0  # holders keep an uncommitted upload 24 h; an older journal has nothing to resume
COMPLETED_WITHIN_S = float(MAX_LEASE_S)  # a file that has its id is completed for as long as the longest lease
MAX_JOURNAL_BYTES = 2**20

CHECKSUM_BYTES = 16  # against disks, not against enemies: who can write here can read the keys

_name_hash = labelled_hash("publish journal")
_content_hash = labelled_hash("publish journal content")


@dataclass(frozen=True, slots=True)
class UploadNote:
    """One share on its way: to whom, under which upload id."""

    share: int
    contact: Contact
    upload_id: bytes


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Where a publish stands.

    `source_size` is the source's size as the system told it. Segments before `segment` are durable at every upload
    listed; `encoder` is the encoder's state there, `chain` proves their content, and `size` counts the file's bytes in
    them. `manifest` is empty until all blocks are sent. From then on the file's id is fixed, and `chain` and `size` are
    those of the whole file.
    `possible_n` is n of the widest code that the network would have allowed, had all hosts answered.
    """

    source_size: int
    file_key: bytes
    owner_secret: bytes
    k: int
    n: int
    possible_n: int
    started_at: float
    uploads: tuple[UploadNote, ...]
    segment: int = 0
    encoder: list[Any] | None = None
    chain: bytes = NOTHING_SEALED
    manifest: bytes = b""
    size: int = 0

    def at(self, segment: int, encoder: list[Any], chain: bytes, size: int) -> "JournalEntry":
        """The entry with a later checkpoint."""
        return replace(self, segment=segment, encoder=encoder, chain=chain, size=size)

    def is_fresh(self, now: float) -> bool:
        """Whether holders may still have what they were sent."""
        age = now - self.started_at
        return abs(age) < COMPLETED_WITHIN_S if self.manifest else 0 <= age < KEPT_S

    def encode(self) -> bytes:
        """The journal file's content: checksum ‖ msgpack array."""
        uploads = [[note.share, _packed(note.contact), note.upload_id] for note in self.uploads]
        fields = [
            VERSION,
            self.source_size,
            self.file_key,
            self.owner_secret,
            self.k,
            self.n,
            self.possible_n,
            self.started_at,
        ]
        packed: bytes = msgpack.packb(
            [*fields, uploads, self.segment, self.encoder, self.chain, self.manifest, self.size], use_bin_type=True
        )
        return _content_hash(packed)[:CHECKSUM_BYTES] + packed

    @classmethod
    def decode(cls, content: bytes) -> "JournalEntry":
        """The inverse of `encode`; `ValueError` for anything else."""
        checksum, packed = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if _content_hash(packed)[:CHECKSUM_BYTES] != checksum:
            raise ValueError("damaged")
        fields = unpack(packed, ValueError, most_items=MAX_JOURNAL_BYTES)
        try:
            version, source_size, file_key, owner, k, n, possible, started, *rest = fields
            uploads, segment, encoder, chain, manifest, size = rest
            if version != VERSION:
                raise ValueError("another version")
            notes = tuple(UploadNote(share, _contact(packed), upload_id) for share, packed, upload_id in uploads)
            progress = (notes, segment, encoder, chain, manifest, size)
            return cls(source_size, file_key, owner, k, n, possible, started, *progress)
        except (TypeError, ProtocolError) as error:
            raise ValueError("not the fields of a journal") from error


def _packed(contact: Contact) -> bytes:
    return contact.node_id + reach_of(contact).pack()


def _contact(packed: bytes) -> Contact:
    return Reach.unpack(packed[32:]).contact(NodeId(packed[:32]))


class Journal:
    """The journal file of one publish command."""

    is_kept = True

    def __init__(self, folder: Path, command: list[Any]) -> None:
        name = _name_hash(msgpack.packb(command, use_bin_type=True, unicode_errors="surrogateescape")).hex()[:32]
        self.path = folder / f"{name}.journal"

    def load(self, source_size: int, now: float) -> JournalEntry | None:
        """What an earlier run left, if it can still be used: undamaged, recent enough, of a file of this size.

        Whether it is the same file is for `SecondLook` to say.
        """
        try:
            with open(self.path, "rb") as file:
                entry = JournalEntry.decode(file.read(MAX_JOURNAL_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return None  # a damaged journal costs a fresh start, never data: nothing was printed for it yet
        return entry if entry.source_size == source_size and entry.is_fresh(now) else None

    def sweep(self) -> None:
        """Remove other commands' journals that nobody can resume any more: there are file keys in them."""
        now = time.time()  # the file system's clock, not the node's
        for path in self.path.parent.glob("*.journal"):
            try:
                age = now - path.stat().st_mtime
                if path == self.path or age < KEPT_S:
                    continue
                descriptor = _lock(path.with_suffix(".lock"))
            except OSError:
                continue  # it is in use, or gone
            try:
                if age >= COMPLETED_WITHIN_S or not _has_manifest(path):
                    path.unlink(missing_ok=True)
                    path.with_suffix(".lock").unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def save(self, entry: JournalEntry) -> None:
        """Replace the journal durably."""
        write_private(self.path, entry.encode())

    def remove(self) -> None:
        """The publish is finished, or given up."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this command; `LocalError` when another process is publishing the same thing.

        The lock file stays as long as there is a journal, and goes with it.
        """
        lock = self.path.with_suffix(".lock")
        try:
            self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = _lock(lock)
        except BlockingIOError as error:
            raise LocalError("The same file is being published by another process right now.") from error
        except OSError as error:
            raise LocalError(f"Cannot keep a journal in {self.path.parent}: {error.strerror}.") from error
        for leftover in self.path.parent.glob(
            f"{self.path.name}.*.tmp"
        ):  # of a run killed while it saved: it has the key
            leftover.unlink(missing_ok=True)
        try:
            yield
        finally:
            if not self.path.exists():
                lock.unlink(missing_ok=True)
            os.close(descriptor)


class NoJournal:
    """The journal of a publish whose source cannot be read twice. Nobody can take such a publish up again, so this does
    nothing."""

    is_kept = False

    def load(self, source_size: int, now: float) -> JournalEntry | None:
        """No earlier run has left anything."""
        return None

    def sweep(self) -> None:
        """Leave other commands' journals to those that keep one."""

    def save(self, entry: JournalEntry) -> None:
        """Keep nothing: the file's key stays in memory."""

    def remove(self) -> None:
        """There is nothing to remove."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can publish the same stream."""
        yield


AnyJournal: TypeAlias = Journal | NoJournal


def journal_for(folder: Path, identity: Sequence[str] | None, choices: list[Any]) -> AnyJournal:
    """The journal of the command that publishes a source of this identity with these choices; None: it is a stream."""
    return NoJournal() if identity is None else Journal(folder, [*identity, *choices])


def _has_manifest(path: Path) -> bool:
    """Whether a journal is of a file that has its id, perhaps with a link printed: such a file can be completed."""
    try:
        return bool(JournalEntry.decode(path.read_bytes()[:MAX_JOURNAL_BYTES]).manifest)
    except (OSError, ValueError):
        return False


def _lock(path: Path) -> int:
    """A descriptor that holds the lock `path`. The process that had it before may have removed the file: try again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if still_at(path, descriptor):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
