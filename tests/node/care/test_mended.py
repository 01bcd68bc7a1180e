"""What once went wrong in looking after files, each by its name."""

from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from kit.lying import count_surveys
from kit.worlds import caretaker_of, node_id, prepare, until
from shoal.dht import Announcement, Contact, DhtService, NodeId, RecordKey
from shoal.erasure import FileId
from shoal.node.care import asking
from shoal.node.context import Context
from shoal.node.holders.announcers import CLASSES, announcers, class_key
from shoal.node.holders.relocation import relocate
from shoal.simulation.world import Clock, Machine, World, run_world

EPOCH_S = 3600.0
T = TypeVar("T")


def announced(dht: DhtService) -> dict[RecordKey, Announcement]:
    """What a DHT node keeps announced, by key."""
    return {each.key: each for each in dht.kept_announcements()}


def announcing(world: World, file_id: FileId, number: int) -> set[NodeId]:
    """The nodes that go on announcing a class of a file."""
    found = set()
    for machine in world.running():
        node: Any = machine.node
        if class_key(file_id, number) in announced(node.context.dht):
            found.add(node.node_id)
    return found


def test_who_stood_in_for_an_announcer_stops_when_it_is_back(tmp_path: Path) -> None:
    """Stand-ins once announced for ever, so that in time all holders of a file did."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        duties = announcers(file_id, [node_id(each) for each in first])
        by_id = {node_id(each): each for each in first}
        away = by_id[duties[0][0]]

        def is_as_ever() -> bool:
            return all(announcing(world, file_id, number) == set(duties[number]) for number in range(CLASSES))

        await until(is_as_ever, 6 * EPOCH_S, EPOCH_S / 4)
        await world.crash(away.name)
        await until(lambda: bool(announcing(world, file_id, 0) - set(duties[0])), 6 * EPOCH_S, EPOCH_S / 4)
        await world.start(away.name)
        await until(is_as_ever, 8 * EPOCH_S, EPOCH_S / 4)

    run_world(51, tmp_path, story, epoch_s=EPOCH_S)


def test_clocks_that_differ_a_little_do_not_have_a_file_looked_after_twice(tmp_path: Path) -> None:
    """A look by a clock that was fast once counted for the epoch before, and the next in rank looked again."""
    ahead = Clock(ahead_s=EPOCH_S / 30)

    async def story(world: World) -> None:
        for number in range(0, 14, 2):
            world.machine(f"node-{number}", clock=ahead)
        _, _, first = await prepare(world, 14, b"kept")
        assert 3 <= sum(machine.clock is ahead for machine in first) <= 9
        await trio.sleep(EPOCH_S)
        before = sum(machine.serving.care_statistics().turns for machine in first)
        await trio.sleep(16 * EPOCH_S)
        assert sum(machine.serving.care_statistics().turns for machine in first) - before in (15, 16, 17)

    run_world(52, tmp_path, story, epoch_s=EPOCH_S)


def test_whoever_comes_back_for_the_absent_asks_nobody_else(tmp_path: Path) -> None:
    """Each follow-up was once a look at all holders. One that finds too many still away is."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 14, b"kept")
        looker, *others = first
        care: Any = looker.serving.caretaker
        gone = {node_id(machine) for machine in others[:2]}
        for machine in others[:2]:
            await world.crash(machine.name)
        await care.look_after([FileId(published.link.id)])
        assert set(care.presence.away()) == gone
        await world.start(others[0].name)
        await trio.sleep(60)
        counts = count_surveys([each for each in others if each.running], polls=True)
        assert await care.find_worse([FileId(published.link.id)]) == []
        assert counts == {others[0].name: 1}
        assert set(care.presence.away()) == gone - {node_id(others[0])}

    run_world(53, tmp_path, story, epoch_s=EPOCH_S)


def test_a_holder_that_is_away_is_searched_for_once_and_not_at_every_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each silence of a holder was once a lookup in the DHT."""
    sought: Counter[tuple[Contact | None, NodeId]] = Counter()

    async def counted(context: Context, wanted: NodeId) -> Contact | None:
        sought[context.me(), wanted] += 1
        return await relocate(context, wanted)

    monkeypatch.setattr(asking, "relocate", counted)

    async def story(world: World) -> None:
        _, _, first = await prepare(world, 14, b"kept")
        for machine in first[:2]:
            await world.crash(machine.name)
        await trio.sleep(18 * EPOCH_S)
        assert set(sought.values()) == {1}
        assert len(sought) > 4

    run_world(54, tmp_path, story, epoch_s=EPOCH_S)


def owed(machine: Machine, file_id: FileId) -> set[int]:
    """The classes that a holder would announce after a start, by what it knows of the others."""
    announces: Any = machine.serving.announcing
    return set(announces.as_kept(file_id))


def test_a_holder_of_a_share_made_again_announces_what_is_its_to_announce(tmp_path: Path) -> None:
    """It was asked by nobody, and did so only after its next start."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 20, b"kept")
        file_id = FileId(published.link.id)
        for machine in first[:6]:
            await world.crash(machine.name)

        def others() -> list[Machine]:
            return [each for each in world.running() if each not in first and each.serving.store.held(file_id)]

        await until(lambda: len(others()) == 6, 8 * EPOCH_S, EPOCH_S / 4)
        await trio.sleep(300)
        duties = {each.name: owed(each, file_id) for each in others()}
        assert any(duties.values())
        for machine in others():
            for number in duties[machine.name]:
                assert node_id(machine) in announcing(world, file_id, number)

    run_world(55, tmp_path, story, epoch_s=EPOCH_S)


def test_who_owes_an_announcement_takes_it_up_at_its_own_look(tmp_path: Path) -> None:
    """Where nobody has told it the list; and does nothing more while nothing has changed."""

    async def story(world: World) -> None:
        published, _, first = await prepare(world, 14, b"kept")
        file_id = FileId(published.link.id)
        await trio.sleep(60)
        machine = next(each for each in first if owed(each, file_id))
        (number, *_), node = owed(machine, file_id), machine.node
        dht: Any = node.context.dht  # type: ignore[union-attr]
        dht.stop_announcing(class_key(file_id, number))
        await caretaker_of(machine).look_after([file_id])
        assert node_id(machine) in announcing(world, file_id, number)
        before = announced(dht)
        await trio.sleep(60)
        await caretaker_of(machine).look_after([file_id])
        after = announced(dht)
        assert after.keys() == before.keys()
        assert all(after[place] is before[place] for place in before)

    run_world(56, tmp_path, story, epoch_s=EPOCH_S)
