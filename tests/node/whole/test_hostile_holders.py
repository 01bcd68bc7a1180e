"""Fetching from holders that lie, stall and vanish: any k honest ones suffice, soon, and nothing wrong comes out.

One network serves many cases: publish once, turn holders into liars, fetch, turn them honest again.
"""

import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from kit.cases import case
from kit.lying import handlers
from kit.worlds import chunks, node_id, start_nodes
from shoal.dht import Address, Announcement, Contact, Identity, NodeId, Reach, RecordKey
from shoal.erasure import (
    BLOCK_BYTES,
    FileId,
    Frontier,
    Layout,
    Link,
    LinkKind,
    Manifest,
    ShareEncoder,
    best_codec,
    data_node,
    padded_size,
)
from shoal.node import BadData, Published, TooFewShares
from shoal.node.channel import (
    Blocks,
    Buffer,
    Caller,
    Commit,
    GetHolders,
    GetManifest,
    HolderList,
    ManifestBytes,
    Offer,
    Read,
    Reply,
    RequestError,
    Status,
    TellHolders,
    Write,
)
from shoal.node.cipher import FileCipher, Metadata
from shoal.node.fetching.targets import part_path
from shoal.node.holders.announcers import CLASSES, Hint, announcers, class_key, pack_announcement
from shoal.node.holders.search import Search
from shoal.node.holders.statements import make_statement, pack_statements
from shoal.simulation.streams import VirtualStream
from shoal.simulation.world import Machine, World, run_world

Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]
Lie = Callable[[Handler, Any, random.Random], Awaitable[Reply]]

K, N = 4, 12
SEGMENTS = 3
SOON_S = 40.0  # a fetch among liars; a healthy one takes about one second
GIVE_UP_S = 160.0  # two searches, of 65 s and 35 s at most, and 60 s without progress


@dataclass(frozen=True)
class Shared:
    """What the cases have in common: a file on every node, and another one on every node."""

    world: World
    published: Published
    data: bytes
    other: Published

    def holders(self, published: Published | None = None) -> list[Machine]:
        """The machines that hold a share, by its number."""
        by_host = {machine.host: machine for machine in self.world.running()}
        return [by_host[address.host] for _, address in sorted((published or self.published).holders.items())]


async def prepare(world: World) -> Shared:
    await start_nodes(world, N, 20)
    data = world.rng.randbytes(SEGMENTS * K * BLOCK_BYTES - 100_000)
    async with world.client("publisher") as client:
        published = await client.publish(chunks(data), name="file", needed=K, total=N)
        other = await client.publish(chunks(world.rng.randbytes(len(data))), needed=K, total=N)
    assert published.complete
    assert other.complete
    return Shared(world, published, data, other)


@contextmanager
def lying(machines: Sequence[Machine], request: type, lie: Lie, rng: random.Random) -> Iterator[None]:
    """Within the block these machines answer one kind of request through `lie(honest handler, request, rng)`."""
    kept = []
    for machine in machines:
        table = handlers(machine)
        honest = table[request]
        kept.append((table, honest))

        async def liar(caller: Caller, asked: Any, payload: Buffer, honest: Handler = honest) -> Reply:
            return await lie(lambda _, other, data: honest(caller, other, data), asked, rng)

        table[request] = liar
    try:
        yield
    finally:
        for table, honest in kept:
            table[request] = honest


@contextmanager
def rewired(world: World, machines: Sequence[Machine], wrap: Callable[[VirtualStream], Any]) -> Iterator[None]:
    """Within the block new connections to these machines go through a stream that behaves badly."""
    listeners = [world.streams.listeners[machine.address] for machine in machines]
    handlers = [listener.handler for listener in listeners]
    for machine in machines:
        world.streams.kill(machine.host)
    for listener, handler in zip(listeners, handlers, strict=True):

        async def bad(stream: Any, handler: Any = handler) -> None:
            await handler(wrap(stream))

        listener.handler = bad
    try:
        yield
    finally:
        for machine, listener, handler in zip(machines, listeners, handlers, strict=True):
            listener.handler = handler
            world.streams.kill(machine.host)


async def fetch(world: World, link: Link, limit_s: float) -> bytes:
    with trio.fail_after(limit_s):
        async with world.client(f"reader {world.rng.random()}") as client, client.open_fetch(link) as file:
            return b"".join([chunk async for chunk in file])


# --- lies about blocks


def changed(**edits: Callable[[bytes, random.Random], bytes]) -> Lie:
    """An honest reply with some of its fields edited."""

    async def lie(honest: Handler, request: Read, rng: random.Random) -> Reply:
        reply: Any = await honest(Caller(Address("10.0.0.1", 1)), request, b"")
        edited: Reply = replace(reply, **{name: edit(bytes(getattr(reply, name)), rng) for name, edit in edits.items()})
        return edited

    return lie


def flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return bytes(32)
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def asked_otherwise(edit: Callable[[Read], Read]) -> Lie:
    """The honest reply to another request."""

    async def lie(honest: Handler, request: Read, rng: random.Random) -> Reply:
        return await honest(Caller(Address("10.0.0.1", 1)), edit(request), b"")

    return lie


async def fewer_leaves(honest: Handler, request: Read, rng: random.Random) -> Reply:
    """All blocks, and data leaves with a valid proof of the first of them only."""
    caller = Caller(Address("10.0.0.1", 1))
    whole: Any = await honest(caller, request, b"")
    if request.count == 1:
        part: Any = Blocks(b"", b"", b"", b"")
    else:
        part = await honest(caller, replace(request, count=request.count - 1), b"")
    fewer: Reply = replace(whole, data_leaves=part.data_leaves, data_proof=part.data_proof)
    return fewer


def says(status: Status) -> Lie:
    async def lie(honest: Handler, request: Any, rng: random.Random) -> Reply:
        raise RequestError(status, text="because")

    return lie


async def never(honest: Handler, request: Any, rng: random.Random) -> Reply:
    await trio.sleep_forever()
    raise AssertionError


async def a_little_later(honest: Handler, request: Any, rng: random.Random) -> Reply:
    """Honest, but the liars speak first."""
    await trio.sleep(0.2)
    return await honest(Caller(Address("10.0.0.1", 1)), request, b"")


async def after_minutes(honest: Handler, request: Any, rng: random.Random) -> Reply:
    await trio.sleep(200)
    return await honest(Caller(Address("10.0.0.1", 1)), request, b"")


CORRUPT: dict[str, Lie] = {
    "block": changed(payload=flip),
    "share proof": changed(share_proof=flip),
    "one byte less": changed(payload=lambda data, _: data[:-1]),
    "one byte more": changed(payload=lambda data, _: data[:-2] + b"abc"),
    "a block more": changed(payload=lambda data, _: data + bytes(BLOCK_BYTES)),
    "a block less": changed(payload=lambda data, _: data[BLOCK_BYTES:]),
    "nothing": changed(payload=lambda data, _: b""),
    "nothing at all": changed(**dict.fromkeys(Blocks.__slots__, lambda data, _: b"")),
    "zeros": changed(payload=lambda data, _: bytes(len(data))),
    "another range": asked_otherwise(
        lambda read: replace(read, first_block=(read.first_block + 1) % SEGMENTS, count=1)
    ),
    "a longer proof": changed(share_proof=lambda data, _: data + bytes(32)),
}
WRONG_LEAVES: dict[str, Lie] = {
    "data leaf": changed(data_leaves=flip),
    "data proof": changed(data_proof=flip),
    "no data leaves": changed(data_leaves=lambda data, _: b"", data_proof=lambda data, _: b""),
    "fewer data leaves": fewer_leaves,
    "more data leaves": changed(data_leaves=lambda data, _: data + data[:32]),
}
SILENT: dict[str, Lie] = {
    "not found": says(Status.NOT_FOUND),
    "refused": says(Status.REFUSED),
    "full": says(Status.FULL),
    "busy": says(Status.BUSY),
    "internal": says(Status.INTERNAL),
    "forbidden": says(Status.FORBIDDEN),
    "never": never,
    "after minutes": after_minutes,
}


class Dripping:
    """A stream that sends one byte each second, but for the opening."""

    def __init__(self, stream: VirtualStream) -> None:
        self._stream = stream
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, *buffers: Buffer) -> None:
        for data in map(bytes, buffers):
            self._sent += len(data)
            if self._sent < 20_000:
                await self._stream.send(data)
                continue
            for value in data:
                await self._stream.send(bytes([value]))
                await trio.sleep(1)


class Cut(Dripping):
    """A stream that is reset in the middle of a large reply."""

    async def send(self, *buffers: Buffer) -> None:
        for data in map(bytes, buffers):
            if len(data) > 20_000:
                await self._stream.send(data[: len(data) // 2])
                self._stream.abort()
            await self._stream.send(data)


async def among_liars(shared: Shared, name: str, lie: Lie, rng: random.Random) -> None:
    """With n-k liars the file comes; with one more it does not, and the numbers are right."""
    holders = shared.holders()
    rng.shuffle(holders)
    with lying(holders[K:], Read, lie, rng), lying(holders[:K], Read, a_little_later, rng):
        assert await fetch(shared.world, shared.published.link, SOON_S) == shared.data
    if name in WRONG_LEAVES:
        return  # their blocks are good
    with lying(holders[K - 1 :], Read, lie, rng):
        error = BadData if name in CORRUPT and name != "a block more" else TooFewShares
        with pytest.raises(error) as caught:
            await fetch(shared.world, shared.published.link, GIVE_UP_S)
        if isinstance(caught.value, TooFewShares):
            assert (caught.value.needed, caught.value.found) == (K, K - 1)


@pytest.mark.parametrize(
    ("seed", "lies"), [(1, CORRUPT), (2, WRONG_LEAVES), (3, SILENT)], ids=["corrupt", "leaves", "silent"]
)
def test_k_honest_holders_are_enough_whatever_the_others_say(seed: int, lies: dict[str, Lie], tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        for name, lie in lies.items():
            with case(name):
                await among_liars(shared, name, lie, world.rng)

    run_world(seed, tmp_path, story)


def test_holders_that_drip_or_break_off(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        for wrap in (Dripping, Cut):
            with case(wrap.__name__):
                holders = shared.holders()
                world.rng.shuffle(holders)
                with rewired(world, holders[K:], wrap):
                    assert await fetch(world, shared.published.link, SOON_S) == shared.data
                with rewired(world, holders[K - 1 :], wrap):
                    with pytest.raises(TooFewShares) as caught:
                        await fetch(world, shared.published.link, GIVE_UP_S)
                    assert caught.value.found == K - 1

    run_world(3, tmp_path, story)


def test_blocks_of_another_file_or_of_another_share(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        holders = shared.holders()
        others = {machine.name: share for share, machine in enumerate(shared.holders(shared.other))}
        liars = world.rng.sample(holders, N - K)

        async def another_file(honest: Handler, request: Read, rng: random.Random) -> Reply:
            machine = holders[request.share_number]
            asked = replace(request, file_id=shared.other.link.id, share_number=others[machine.name])
            return await honest(Caller(machine.address), asked, b"")

        async def another_share(honest: Handler, request: Read, rng: random.Random) -> Reply:
            share = (request.share_number + 1) % N
            asked = replace(request, share_number=share)
            return await handlers(holders[share])[Read](Caller(holders[share].address), asked, b"")

        for lie in (another_file, another_share):
            with case(lie.__name__), lying(liars, Read, lie, world.rng):
                assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(4, tmp_path, story)


# --- lies about manifests and holders

BLACK_HOLE = "10.99."  # nothing sent there is ever answered


def fall_silent(one: str, other: str) -> bool:
    return one.startswith(BLACK_HOLE) or other.startswith(BLACK_HOLE)


def nowhere(rng: random.Random) -> Contact:
    return Contact(NodeId(rng.randbytes(32)), Address(f"{BLACK_HOLE}{rng.randrange(256)}.{rng.randrange(256)}", 1))


def answers(reply: Callable[[random.Random], Reply]) -> Lie:
    async def lie(honest: Handler, request: Any, rng: random.Random) -> Reply:
        return reply(rng)

    return lie


def answers_with(reply: Reply) -> Lie:
    return answers(lambda _: reply)


def garbage_manifests(manifest: Manifest, other: Manifest) -> dict[str, Lie]:
    encoded = manifest.encode()
    return {
        "another file's": answers(lambda _: ManifestBytes(other.encode())),
        "one bit": answers(lambda rng: ManifestBytes(flip(encoded, rng))),
        "cut": answers(lambda rng: ManifestBytes(encoded[: rng.randrange(len(encoded))])),
        "none": answers(lambda _: ManifestBytes(b"")),
        "noise": answers(lambda rng: ManifestBytes(rng.randbytes(16 * 1024))),
        "huge": answers(lambda _: ManifestBytes(bytes(10**6))),
        "deep": answers(lambda _: ManifestBytes(b"\x91" * 16_000)),
        "huge file": answers(lambda _: ManifestBytes(replace(manifest, ciphertext_bytes=2**54 - 40).encode())),
        **SILENT,
    }


def test_manifests_that_are_none(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        store = world.machines["node-0"].serving.store
        ids = shared.published.link.id, shared.other.link.id
        manifest, other = [Manifest.decode(store.manifest(file_id) or b"") for file_id in ids]
        for name, lie in garbage_manifests(manifest, other).items():
            liars = world.rng.sample(shared.holders(), N - 1)
            with case(name), lying(liars, GetManifest, lie, world.rng):
                assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(5, tmp_path, story)


def statements(world: World, shared: Shared, count: int, *, ids: int) -> list[bytes]:
    """Valid statements, signed by `ids` identities of a liar, all naming a black hole."""
    rng, scheme = world.rng, world.machines["node-0"].environment.scheme
    liars = [Identity.create(0, rng.randbytes, scheme) for _ in range(ids)]
    now = world.machines["node-0"].environment.wall()
    return [
        make_statement(
            liars[at % ids],
            world.network.parameters.network_id,
            FileId(shared.published.link.id),
            (at // ids if ids < count else at) % N,
            Reach.of(nowhere(rng).address),
            int(now) + 10**6,
            now,
        ).signed
        for at in range(count)
    ]


def test_holder_lists_full_of_lies(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        world.streams.separate(fall_silent)
        by_one, by_many = statements(world, shared, N, ids=1), statements(world, shared, 1024, ids=1024)
        forged = [flip(each, world.rng) for each in by_many]
        lists = {
            "garbage": b"garbage",
            "not bytes": msgpack.packb([1, None, "x", [[]]]),
            "empty": msgpack.packb([]),
            "one liar": pack_statements(by_one),
            "many liars": pack_statements(by_many),
            "forged": pack_statements(forged),
            "endless": pack_statements(by_many)[:-1],
        }
        for name, payload in lists.items():
            with (
                case(name),
                lying(shared.holders()[1:], GetHolders, answers_with(HolderList(payload)), world.rng),
            ):
                assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(6, tmp_path, story)


# --- lies about who holds what


async def announce(machine: Machine, file_id: FileId, hints: list[Hint], *, own: bytes = bytes(range(N))) -> None:
    """A node announces a file as its holders do, with what it likes."""
    items = [
        Announcement(RecordKey(class_key(file_id, number)), pack_announcement(own, hints)) for number in range(CLASSES)
    ]
    assert machine.node is not None
    reports = await machine.node.context.dht.announce(items)
    assert all(report.stored for report in reports)


def test_announcements_that_name_the_dead_and_the_lying(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        world.streams.separate(fall_silent)
        liars = [await world.start(f"liar-{number}") for number in range(4)]
        await trio.sleep(30)
        for liar in liars:
            true = [(share, node_id(machine)) for share, machine in enumerate(shared.holders())]
            hints = [Hint(share, replace(nowhere(world.rng), node_id=holder)) for share, holder in true]
            await announce(liar, FileId(shared.published.link.id), hints)
        for lie in (says(Status.NOT_FOUND), never):
            with ExitStack() as lies, case(str(lie)):
                for request in (Read, GetManifest, GetHolders):
                    lies.enter_context(lying(liars, request, lie, world.rng))
                for _ in range(3):
                    assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(7, tmp_path, story)


def test_holders_named_by_dead_announcers_alone(tmp_path: Path) -> None:
    """Any k live holders stay findable when every announcer is dead or silent."""

    async def story(world: World) -> None:
        shared = await prepare(world)
        node_ids = {node_id(machine): machine for machine in shared.holders()}
        chosen = announcers(FileId(shared.published.link.id), list(node_ids))
        signers = {holder for ids in chosen.values() for holder in ids}
        silent = [machine for holder, machine in node_ids.items() if holder in signers]
        silent += [machine for machine in shared.holders() if machine not in silent][: N - K - len(silent)]
        with ExitStack() as lies:
            for request in (Read, GetManifest, GetHolders):
                lies.enter_context(lying(silent, request, never, world.rng))
            assert await fetch(world, shared.published.link, 2 * SOON_S) == shared.data

    run_world(8, tmp_path, story)


def test_lookups_that_are_held_up_leave_time_for_the_thorough_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Liars on all paths of the first lookups may drag them out for ever; those on more paths have their own time."""
    honest = Search.search_class

    async def held_up(search: Search, number: int, thorough: bool) -> None:
        if not thorough:
            await trio.sleep_forever()
        await honest(search, number, thorough)

    monkeypatch.setattr(Search, "search_class", held_up)

    async def story(world: World) -> None:
        shared = await prepare(world)
        assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(14, tmp_path, story)


def test_two_holders_of_one_share_of_whom_one_lies(tmp_path: Path) -> None:
    """Liars offer the shares of the k honest holders; all other holders are away."""

    async def story(world: World) -> None:
        shared = await prepare(world)
        holders = shared.holders()
        honest = sorted(world.rng.sample(range(N), K))
        liars = [await world.start(f"liar-{number}") for number in range(K)]
        await trio.sleep(30)
        for liar in liars:
            contacts = [Contact(node_id(each), each.address) for each in liars]
            hints = [
                Hint(share, contact) for share in honest for contact in contacts if contact.address != liar.address
            ]
            await announce(liar, FileId(shared.published.link.id), hints[:12], own=bytes(honest))
        dead = [machine for share, machine in enumerate(holders) if share not in honest]
        pretend = answers(lambda rng: Blocks(b"", b"", b"", rng.randbytes(BLOCK_BYTES)))
        for name, lie in {"noise": pretend, **SILENT}.items():
            with case(name), lying(dead, Read, says(Status.NOT_FOUND), world.rng), lying(liars, Read, lie, world.rng):
                assert await fetch(world, shared.published.link, SOON_S) == shared.data

    run_world(9, tmp_path, story)


# --- publishers that lie


@dataclass(frozen=True)
class Forgery:
    """What a malicious publisher makes of a file: shares and a manifest that honest holders will accept."""

    manifest: Manifest
    shares: list[list[bytes]]
    leaves: list[bytes]
    link: Link


def forge(
    world: World,
    *,
    size: int = 300_000,
    said: int | None = None,
    fill: bytes = b"\0",
    mixed: bool = False,
    false_leaves: bool = False,
    garbled: bool = False,
    **fields: Any,
) -> Forgery:
    """A file whose shares are kept by its manifest, and which is false in one of many ways."""
    rng, key = world.rng, world.rng.randbytes(32)
    cipher = FileCipher(key)
    layout = Layout.for_plaintext(K, N, size)
    plain = rng.randbytes(size).ljust(padded_size(size), fill)
    encoders = [ShareEncoder(K, N, best_codec()) for _ in range(2)]
    columns: list[list[bytes]] = [[] for _ in range(N)]
    leaves = []
    step, last = layout.segment_plain_bytes, layout.segment_count - 1
    for index in range(layout.segment_count):
        sealed = cipher.seal_segment(index, index == last, plain[index * step : (index + 1) * step])
        if garbled:
            sealed = rng.randbytes(len(sealed))
        one = encoders[0].add_segment(sealed, index == last)
        two = encoders[1].add_segment(rng.randbytes(len(sealed)), index == last)
        leaves.append(rng.randbytes(32) if false_leaves else one.data_leaf)
        for share in range(N):
            columns[share].append(bytes((two if mixed and share >= K else one).blocks[share]))
    roots, others = encoders[0].finish(), encoders[1].finish()
    tree = Frontier(data_node)
    for leaf in leaves:
        tree.append(leaf)
    manifest = Manifest(
        **{
            "k": K,
            "n": N,
            "block_bytes": BLOCK_BYTES,
            "ciphertext_bytes": roots.ciphertext_bytes,
            "data_root": tree.root(),
            "share_roots": (*roots.share_roots[:K], *(others if mixed else roots).share_roots[K:]),
            "metadata": cipher.seal_metadata(Metadata(size if said is None else said, "x"), rng.randbytes),
            "key_commitment": cipher.commitment,
            "owner_key": bytes(32),
            **fields,
        }
    )
    return Forgery(manifest, columns, leaves, Link(manifest.id, LinkKind.PRIVATE, key))


async def plant(shared: Shared, forgery: Forgery) -> None:
    """Upload the forged file to honest holders, who find nothing wrong with it, and have it announced."""
    world, file_id = shared.world, forgery.manifest.id
    async with world.client(f"forger {world.rng.random()}") as client:
        context: Any = client.context
        signed, contacts = [], [Contact(node_id(each), each.address) for each in shared.holders()]
        for share, contact in enumerate(contacts):
            upload = world.rng.randbytes(16)
            await context.ask(contact, Offer(upload, 0, 86400, b""))
            write = Write(upload, 0, b"".join(forgery.leaves), False)
            await context.ask(contact, write, payload=forgery.shares[share])
            payload = [forgery.manifest.encode()]
            signed.append((await context.ask(contact, Commit(upload, share, 86400), payload=payload)).statement)
        for contact in contacts:
            await context.ask(contact, TellHolders(file_id), payload=[pack_statements(signed)])
    hints = [Hint(share, contact) for share, contact in enumerate(contacts)]
    await announce(shared.holders()[0], file_id, hints[1:], own=b"\0")


def test_malicious_publishers_are_found_out_and_no_holder_is_blamed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shared = await prepare(world)
        forgeries = {
            "honest": forge(world),
            "two files in one": forge(world, mixed=True),
            "a data root that lies": forge(world, false_leaves=True),
            "padding that is not zeros": forge(world, fill=b"\1"),
            "padding that hides a byte": forge(world, said=299_999),
            "a size that is too small": forge(world, said=1000),
            "a size that is too large": forge(world, said=2**60),
            "garbled segments": forge(world, garbled=True),
            "metadata that is noise": forge(world, metadata=world.rng.randbytes(296)),
            "no metadata": forge(world, metadata=b""),
        }
        for name, forgery in forgeries.items():
            with case(name):
                await plant(shared, forgery)
                away = shared.holders()[: 2 if name == "two files in one" else 0]
                with lying(away, Read, says(Status.NOT_FOUND), world.rng):
                    if name == "honest":
                        assert len(await fetch(world, forgery.link, SOON_S)) == 300_000
                        continue
                    with pytest.raises(BadData) as caught:
                        await fetch(world, forgery.link, SOON_S)
                assert "hold wrong bytes" not in str(caught.value)

    run_world(10, tmp_path, story)


def test_a_manifest_of_impossible_size(tmp_path: Path) -> None:
    """Numbers that a manifest may have and no network can hold cost neither memory nor time."""

    async def story(world: World) -> None:
        shared = await prepare(world)
        for k, n in ((K, N), (256, 256), (1, 256)):
            layout = Layout.for_plaintext(k, n, 2**53)
            roots = tuple(world.rng.randbytes(32) for _ in range(n))
            numbers: dict[str, Any] = {
                "k": k,
                "n": n,
                "share_roots": roots,
                "ciphertext_bytes": layout.ciphertext_bytes,
            }
            forgery = forge(world, said=2**53, **numbers)
            machine = shared.holders()[0]
            hints = [Hint(share, Contact(node_id(each), each.address)) for share, each in enumerate(shared.holders())]
            await announce(machine, forgery.manifest.id, hints)
            payload = ManifestBytes(forgery.manifest.encode())
            lie = answers_with(payload)
            with (
                lying(shared.holders(), GetManifest, lie, world.rng),
                pytest.raises(TooFewShares) as caught,
            ):
                await fetch(world, forgery.link, GIVE_UP_S)
            assert (caught.value.needed, caught.value.found) == (k, 0)

    run_world(11, tmp_path, story)


def test_a_fetch_that_fails_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "target"

    async def story(world: World) -> None:
        shared = await prepare(world)
        for lie in (never, CORRUPT["block"], says(Status.INTERNAL)):
            with lying(shared.holders()[K - 1 :], Read, lie, world.rng):
                async with world.client(f"reader {world.rng.random()}") as client:
                    with trio.fail_after(GIVE_UP_S), pytest.raises((TooFewShares, BadData)):
                        await client.fetch(shared.published.link, target)
            assert not [name for name in os.listdir(tmp_path) if name.startswith("target")]
        async with world.client("patient") as client:
            await client.fetch(shared.published.link, target)
        assert target.read_bytes() == shared.data

    run_world(12, tmp_path / "world", story)


def test_a_part_is_verified_among_liars(tmp_path: Path) -> None:
    """What an earlier fetch left is checked against data leaves, and those too come from liars and the silent."""
    target = tmp_path / "target"

    async def story(world: World) -> None:
        shared = await prepare(world)
        for lie in (never, WRONG_LEAVES["data leaf"], WRONG_LEAVES["fewer data leaves"], says(Status.BUSY)):
            part = part_path(target, shared.published.link)
            part.write_bytes(shared.data[: (SEGMENTS - 1) * (K * BLOCK_BYTES - 40) + 5])
            with lying(world.rng.sample(shared.holders(), N - K), Read, lie, world.rng):
                async with world.client(f"reader {world.rng.random()}") as client:
                    with trio.fail_after(SOON_S):
                        fetched = await client.fetch(shared.published.link, target)
            assert fetched.resumed_bytes == (SEGMENTS - 1) * (K * BLOCK_BYTES - 40)
            assert target.read_bytes() == shared.data
            target.unlink()

    run_world(13, tmp_path / "world", story)
