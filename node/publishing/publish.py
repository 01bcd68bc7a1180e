"""Publishing: one pass over the source, all shares growing in step at their holders, resumable at any moment.

recruit hosts -> stream batches into lanes, checkpointing the journal -> manifest -> commit -> `completion`
The file's id exists only once the last byte is read. Until then holders know an upload id; the journal knows the rest.
"""

from collections import Counter
from collections.abc import AsyncIterable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from shoal.dht import Contact
from shoal.erasure import (
    BLOCK_BYTES,
    MAX_SHARES,
    ErasureError,
    Layout,
    Manifest,
    ShareEncoder,
    check_code,
    default_happy,
    default_width,
)
from shoal.node.cipher import KEY_BYTES, MAX_MEDIA_TYPE_BYTES, FileCipher, Metadata
from shoal.node.context import Context
from shoal.node.errors import LocalError, NoPeers, Refused, ShoalError, UsageError
from shoal.node.holders.placement import gather
from shoal.node.home.ledger import Ledger
from shoal.node.names import name_bytes, printable
from shoal.node.nursery import open_nursery
from shoal.node.publishing.completion import Completion
from shoal.node.publishing.journal import Journal, JournalEntry, UploadNote
from shoal.node.publishing.lanes import Lane, in_words
from shoal.node.publishing.recruit import Recruiter
from shoal.node.publishing.sealing import Sealer
from shoal.node.publishing.sources import Fingerprint, Source, SourceChanged, fingerprint_fields, open_source
from shoal.node.publishing.stalls import SENDERS, drop_stalled
from shoal.node.results import OnProgress, Phase, Progress, Published

EXPANSION = 3  # DESIGN section 2
DEFAULT_TTL_S = 90 * 86400
MIN_TTL_S, MAX_TTL_S = 3600, 90 * 86400  # DESIGN section 5: leases run to 90 days from now, and are renewed
CHECKPOINT_BYTES = 32 * 2**20  # plaintext between two checkpoints: what a resumed publish seals again at most
FIRST_CHECKPOINT_BYTES = 8 * 2**20  # sooner: of a middling file, too, half must not have been sent in vain
CHECKPOINT_S = 5.0  # over a slow line so many bytes take minutes; holders are not asked to sync more often than this
PEEK_BYTES = 2**20  # of a pipe, read ahead to choose the width: from here on the widest code applies


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What a publisher may choose. None means: as wide as network and file allow."""

    name: str | None = None
    needed: int | None = None
    total: int | None = None
    happy: int | None = None
    ttl_s: int = DEFAULT_TTL_S
    public: bool = False
    media_type: str | None = None

    @property
    def code(self) -> tuple[int, int] | None:
        """(k, n) where the user chose; with only one of the two given, the expansion is threefold as always."""
        if self.needed is None and self.total is None:
            return None
        needed = max(1, (self.total or 0) // EXPANSION) if self.needed is None else self.needed
        total = min(MAX_SHARES, EXPANSION * needed) if self.total is None else self.total
        return needed, total

    def check(self) -> None:
        """`UsageError` for numbers or names that cannot be."""
        code = self.code
        if code is not None:
            try:
                check_code(*code)
            except ErasureError as error:
                raise UsageError(f"{code[0]} of {code[1]} is no code: 1 <= needed <= total <= {MAX_SHARES}.") from error
        most = code[1] if code is not None else MAX_SHARES
        if self.happy is not None and not 1 <= self.happy <= most:
            raise UsageError(f"The number of happy hosts must be from 1 to {most}, not {self.happy}.")
        if not MIN_TTL_S <= self.ttl_s <= MAX_TTL_S:
            raise UsageError("The time to live must be from 1h to 90d. A file that is to stay longer can be renewed.")
        media_type = self.media_type or ""
        if not media_type.isascii() or not media_type.isprintable() or len(media_type) > MAX_MEDIA_TYPE_BYTES:
            raise UsageError(f"A media type has at most {MAX_MEDIA_TYPE_BYTES} characters, all of them plain ASCII.")
        if self.name is not None:
            try:
                name_bytes(self.name)
            except ValueError as error:
                raise UsageError(f"The name {printable(self.name)!r} is {error}.") from error

    def fields(self) -> list[Any]:
        """For the journal's name: another choice is another command."""
        return [self.name, self.needed, self.total, self.happy, self.ttl_s, self.public, self.media_type]


class Publisher:
    """One publish from start to end."""

    def __init__(
        self,
        context: Context,
        ledger: Ledger,
        journal_folder: Path,
        options: PublishOptions,
        on_progress: OnProgress | None,
    ) -> None:
        self._context = context
        self._env = context.env
        self._ledger = ledger
        self._journal_folder = journal_folder
        self._options = options
        self._on_progress = on_progress
        self._journal: Journal | None = None
        self._lanes: list[Lane] = []
        self._candidates: list[Contact] = []
        self._refusals: Counter[str] = Counter()
        self._marks: list[tuple[int, list[Any]]] = []
        self._entry: JournalEntry
        self._source: Source

    async def run(self, what: Path | str | AsyncIterable[bytes]) -> Published:
        """Publish `what`. See `Node.publish` for what is raised."""
        self._options.check()
        started = trio.current_time()
        self._source = await open_source(what, self._env)
        try:
            with ExitStack() as held:
                self._open_journal(what, held)
                self._report(Phase.CONNECTING, 0)
                await self._env.call(self._ledger.check)
                encoder = await self._begin()
                if encoder is not None:
                    await self._stream(encoder)
                return await self._complete(started)
        finally:
            await self._source.aclose()

    def _open_journal(self, what: Path | str | AsyncIterable[bytes], held: ExitStack) -> None:
        """A journal for sources that can be read again. Held by a lock until the publish ends."""
        if not isinstance(what, Path | str) or self._source.fingerprint is None:
            return
        fields = self._options.fields()
        self._journal = Journal(self._journal_folder, [str(Path(what).absolute()), *fields])
        held.enter_context(self._journal.locked())

    # --- beginning: afresh, or where an earlier run stopped

    async def _begin(self) -> ShareEncoder | None:
        """Lanes and an encoder, or None when all blocks were sent by an earlier run."""
        entry = None
        if self._journal is not None and self._source.fingerprint is not None:
            fingerprint = tuple(fingerprint_fields(self._source.fingerprint))
            entry = await self._env.call(self._journal.load, fingerprint, self._env.wall())
        if self._journal is not None:
            await self._env.call(self._journal.sweep)
        if entry is not None and await self._resume(entry):
            if entry.manifest:
                return None
            return self._encoder_at(entry)
        await self._start_afresh()
        return ShareEncoder(self._entry.k, self._entry.n, self._context.codec)

    def _encoder_at(self, entry: JournalEntry) -> ShareEncoder:
        if entry.encoder is None:
            return ShareEncoder(entry.k, entry.n, self._context.codec)
        return ShareEncoder.from_state(self._context.codec, entry.encoder)

    async def _resume(self, entry: JournalEntry) -> bool:
        """Take an interrupted publish up again, if enough of its holders still have what they had."""
        lanes = [Lane(note.share, note.contact, note.upload_id) for note in entry.uploads]
        needed = Manifest.decode(entry.manifest).layout.segment_count if entry.manifest else entry.segment
        bound = self._share_bound(entry.k, entry.n)
        async with open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(lane.offer, self._context, bound, self._options.ttl_s)
        for lane in lanes:
            if lane.alive and lane.durable < needed:
                lane.reason = "lost what it had"
        if sum(lane.alive for lane in lanes) < entry.k:
            await self._abort(lanes)
            return False
        if not entry.manifest:
            for lane in lanes:
                lane.resumed_bytes = entry.segment * BLOCK_BYTES  # segments before the checkpoint are all full
            await self._source.seek(entry.segment * Layout.for_plaintext(entry.k, entry.n, 0).segment_plain_bytes)
        self._entry, self._lanes = entry, lanes
        return True

    async def _start_afresh(self) -> None:
        """Recruit hosts, settle k and n, and note everything in the journal before the first byte leaves."""
        size = self._source.size if self._source.size is not None else await self._peek()
        lanes, (k, n) = await self._recruit(size)
        self._lanes = lanes
        self._entry = JournalEntry(
            source=self._fingerprint(),
            file_key=self._env.entropy(KEY_BYTES),
            owner_secret=self._env.entropy(KEY_BYTES),
            k=k,
            n=n,
            started_at=self._env.wall(),
            uploads=_notes(lanes),
        )
        await self._save(self._entry)

    def _fingerprint(self) -> tuple[int, ...]:
        print_ = self._source.fingerprint
        return () if print_ is None else tuple(fingerprint_fields(print_))

    async def _peek(self) -> int | None:
        """The size of a short stream; None where it is at least PEEK_BYTES long."""
        self._source = peeked = PeekedSource(self._source)
        return await peeked.peek(PEEK_BYTES)

    async def _recruit(self, size: int | None) -> tuple[list[Lane], tuple[int, int]]:
        """Lanes for the widest code that hosts agree to, or for the one that was asked for."""
        wanted = self._width(size, MAX_SHARES)[1]
        self._candidates = await gather(self._context, 2 * wanted)
        if not self._candidates:
            raise NoPeers(
                "No peer of the network answered, so there is nobody to keep the file. Check the connection, "
                "or name a peer with --bootstrap HOST:PORT."
            )
        self._report(Phase.PLACING, 0)
        hosts = Recruiter(self._context, self._candidates, 0, self._env.rng).candidates
        k, n = self._width(size, hosts)
        while True:
            lanes = await self._recruit_for(k, n)
            narrower = self._width(size, len(lanes))
            if len(lanes) >= n or narrower == (k, n):
                break
            await self._abort(lanes)
            k, n = narrower
        if len(lanes) < k:
            raise self._too_few(len(lanes), k)
        return lanes, (k, n)

    async def _abort(self, lanes: Iterable[Lane]) -> None:
        """Tell holders that can be talked to that these uploads will not go on."""
        async with open_nursery() as nursery:
            for lane in lanes:
                if lane.answers:
                    nursery.start_soon(lane.abort, self._context)

    async def _recruit_for(self, k: int, n: int) -> list[Lane]:
        bound = self._share_bound(k, n)
        recruiter = Recruiter(self._context, self._candidates, bound, self._env.rng)
        lanes = await recruiter.recruit(list(range(n)), bound, self._options.ttl_s)
        self._refusals = recruiter.refusals
        full = sum(contact.space == 0 for contact in self._candidates)
        if full:
            self._refusals["full"] += full
        return lanes

    def _width(self, size: int | None, hosts: int) -> tuple[int, int]:
        return self._options.code or default_width(size, hosts)

    def _share_bound(self, k: int, n: int) -> int:
        """Bytes of one share, 0 while the size is unknown."""
        size = self._source.size
        return 0 if size is None else Layout.for_plaintext(k, n, size).share_bytes

    def _too_few(self, found: int, needed: int) -> ShoalError:
        silent = self._refusals["no answer"]
        if not found and silent == sum(self._refusals.values()):
            return NoPeers(f"None of the {silent} hosts known answered, so nothing was published. Try again later.")
        told = in_words(self._refusals)
        why = f" ({told})" if told else ""
        if needed == 1:
            return Refused(f"No host would keep a share{why}: nothing was published. Try again later.")
        return Refused(
            f"Only {found} of the {needed} hosts needed would keep a share{why}: nothing was published. "
            "Try again later, or with fewer needed shares (--needed, --total)."
        )

    # --- streaming

    async def _stream(self, encoder: ShareEncoder) -> None:
        """All blocks to all lanes, then the manifest."""
        cipher = FileCipher(self._entry.file_key)
        sealer = Sealer(self._source, cipher, encoder, self._env)
        turns = trio.CapacityLimiter(SENDERS)
        async with open_nursery() as watch:
            watch.start_soon(drop_stalled, self._lanes, self._context.throttle)
            async with open_nursery() as nursery:
                for lane in self._lanes:
                    if lane.alive:
                        await nursery.start(lane.run, self._context, turns)
                await self._feed(sealer)
                for lane in self._lanes:
                    lane.close()
            watch.cancel_scope.cancel()
        await self._abort(lane for lane in self._lanes if not lane.alive)
        await self._finish_source()
        self._require_alive()
        await self._settle(sealer, cipher)

    async def _finish_source(self) -> None:
        """Make sure that what was read is one file; if not, nobody shall keep what was sent of it."""
        try:
            await self._source.finish()
        except SourceChanged:
            await self._abort(self._lanes)
            if self._journal is not None:
                await self._env.call(self._journal.remove)
            raise

    async def _feed(self, sealer: Sealer) -> None:
        checkpoint, due = sealer.size + FIRST_CHECKPOINT_BYTES, trio.current_time() + CHECKPOINT_S
        while (batch := await sealer.next_batch()) is not None:
            reached = batch.plain_bytes >= checkpoint or trio.current_time() >= due
            sync = reached and self._journal is not None
            for lane in self._lanes:
                await lane.put(batch, sync)
            self._require_alive()
            if sync:
                checkpoint, due = batch.plain_bytes + CHECKPOINT_BYTES, trio.current_time() + CHECKPOINT_S
                self._marks.append((batch.end, batch.state))
            await self._checkpoint()
            self._report(Phase.SENDING, batch.plain_bytes)

    def _require_alive(self) -> None:
        alive = sum(lane.alive for lane in self._lanes)
        if alive < self._entry.k:
            self._refusals.update(lane.reason for lane in self._lanes if not lane.alive)
            raise self._too_few(alive, self._entry.k)

    async def _checkpoint(self) -> None:
        """Move the journal to the last mark that every living holder has made durable."""
        durable = min(lane.durable for lane in self._lanes if lane.alive)
        reached = [mark for mark in self._marks if mark[0] <= durable]
        if reached:
            self._marks = self._marks[len(reached) :]
            self._entry = self._entry.at(*reached[-1])
            await self._save(self._entry)

    async def _settle(self, sealer: Sealer, cipher: FileCipher) -> None:
        """The manifest, and with it the id. It goes into the journal before any holder sees it."""
        roots = sealer.finish()
        name = self._options.name if self._options.name is not None else self._source.name
        metadata = Metadata(sealer.size, _name_or_none(name), self._options.media_type)
        manifest = Manifest(
            k=self._entry.k,
            n=self._entry.n,
            block_bytes=65536,
            ciphertext_bytes=roots.ciphertext_bytes,
            data_root=roots.data_root,
            share_roots=roots.share_roots,
            metadata=cipher.seal_metadata(metadata, self._env.entropy),
            key_commitment=cipher.commitment,
            owner_key=self._env.scheme.public_key(self._entry.owner_secret),
            public_key_material=self._entry.file_key if self._options.public else b"",
        )
        self._entry = replace(self._entry, manifest=manifest.encode(), size=sealer.size)
        await self._save(self._entry)

    # --- the end

    async def _complete(self, started: float) -> Published:
        completion = Completion(
            self._context,
            self._entry,
            public=self._options.public,
            happy=self._options.happy or default_happy(self._entry.n),
            ttl_s=self._options.ttl_s,
            report=lambda phase, shares: self._report(phase, self._entry.size, shares),
        )
        outcome = await completion.run(self._lanes, self._candidates, self._refusals)
        name = self._options.name if self._options.name is not None else self._source.name
        published = outcome.published(trio.current_time() - started, self._lanes)
        await self._env.call(
            self._ledger.add, published, name, self._entry.owner_secret, self._env.wall(), outcome.lease_end
        )
        if self._journal is not None and published.complete:
            await self._env.call(self._journal.remove)
        else:
            await self._save(replace(self._entry, uploads=_notes(lane for lane in self._lanes if lane.alive)))
        return published

    async def _save(self, entry: JournalEntry) -> None:
        if self._journal is not None:
            await self._env.call(self._journal.save, entry)

    def _report(self, phase: Phase, done: int, shares: int | None = None) -> None:
        if self._on_progress is None:
            return
        alive = sum(lane.alive for lane in self._lanes) if shares is None else shares
        wanted = len(self._lanes) if phase is Phase.PLACING else max(len(self._lanes), alive)
        self._on_progress(Progress(phase, done, self._source.size, alive, wanted, alive))


def _notes(lanes: Iterable[Lane]) -> tuple[UploadNote, ...]:
    """The lanes for the journal: those that the same command can take up again."""
    return tuple(UploadNote(lane.share, lane.contact, lane.upload_id) for lane in lanes)


def _name_or_none(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return name_bytes(name)
    except ValueError as error:
        raise LocalError(f"The file name {printable(name)} cannot be published: it is {error}. Use --name.") from error


class PeekedSource:
    """A stream whose beginning was read already."""

    fingerprint: Fingerprint | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = b""
        self.size: int | None = None
        self.name: str | None = None

    async def peek(self, wanted: int) -> int | None:
        """Read ahead; the whole size if the stream is shorter than `wanted`."""
        self._head = await self._source.read(wanted)
        self.size = len(self._head) if len(self._head) < wanted else None
        return self.size

    async def read(self, wanted: int) -> bytes:
        """The next bytes, the head first."""
        data, self._head = self._head[:wanted], self._head[wanted:]
        if len(data) < wanted:
            data += await self._source.read(wanted - len(data))
        return data

    async def seek(self, offset: int) -> None:
        """A stream cannot go back."""
        await self._source.seek(offset)

    async def finish(self) -> None:
        """Nothing to compare with."""

    async def aclose(self) -> None:
        """The stream's own."""
        await self._source.aclose()
