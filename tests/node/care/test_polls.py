"""Polls: the usual answer comes by datagram, everything else is asked for again by the channel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kit.lying import count_surveys
from kit.worlds import prepare
from shoal.dht import Contact, NodeId, NoReplyError
from shoal.erasure import FileId
from shoal.node.care import asking
from shoal.node.care.polls import (
    MAX_ANSWER_BYTES,
    MAX_POLLED,
    TOPIC,
    MalformedPoll,
    pack_answer,
    pack_poll,
    pseudonym,
    unpack_answer,
    unpack_poll,
)
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import pack_statements
from shoal.node.store import DatabaseFailed
from shoal.simulation.world import Machine, World, run_world

EPOCH_S = 3600.0
T = TypeVar("T")
HOLDER = NodeId(b"h" * 32)

shares = st.frozensets(st.integers(0, 255), max_size=255)
files = st.lists(st.binary(min_size=32, max_size=32).map(FileId), min_size=1, max_size=MAX_POLLED)


def caretaker(machine: Machine) -> Any:
    return machine.serving.caretaker


@given(st.integers(0, 2**64 - 1), files)
def test_polls_round_trip(clock: int, asked: list[FileId]) -> None:
    packed = pack_poll(clock, HOLDER, asked)
    assert unpack_poll(packed) == (clock, [pseudonym(HOLDER, each) for each in asked])
    assert len(packed) <= 1024


@given(st.integers(0, 2**64 - 1), st.lists(shares, max_size=MAX_POLLED))
def test_answers_round_trip_up_to_what_fits(clock: int, found: list[frozenset[int]]) -> None:
    packed = pack_answer(clock, found)
    assert len(packed) <= MAX_ANSWER_BYTES
    read_clock, read = unpack_answer(packed, len(found))
    assert (read_clock, read) == (clock, found[: len(read)])
    if len(read) < len(found):
        assert len(packed) + 1 + len(found[len(read)]) > MAX_ANSWER_BYTES
        with pytest.raises(MalformedPoll):
            unpack_answer(packed, len(read) - 1)


@given(st.binary(max_size=1200), st.integers(0, 60))
def test_any_bytes_are_a_poll_or_refused(payload: bytes, asked: int) -> None:
    for read in (lambda: unpack_poll(payload), lambda: unpack_answer(payload, asked)):
        try:
            read()
        except MalformedPoll:
            continue


def test_a_file_goes_by_another_name_at_each_holder() -> None:
    file_id = FileId(b"f" * 32)
    names = {pseudonym(NodeId(bytes([number]) * 32), file_id) for number in range(50)}
    assert len(names) == 50
    assert not any(file_id.find(name) >= 0 for name in names)


def test_golden_vectors_of_polls(node_vectors: Callable[[str], Any], node_vector_builder: Any) -> None:
    assert node_vector_builder.build_all()["polls"] == node_vectors("polls")


def test_when_all_is_well_nobody_is_asked_by_the_channel(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        looker, *others = holders
        await trio.sleep(60)
        counts = count_surveys(others)
        file = await caretaker(looker).files.read(file_id)
        (findings,) = await caretaker(looker).looks.begin_round().survey([file])
        assert len(findings.health.counted) == 12
        assert not counts
        claims = [caretaker(each).turns.claims(file_id) for each in others]
        assert looker.node is not None
        assert all([claim.caller for claim in each] == [looker.node.node_id] for each in claims)

    run_world(61, tmp_path, story, epoch_s=EPOCH_S)


def test_who_keeps_nothing_is_asked_again_and_a_deletion_is_heard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        looker, *others = holders
        await world.crash(looker.name)
        async with world.client("publisher") as client:
            await client.delete(published.link)
        await world.start(looker.name)
        await trio.sleep(60)
        counts = count_surveys(others)
        care = caretaker(looker)
        (findings,) = await care.looks.begin_round().survey([await care.files.read(file_id)])
        assert counts == dict.fromkeys([machine.name for machine in others], 1)
        assert len(findings.shown.deletions) == len(others)
        assert await care.looks.obey_deletion(findings)

    run_world(62, tmp_path, story, epoch_s=EPOCH_S)


def test_who_is_silent_is_asked_by_the_channel_before_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        looker, gone = holders[:2]
        await world.crash(gone.name)
        care = caretaker(looker)
        asked: list[NodeId] = []
        request = care.context.pool.request

        async def noted(node_id: NodeId, *rest: Any, **more: Any) -> Any:
            asked.append(node_id)
            return await request(node_id, *rest, **more)

        monkeypatch.setattr(care.context.pool, "request", noted)

        async def look() -> int:
            """How often the silent holder has been asked by the channel, by this look or one of the node's own."""
            file = await care.files.read(FileId(published.link.id))
            await care.looks.begin_round().look_for(holder_ids - {looker_id}, [file])
            return asked.count(gone_id)

        file = await care.files.read(FileId(published.link.id))
        ids = {each.share: each.node_id for each in file.statements}
        holder_ids, looker_id, gone_id = set(ids.values()), ids[0], ids[1]
        for _ in range(3):
            assert await look() == 0
            assert care.presence.lost_at(gone_id) is not None
            await trio.sleep(EPOCH_S / 10)
        await trio.sleep(3 * EPOCH_S)
        assert await look() >= 1
        assert care.presence.is_lost(gone_id, trio.current_time())

    run_world(63, tmp_path, story, epoch_s=EPOCH_S)


def test_whoever_has_no_grace_is_asked_by_the_channel_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that we have only now heard of, of a share long gone: one silent poll once made it lost."""

    async def silent(*_: object) -> None:
        raise NoReplyError("lost on the way")

    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        care = caretaker(holders[0])
        care.presence.note_shares(file_id, 12, set(), trio.current_time() - 3 * EPOCH_S)
        monkeypatch.setattr(asking, "poll", silent)
        (findings,) = await care.looks.begin_round().survey([await care.files.read(file_id)])
        assert {each.outcome for each in findings.observations} == {Outcome.OK}

    run_world(67, tmp_path, story, epoch_s=EPOCH_S)


def test_an_old_poll_sent_again_counts_for_nobody(tmp_path: Path) -> None:
    """An eavesdropper may keep a message and replay it, to keep others from looking after a file."""

    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        asker, asked = holders[:2]
        assert asker.node is not None
        assert asked.node is not None
        await trio.sleep(60)
        care, now = caretaker(asked), int(asked.clock.read())
        caller = Contact(asker.node.node_id, asker.address)
        for clock, heeded in ((now - EPOCH_S, 0), (now + EPOCH_S, 0), (now, 1)):
            poll = pack_poll(int(clock), asked.node.node_id, [file_id])
            _, found = unpack_answer(await care.polls.answer(caller, poll), 1)
            assert found == [{1}]
            assert len(care.turns.claims(file_id)) == heeded

    run_world(64, tmp_path, story, epoch_s=EPOCH_S)


def test_a_disk_that_fails_answers_no_poll_and_strangers_never_reach_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        asker, asked = holders[:2]
        assert asked.node is not None
        assert asker.node is not None
        polls = caretaker(asked).polls
        await trio.sleep(60)

        def fails(file_id: bytes) -> Any:
            raise DatabaseFailed("gone")

        store: Any = asked.serving.store
        store.held = fails
        known, strange = (
            pack_poll(0, asked.node.node_id, [each]) for each in (FileId(published.link.id), FileId(bytes(32)))
        )
        caller = Contact(asker.node.node_id, asker.address)
        assert await polls.answer(caller, known) is None
        assert await polls.answer(caller, b"no poll") is None
        _, found = unpack_answer(await polls.answer(caller, strange), 1)
        assert found == [frozenset()]
        dht: Any = asked.node
        assert dht.context.dht.serves(TOPIC)

    run_world(65, tmp_path, story, epoch_s=EPOCH_S)


def test_a_list_of_holders_that_says_nothing_new_is_not_written(tmp_path: Path) -> None:
    """Each of them once cost a check of all its signatures and a transaction."""

    async def story(world: World) -> None:
        published, _, holders = await prepare(world, 14, b"kept")
        one, other = holders[:2]
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        statements = await other.serving.known_holders.known(file_id)
        assert len(statements) == 12
        store: Any = one.serving.store
        written: list[int] = []
        add = store.add_statements

        def noted(file_id: bytes, added: list[Any], now: float) -> int:
            written.append(len(added))
            taken: int = add(file_id, added, now)
            return taken

        store.add_statements = noted
        try:
            payload = pack_statements(each.signed for each in statements)
            count = await one.serving.known_holders.learn(file_id, payload)
            assert await one.serving.known_holders.learn(file_id, payload) == count
        finally:
            del store.add_statements
        assert sum(written) == 0 or len(written) == 1

    run_world(66, tmp_path, story, epoch_s=EPOCH_S)
