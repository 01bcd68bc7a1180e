"""The league of liars that studies have: what one honest door is worth among theirs."""

import random
from pathlib import Path

import trio

from kit.worlds import chunks
from shoal.simulation.datagrams import Weather
from shoal.simulation.liars import Habit, Liars
from shoal.simulation.world import World, run_world


def test_one_honest_door_is_enough_however_fast_the_liars_answer(tmp_path: Path) -> None:
    """Seed of a study: a client that met a liar first took the liar's network for all there was, and found nothing."""

    async def story(world: World) -> None:
        liars = Liars(world, 0.0, random.Random(1))
        for number in range(14):
            machine = await world.start(f"node-{number}")
            if number == 3:
                liars.habits[machine.name] = Habit.FORGETS
                liars.bend(machine)
        await trio.sleep(30)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(b"found"), needed=2, total=6)
        doors = [world.machines[f"node-{number}"].address for number in (3, 7)]
        for number in range(12):
            async with world.client(f"reader-{number}", doors=doors) as client:
                await client.wait_joined()
                assert {doors[1]} < {contact.address for contact in client.context.dht.contacts()}
                async with client.open_fetch(published.link) as file:
                    assert b"".join([chunk async for chunk in file]) == b"found"

    run_world(61, tmp_path, story, weather=Weather(latency_s=(0.005, 0.12)))


def test_liars_are_evenly_spread_and_have_every_habit() -> None:
    liars = Liars(None, 0.1, random.Random(2))  # type: ignore[arg-type]
    for number in range(100):
        liars.draw(f"machine-{number}")
    assert liars.count == len(liars.habits) == 10
    assert sorted(habit.value for habit in liars.habits.values()) == sorted(2 * [habit.value for habit in Habit])
    liars.forget(next(iter(liars.habits)))
    assert len(liars.habits) == 9
