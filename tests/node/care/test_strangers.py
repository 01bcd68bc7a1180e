"""What strangers, false repairers and malicious publishers can do to a file that keeps itself alive: cost a little."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.forging import publish_forgery
from kit.lying import handlers, poll_says
from kit.worlds import chunks, fetched, holders, identity_of, keepers, start_nodes, until
from shoal.dht import Contact, Reach, labelled_hash
from shoal.erasure import FileId, Manifest
from shoal.node import BadData, Published
from shoal.node.channel import (
    Blocks,
    Buffer,
    Caller,
    Commit,
    Delete,
    GetHolders,
    Offer,
    Read,
    RemoteError,
    Renew,
    Reply,
    RequestError,
    Status,
    Survey,
    Surveyed,
    TellHolders,
    Write,
)
from shoal.node.holders.deletion import sign_deletion
from shoal.node.holders.statements import make_statement, pack_statements, read_statement, unpack_statements
from shoal.node.holders.surveys import Entry, pack_survey
from shoal.simulation.world import EPOCH_START, Machine, World, run_world

EPOCH_S = 3600.0
DAY_S = 86400.0
K, N = 4, 12
Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]


async def publish(world: World, data: bytes) -> Published:
    async with world.client("publisher") as client:
        published = await client.publish(chunks(data), needed=K, total=N)
    assert published.complete
    return published


# --- false repairers


def test_junk_under_the_ids_by_which_repairers_meet_delays_a_repair_and_spoils_nothing(tmp_path: Path) -> None:
    """It is in the way at every host that may be asked; the root refuses it there, and at those who hold shares."""

    async def story(world: World) -> None:
        await start_nodes(world, 17)
        data = world.rng.randbytes(600_000)
        published = await publish(world, data)
        first, file_id = holders(world, published), published.link.id
        encoded = first[0].serving.store.manifest(file_id)
        assert encoded is not None
        for machine in first[:3]:
            await world.crash(machine.name)
        async with world.client("junk") as client:
            context: Any = client.context
            for machine in world.running():
                for share in range(3) if machine not in first else (first.index(machine),):
                    await offer_junk(context, machine, encoded, share)
        async with world.client("repairer") as client:
            repaired = await client.repair(published.link)
        assert repaired.complete
        assert repaired.sent_bytes <= 2.1 * 3 * Manifest.decode(encoded).layout.share_bytes
        shares = keepers(world, published)
        assert {share: shares[share] for share in range(3, N)} == {at: [first[at].name] for at in range(3, N)}
        async with world.client("checker") as client:
            assert (await client.check(published.link, verify=True)).healthy
        assert await fetched(world, published) == data

    run_world(11, tmp_path, story)


async def offer_junk(context: Any, machine: Machine, encoded: bytes, share: int) -> None:
    """A whole share of junk, under the id that repairers of the file use for it at this host; and its commit."""
    manifest = Manifest.decode(encoded)
    assert machine.node is not None
    contact, layout = Contact(machine.node.node_id, machine.address), manifest.layout
    upload = labelled_hash("repair upload")(manifest.id + bytes([share]) + contact.node_id)[:16]
    await context.ask(contact, Offer(upload, layout.share_bytes, 86400, b""))
    blocks = [bytes(layout.block_bytes(at)) for at in range(layout.segment_count)]
    await context.ask(contact, Write(upload, 0, bytes(32 * len(blocks)), True), payload=blocks)
    held = machine.serving.store.held(manifest.id)
    if held:  # a commit that was done before is answered like then, and nothing is done
        assert (await context.ask(contact, Commit(upload, share, 86400), payload=[encoded])).statement
        assert machine.serving.store.held(manifest.id) == held
    elif share == 2:  # the others stay in the repairer's way
        with pytest.raises(RemoteError):
            await context.ask(contact, Commit(upload, share, 86400), payload=[encoded])


# --- strangers


def test_a_stranger_can_lengthen_a_lease_and_neither_shorten_nor_delete(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 14)
        published, other = await publish(world, b"kept"), await publish(world, b"deleted")
        machine = holders(world, published)[0]
        caller, file_id = Caller(machine.address), FileId(published.link.id)
        scheme, network_id = machine.environment.scheme, world.network.parameters.network_id
        (before,) = machine.serving.store.held(file_id)
        for lease_s in (0, 1, 86400):
            await handlers(machine)[Renew](caller, Renew(file_id, lease_s), b"")
        assert machine.serving.store.held(file_id) == [before]
        async with world.client("publisher") as client:
            secret = client.receipt(other.link).secret
            await client.delete(other.link)
        true = sign_deletion(secret, scheme, network_id, FileId(other.link.id), EPOCH_START)
        for issued, signature in ((true.issued, true.signature), (true.issued, bytes(64)), (2**41, true.signature)):
            with pytest.raises(RequestError) as caught:
                await handlers(machine)[Delete](caller, Delete(file_id, issued, signature), b"")
            assert caught.value.failure.status is Status.FORBIDDEN
        for each in holders(world, published)[1:]:
            show(each, true.pack())
        await trio.sleep(6 * EPOCH_S)
        assert [len(each.serving.store.held(file_id)) for each in holders(world, published)] == [1] * N

    run_world(12, tmp_path, story, epoch_s=EPOCH_S)


def show(machine: Machine, *entries: Entry) -> None:
    """Answer every survey with this about every file."""

    async def survey(caller: Caller, request: Any, payload: Buffer) -> Reply:
        return Surveyed(int(machine.clock.read()), pack_survey([*entries] * (len(request.file_ids) // 32)))

    handlers(machine)[Survey] = survey
    poll_says(machine, ())


def test_the_owners_deletion_is_heard_among_many_false_ones(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 14)
        published = await publish(world, b"to be deleted")
        *others, away = holders(world, published)
        await world.crash(away.name)
        async with world.client("publisher") as client:
            assert (await client.delete(published.link)).confirmed == N - 1
        for at, machine in enumerate(others[:-1]):
            show(machine, b"junk" if at % 2 else bytes(76))
        await world.start(away.name)
        await until(lambda: not away.serving.store.held(published.link.id), 6 * EPOCH_S, EPOCH_S)

    run_world(13, tmp_path, story, epoch_s=EPOCH_S)


def test_an_old_statement_said_again_replaces_no_newer_one(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 14)
        published = await publish(world, b"kept")
        speaker, listener = holders(world, published)[:2]
        network_id, scheme = world.network.parameters.network_id, speaker.environment.scheme

        def statement(address: Any, lease_end: int, now: float) -> bytes:
            file_id = FileId(published.link.id)
            return make_statement(
                identity_of(speaker), network_id, file_id, 0, Reach.of(address), lease_end, now
            ).signed

        async def told(signed: bytes) -> tuple[Any, int]:
            """What the listener then says of the speaker."""
            caller, payload = Caller(speaker.address), pack_statements([signed])
            await handlers(listener)[TellHolders](caller, TellHolders(published.link.id), payload)
            reply: Any = await handlers(listener)[GetHolders](caller, GetHolders(published.link.id), b"")
            now = listener.clock.read()
            known = [read_statement(each, network_id, scheme, now) for each in unpack_statements(reply.payload)]
            (found,) = [each for each in known if each.share == 0]
            return found.address, found.lease_end

        now = listener.clock.read()
        old = statement(holders(world, published)[2].address, int(now), now - 2 * DAY_S)
        honest = await told(old)
        assert honest[0] == speaker.address
        newer = statement(speaker.address, honest[1] + 5, now + 60)
        assert await told(newer) == (speaker.address, honest[1] + 5)
        assert await told(old) == (speaker.address, honest[1] + 5)

    run_world(14, tmp_path, story)


def test_shares_that_a_file_cannot_have_are_nobodys(tmp_path: Path) -> None:
    """An audit of one would be an error of ours: numbers beyond n are neither kept, nor passed on, nor asked for."""

    async def story(world: World) -> None:
        await start_nodes(world, 14)
        data = world.rng.randbytes(50_000)
        published = await publish(world, data)
        first, file_id = holders(world, published), FileId(published.link.id)
        stranger = next(machine for machine in world.running() if machine not in first)
        poll_says(stranger, range(255))
        poll_says(first[0], range(255))

        async def anything(caller: Caller, request: Read, payload: Buffer) -> Reply:
            return Blocks(b"", b"", b"", bytes(65_536))

        handlers(stranger)[Read] = handlers(first[0])[Read] = anything
        for share in (N, 200):
            signed = make_statement(
                identity_of(stranger),
                world.network.parameters.network_id,
                file_id,
                share,
                Reach.of(stranger.address),
                int(stranger.clock.read() + 30 * DAY_S),
                stranger.clock.read(),
            ).signed
            for machine in first:
                tell = TellHolders(file_id)
                await handlers(machine)[TellHolders](Caller(stranger.address), tell, pack_statements([signed]))
        await trio.sleep(8 * EPOCH_S)
        for machine in first:
            assert [each for each in machine.serving.store.statements(file_id) if each.share_number >= N] == []
        assert sum(machine.serving.care_statistics().audits_passed for machine in first) > 0
        assert await fetched(world, published) == data

    run_world(17, tmp_path, story, epoch_s=EPOCH_S)


# --- publishers


def count_bytes(world: World) -> dict[type, int]:
    """A growing count of share bytes read and written from now on."""
    counts = {Read: 0, Write: 0}
    for machine in world.running():
        for kind in counts:
            handlers(machine)[kind] = counting(counts, kind, handlers(machine)[kind])
    return counts


def counting(counts: dict[type, int], kind: type, honest: Handler) -> Handler:
    async def answer(caller: Caller, request: Any, payload: Buffer) -> Reply:
        reply: Any = await honest(caller, request, payload)
        counts[kind] += len(payload) + (len(reply.payload) if kind is Read else 0)
        answered: Reply = reply
        return answered

    return answer


def test_a_rotten_share_of_what_is_no_file_is_tried_twice_at_most(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, 15)
        published = await publish_forgery(world, world.rng.randbytes(250_000), {N - 1}, needed=K, total=N)
        victim = holders(world, published)[N - 1]  # of the false share: made again, it misses its root
        (path,) = victim.disk.files()
        victim.disk.flip_bit(path, 12_345)
        counts = count_bytes(world)
        await trio.sleep(24 * EPOCH_S)
        share_bytes = 65_536
        assert 0 < counts[Read] <= (2 * (N + K) + 24 * N) * share_bytes  # the usual audits are among it
        assert sorted(keepers(world, published)) == list(range(N - 1))
        assert victim.serving.care_statistics().rebuilt_shares == 0
        own: Any = victim.serving.caretaker
        assert [key[0] for key in own.own_shares.damaged] == [published.link.id]
        assert published.link.id in own.looks.no_file

    run_world(16, tmp_path, story, epoch_s=EPOCH_S)


def test_shares_that_are_no_file_are_tried_once_by_each_holder_and_never_again(tmp_path: Path) -> None:
    """The false share is among the lost, so that only a whole rebuilt share shows it. No holder is blamed for it."""

    async def story(world: World) -> None:
        await start_nodes(world, 17)
        published = await publish_forgery(world, world.rng.randbytes(250_000), {N - 1}, needed=K, total=N)
        lost = [*holders(world, published)[:3], holders(world, published)[N - 1]]
        for machine in lost:
            await world.crash(machine.name)
        counts = count_bytes(world)
        await trio.sleep(24 * EPOCH_S)
        share_bytes = 65_536
        assert 0 < counts[Write] <= 8 * len(lost) * share_bytes
        assert counts[Read] <= 8 * (K + N) * share_bytes
        assert sorted(keepers(world, published)) == list(range(3, N - 1))
        async with world.client("reader") as client:
            with pytest.raises(BadData, match="No holder is to blame"):
                await client.repair(published.link)
            checked = await client.check(published.link)
            assert checked.outcomes["wrong"] == checked.outcomes["missing"] == 0
        assert len(await fetched(world, published)) == 250_000

    run_world(15, tmp_path, story, epoch_s=EPOCH_S)
