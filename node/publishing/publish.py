"""Publishing: one pass over the source, all shares growing in step at their holders, resumable at any moment.

recruit hosts -> stream batches into lanes, checkpointing the journal -> manifest -> commit -> `completion`
The file's id exists only once the last byte is read. Until then holders know an upload id; the journal knows the rest.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import trio

from shoal.dht import Contact
from shoal.erasure import BLOCK_BYTES, MAX_SHARES, Layout, Manifest, ShareEncoder
from shoal.node.cipher import KEY_BYTES, FileCipher, FileKind, Metadata
from shoal.node.context import Context
from shoal.node.errors import LocalError
from shoal.node.holders.line import Line
from shoal.node.home.ledger import Ledger
from shoal.node.names import name_bytes, printable
from shoal.node.nursery import open_nursery
from shoal.node.publishing.completion import Completion, OtherBytes
from shoal.node.publishing.journal import AnyJournal, JournalEntry, UploadNote
from shoal.node.publishing.lanes import SENDERS, DropReason, Lane, abort_all, reasons_of
from shoal.node.publishing.options import PublishOptions
from shoal.node.publishing.recruit import Recruiter, find_candidates, recruit_crew, share_bound, too_few
from shoal.node.publishing.sealing import Sealer
from shoal.node.publishing.second_look import Sealed, SecondLook
from shoal.node.publishing.small import MIN_UP_BYTES_PER_S, SMALL_BYTES, SmallFile, is_small
from shoal.node.publishing.sources import Source, SourceChanged
from shoal.node.publishing.stream_source import StreamSource
from shoal.node.results import OnProgress, Phase, Progress, Published

CHECKPOINT_BYTES = 32 * 2**20  # plaintext between two checkpoints: what a resumed publish seals again at most
FIRST_CHECKPOINT_BYTES = 8 * 2**20  # sooner: of a middling file, too, half must not have been sent in vain
CHECKPOINT_S = 5.0  # over a slow line so many bytes take minutes; holders are not asked to sync more often than this
PEEK_BYTES = 2**20  # of a pipe, read ahead to choose the width: from here on the widest code applies


class Publisher:
    """One publish from start to end."""

    def __init__(
        self,
        context: Context,
        ledger: Ledger,
        source: Source,
        journal: AnyJournal,
        options: PublishOptions,
        on_progress: OnProgress | None,
    ) -> None:
        self._context = context
        self._env = context.env
        self._ledger = ledger
        self._source = source
        self._journal = journal
        self._options = options
        self._on_progress = on_progress
        self._lanes: list[Lane] = []
        self._candidates: list[Contact] = []
        self._refusals: Counter[DropReason] = Counter()
        self._marks: list[tuple[int, list[Any], bytes, int]] = []
        self._is_resumed = False
        self._entry: JournalEntry

    async def run(self) -> Published:
        """Publish the source, whose options were checked. See `Node.publish` for what is raised."""
        started = trio.current_time()
        with self._journal.locked():
            self._report(Phase.CONNECTING, 0)
            await self._env.call(self._ledger.check)
            try:
                return await self._run(started)
            except SourceChanged:  # what was read is not one file: nobody shall keep what was sent of it
                await abort_all(self._context, self._lanes)
                await self._env.call(self._journal.remove)
                raise

    async def _run(self, started: float) -> Published:
        encoder = await self._begin()
        try:
            return await self._finish(encoder, started)
        except OtherBytes:
            if not self._is_resumed:
                raise
        # The file changed behind the last checkpoint, where holders have more than can be proven from here.
        await abort_all(self._context, self._lanes)
        return await self._finish(await self._start_afresh(), started)

    async def _finish(self, encoder: ShareEncoder | None, started: float) -> Published:
        """Send what is not sent yet, and complete the file."""
        if encoder is not None:
            await self._stream(encoder)
        return await self._complete(started)

    # --- beginning: afresh, or where an earlier run stopped

    async def _begin(self) -> ShareEncoder | None:
        """Lanes and an encoder, or None when all blocks were sent by an earlier run."""
        entry = await self._env.call(self._load, self._env.wall())
        if entry is None:
            return await self._start_afresh()
        if not entry.uploads and entry.manifest and is_small(Manifest.decode(entry.manifest).layout, entry.size):
            await self._find_candidates(entry.size)
            self._is_resumed = await self._give(entry)
            return None if self._is_resumed else await self._start_afresh()
        if await self._resume(entry):
            return None if entry.manifest else self._encoder_at(entry)
        return await self._start_afresh()

    def _load(self, now: float) -> JournalEntry | None:
        """What an earlier run left. Called in a worker."""
        entry = self._journal.load(self._source.claimed_size, now)
        self._journal.sweep()
        return entry

    def _encoder_at(self, entry: JournalEntry) -> ShareEncoder:
        if entry.encoder is None:
            return ShareEncoder(entry.k, entry.n, self._context.codec)
        return ShareEncoder.from_state(self._context.codec, entry.encoder)

    async def _resume(self, entry: JournalEntry) -> bool:
        """Take an interrupted publish up again, if enough of its holders still have what they had, and if that is still
        what the file holds."""
        lanes = [Lane(note.share, note.contact, note.upload_id) for note in entry.uploads]
        layout = Manifest.decode(entry.manifest).layout if entry.manifest else None
        needed = entry.segment if layout is None else layout.segment_count
        bound = share_bound(entry.k, entry.n, self._source.size)
        async with open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(lane.offer, self._context, bound, self._options.ttl_s)
        for lane in lanes:
            if lane.alive and lane.durable < needed:
                lane.reason = DropReason.LOST_BLOCKS
        alive = [lane for lane in lanes if lane.alive]
        if len(alive) < entry.k or not await self._is_as_sent(entry, needed):
            await abort_all(self._context, lanes)
            return False
        for lane in alive:  # segments before a checkpoint are all full
            lane.resumed_bytes = entry.segment * BLOCK_BYTES if layout is None else layout.share_bytes
        self._is_resumed, self._entry, self._lanes = True, entry, lanes
        return True

    async def _is_as_sent(self, entry: JournalEntry, segments: int) -> bool:
        """Whether the file is, as far as it was sent, what it was then. Its reading then goes on from there."""
        ends = bool(entry.manifest) or self._encoder_at(entry).finished
        sealed = Sealed(segments, entry.chain, entry.size, ends)
        look = self._second_look(entry)
        try:
            if entry.manifest:
                await look.require(sealed)
                return True
            found = await look.finds(sealed)
            await self._source.seek(segments * Layout.for_plaintext(entry.k, entry.n, 0).segment_plain_bytes)
            return found
        except SourceChanged:
            return False

    def _second_look(self, entry: JournalEntry) -> SecondLook:
        cipher = FileCipher(entry.file_key)
        return SecondLook(self._source, cipher, entry.k, self._env, lambda done: self._report(Phase.VERIFYING, done))

    async def _find_candidates(self, size: int | None) -> None:
        self._candidates = await find_candidates(self._context, self._options.width(size, MAX_SHARES)[1])
        self._report(Phase.PLACING, 0)

    async def _start_afresh(self) -> ShareEncoder | None:
        """Recruit hosts, settle k and n, and note everything in the journal before the first byte leaves.

        None for a small file that has been given away whole.
        """
        self._is_resumed, self._marks, self._lanes = False, [], []
        if self._source.identity is not None:
            await self._source.seek(0)
        size = await self._source.peek(PEEK_BYTES)
        await self._find_candidates(size)
        if size is not None and await self._give(self._small_entry(size)):
            return None
        crew = await recruit_crew(self._context, self._candidates, self._options, size)
        self._lanes, self._refusals = crew.lanes, crew.refusals
        self._entry = self._new_entry(crew.k, crew.n, crew.possible_n, _notes(crew.lanes))
        await self._save(self._entry)
        return ShareEncoder(crew.k, crew.n, self._context.codec)

    def _new_entry(self, k: int, n: int, possible_n: int, uploads: tuple[UploadNote, ...]) -> JournalEntry:
        return JournalEntry(
            source_size=self._source.claimed_size,
            file_key=self._env.entropy(KEY_BYTES),
            owner_secret=self._env.entropy(KEY_BYTES),
            k=k,
            n=n,
            possible_n=possible_n,
            started_at=self._env.wall(),
            uploads=uploads,
        )

    # --- a small file

    def _small_entry(self, size: int) -> JournalEntry:
        """For the code that the file would have if all candidates agreed."""
        k, n = self._options.width(size, self._count_hosts())
        return self._new_entry(k, n, n, ())

    def _count_hosts(self) -> int:
        return Recruiter(self._context, self._candidates, 0, self._env.rng).candidates

    async def _give(self, entry: JournalEntry) -> bool:
        """Seal a small file, and give each share to a host at once; see `small`. Whether that was done.

        With a manifest in the entry it is the file of an earlier run, if the source still has the same bytes.
        """
        layout = Layout.for_plaintext(entry.k, entry.n, self._source.size or 0)
        up = self._context.throttle.up.bytes_per_s or math.inf  # a slow line of our own would make hosts late
        if not is_small(layout, self._source.size) or self._count_hosts() < entry.n:
            return False
        if up < MIN_UP_BYTES_PER_S or self._context.throttle.holds_back(trio.current_time()):
            return False
        stream = self._source if isinstance(self._source, StreamSource) else None
        plaintext = b"" if stream is None else await stream.read(SMALL_BYTES)
        if stream is not None:
            stream.put_back(plaintext)
        cipher, self._entry = FileCipher(entry.file_key), entry
        sealer = Sealer(self._source, cipher, ShareEncoder(entry.k, entry.n, self._context.codec), self._env)
        batch = await sealer.next_batch()
        assert batch is not None, "even of an empty file there is padding to seal"
        if entry.manifest and (sealer.chain, sealer.size) != (entry.chain, entry.size):
            return False
        await self._finish_source(Sealed(1, sealer.chain, sealer.size, ends=True))
        if not entry.manifest:
            await self._settle(sealer, cipher)
        small = SmallFile(self._context, self._options, self._entry, batch.segments[0].blocks)
        self._lanes = await small.give(self._candidates, self._note_given)
        if self._lanes:
            self._refusals = small.refusals
            self._candidates = [each for each in self._candidates if each.node_id not in small.refused_by]
            return True
        if stream is None:
            await self._source.seek(0)
        else:
            stream.put_back(plaintext)
        return False

    def _note_given(self, lane: Lane) -> None:
        self._lanes.append(lane)
        self._report(Phase.SENDING, self._entry.size if len(self._lanes) >= self._entry.n else 0)

    # --- streaming

    async def _stream(self, encoder: ShareEncoder) -> None:
        """All blocks to all lanes, then the manifest."""
        cipher = FileCipher(self._entry.file_key)
        sealer = Sealer(self._source, cipher, encoder, self._env, self._entry.chain)
        turns = trio.CapacityLimiter(SENDERS)
        async with Line(self._context.throttle).watched() as line, open_nursery() as nursery:
            for lane in self._lanes:
                if lane.alive:
                    await nursery.start(lane.run, self._context, turns, line)
            await self._feed(sealer)
            for lane in self._lanes:
                lane.close()
        await abort_all(self._context, (lane for lane in self._lanes if not lane.alive))
        await self._finish_source(Sealed(encoder.segment_count, sealer.chain, sealer.size, ends=True))
        self._require_alive()
        await self._settle(sealer, cipher)

    async def _finish_source(self, sealed: Sealed) -> None:
        """Make sure that what was read is one file."""
        await self._source.finish()
        if self._source.identity is not None:
            await self._second_look(self._entry).require(sealed)

    async def _feed(self, sealer: Sealer) -> None:
        def tell() -> None:
            self._report(Phase.SENDING, min(sealer.size, self._sent_bytes()))

        for lane in self._lanes:
            lane.on_sent = tell
        tell()
        checkpoint, due = sealer.size + FIRST_CHECKPOINT_BYTES, trio.current_time() + CHECKPOINT_S
        while (batch := await sealer.next_batch()) is not None:
            reached = batch.plain_bytes >= checkpoint or trio.current_time() >= due
            sync = reached and self._journal.is_kept
            for lane in self._lanes:
                await lane.put(batch, sync)
            self._require_alive()
            if sync:
                checkpoint, due = batch.plain_bytes + CHECKPOINT_BYTES, trio.current_time() + CHECKPOINT_S
                self._marks.append((batch.end, batch.state, batch.chain, batch.plain_bytes))
            await self._checkpoint()

    def _sent_bytes(self) -> int:
        """Bytes of the file, padding included, that every living holder has received."""
        blocks = min((lane.received for lane in self._lanes if lane.alive), default=0)
        return blocks * Layout.for_plaintext(self._entry.k, self._entry.n, 0).segment_plain_bytes

    def _require_alive(self) -> None:
        alive = sum(lane.alive for lane in self._lanes)
        if alive < self._entry.k:
            self._refusals.update(reasons_of(self._lanes))
            raise too_few(alive, self._entry.k, self._refusals)

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
        metadata = Metadata(
            sealer.size,
            _checked_name(name),
            self._options.media_type,
            kind=FileKind.FILE if self._source.folder is None else FileKind.DIRECTORY,
            lease_s=self._options.short_lease_s,
            folder=self._source.folder,
        )
        manifest = Manifest(
            k=self._entry.k,
            n=self._entry.n,
            block_bytes=BLOCK_BYTES,
            ciphertext_bytes=roots.ciphertext_bytes,
            data_root=roots.data_root,
            share_roots=roots.share_roots,
            metadata=cipher.seal_metadata(metadata, self._env.entropy),
            key_commitment=cipher.commitment,
            owner_key=self._env.scheme.public_key(self._entry.owner_secret),
            public_key_material=self._entry.file_key if self._options.public else b"",
        )
        self._entry = replace(self._entry, manifest=manifest.encode(), chain=sealer.chain, size=sealer.size)
        await self._save(self._entry)

    # --- the end

    async def _complete(self, started: float) -> Published:
        completion = Completion(
            self._context,
            self._entry,
            public=self._options.public,
            happy=self._options.happy_with(self._entry.possible_n),
            ttl_s=self._options.ttl_s,
            report=lambda phase, shares: self._report(phase, self._entry.size, shares),
        )
        outcome = await completion.run(self._lanes, self._candidates, self._refusals)
        name = self._options.name if self._options.name is not None else self._source.name
        published = outcome.published(trio.current_time() - started, self._lanes)
        if self._source.folder is not None:
            published = replace(published, size=self._source.folder.content_bytes, entries=self._source.entries)
        is_over = published.complete or not published.can_complete
        now = self._env.wall()

        def conclude() -> None:
            self._ledger.add(published, name, self._entry.owner_secret, now, outcome.lease_end)
            if is_over:
                self._journal.remove()

        await self._env.call(conclude)
        if not is_over:
            await self._save(replace(self._entry, uploads=_notes(lane for lane in self._lanes if lane.alive)))
        return published

    async def _save(self, entry: JournalEntry) -> None:
        await self._env.call(self._journal.save, entry)

    def _report(self, phase: Phase, done: int, shares: int | None = None) -> None:
        if self._on_progress is None:
            return
        alive = sum(lane.alive for lane in self._lanes) if shares is None else shares
        wanted = len(self._lanes) if phase is Phase.PLACING else max(len(self._lanes), alive)
        files, total_files = self._source.files(done) or (None, None)
        self._on_progress(Progress(phase, done, self._source.size, alive, wanted, alive, files, total_files))


def _notes(lanes: Iterable[Lane]) -> tuple[UploadNote, ...]:
    """The lanes for the journal: those that the same command can take up again."""
    return tuple(UploadNote(lane.share, lane.contact, lane.upload_id) for lane in lanes)


def _checked_name(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        name_bytes(name)
    except ValueError as error:
        raise LocalError(f"The file name {printable(name)} cannot be published: it is {error}. Use --name.") from error
    return name
