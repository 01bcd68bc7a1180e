"""What must hold after a study has healed: noticed when nobody repairs, and not excused by liars elsewhere."""

import random
from pathlib import Path

import pytest
import trio

from kit.worlds import chunks
from shoal.node.care.mending import Mended, Mender
from shoal.node.repairing.repair import RepairJob
from shoal.node.results import Published
from shoal.simulation.acked import Acked
from shoal.simulation.aftermath import Aftermath, FileState
from shoal.simulation.liars import Habit, Liars
from shoal.simulation.plan import Hazards, StudyPlan
from shoal.simulation.study import run_study
from shoal.simulation.world import World, run_world

MORTAL = StudyPlan(
    nodes=14, days=2, files=2, size_bytes=1_000, mean_life_days=4, uptime=1.0, k=2, n=8, hazards=Hazards(liars=0.15)
)


def test_a_study_notices_that_nobody_repairs_although_liars_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once every liar that ran counted for a share of every file, and the check could hardly fail."""

    async def leave_it(self: Mender, job: RepairJob) -> Mended:
        return Mended((), is_done=False)

    monkeypatch.setattr(Mender, "mend", leave_it)
    report = run_study(MORTAL)
    assert report.liars > 1
    assert report.healing_days == pytest.approx(10, abs=0.1), "it has waited for a repair"
    assert any("nobody repaired it" in text for text in report.violations)


def test_a_study_in_which_many_die_ends_with_everything_repaired() -> None:
    report = run_study(MORTAL)
    assert report.good, report.violations
    assert report.deaths > 4
    assert report.repairs > 0


@pytest.mark.parametrize(("counted", "free", "neglected"), [(9, 1, True), (9, 0, False), (10, 5, False), (2, 3, True)])
def test_repair_is_due_at_three_quarters_where_hosts_are_free(counted: int, free: int, neglected: bool) -> None:
    assert FileState(4, 12, counted, free).is_neglected is neglected


def test_a_liar_counts_for_one_share_and_only_where_holders_know_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        liars = Liars(world, 0.0, random.Random(1))
        for number in range(12):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published: Published = await client.publish(chunks(b"kept"), needed=2, total=6)
        file = Acked(published.link, b"", 4, 2, 6)

        def state() -> FileState:
            return Aftermath(world.running(), liars).state(file)

        assert state() == FileState(2, 6, 6, 6)
        holders = [each for each in world.running() if each.serving.store.held(file.file_id)]
        stranger = next(each for each in world.running() if each not in holders)
        liars.widths[bytes(file.file_id)] = 6
        liars.habits[stranger.name] = Habit.PROXIES
        assert state() == FileState(2, 6, 6, 5), "a host that lies is none"
        liars.habits[holders[0].name] = Habit.FORGETS
        assert state().counted == 6, "it says that it has its share, and nobody can tell"
        liars.habits[holders[0].name] = Habit.DENIES
        assert state().counted == 5, "the stranger claims all, and holders do not ask it"
        liars.habits[holders[1].name] = Habit.PROXIES
        assert state().counted == 5, "who claims all is one host for one"

    run_world(3, tmp_path, story)
