"""Studies: small ones end well, replay in another process, and notice when something is wrong."""

import random
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from shoal.simulation.churn import Change, life
from shoal.simulation.plan import DAY_S, Hazards, StudyPlan
from shoal.simulation.plot import plot
from shoal.simulation.report import Report, Sample, replay_command
from shoal.simulation.study import Study, run_study

SVG = "{http://www.w3.org/2000/svg}"
SMALL = StudyPlan(seed=3, nodes=14, days=0.3, files=2, size_bytes=2_000, absences=500)


def test_another_seed_is_another_study() -> None:
    first, other = run_study(SMALL), run_study(replace(SMALL, seed=4))
    assert first.good
    assert other.good
    assert first.absences > 1
    assert first.fields()["messages"] != other.fields()["messages"]


def test_machines_behind_home_routers_are_reached_and_keep_files() -> None:
    report = run_study(replace(SMALL, days=0.2, nat=0.64))
    assert report.good, report.violations
    assert report.published == 2
    assert 0 < report.natted < 14
    assert report.punched > 0
    assert report.fields()["natted"] == report.natted
    (words,) = [text for name, text in report.rows() if name == "behind home routers"]
    assert words.startswith(f"{report.natted} of all machines")


def test_a_study_that_is_ended_early_is_the_shorter_study() -> None:
    """Even where it is asked for at once: not before the least that a study lasts."""
    ended = run_study(replace(SMALL, days=50.0), enough=lambda: True)
    assert 1.0 < ended.plan.days < 1.1
    again = run_study(ended.plan)
    assert {**ended.fields(), "machine": None} == {**again.fields(), "machine": None}


def test_a_study_notices_files_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    heal = Study.heal

    async def die_out(self: Study) -> None:
        """All but three machines die before the end."""
        for name in list(self.world.machines)[3:]:
            await self.world.retire(name)
        await heal(self)

    monkeypatch.setattr(Study, "heal", die_out)
    report = run_study(replace(SMALL, absences=0))
    assert report.lost_files == 2
    assert not report.good
    assert any("is lost" in text for text in report.violations)


def test_a_study_notices_a_share_that_is_dropped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    heal = Study.heal

    async def drop(self: Study) -> None:
        machine = next(each for each in self.world.running() if each.serving.store.files())
        self.watch.look(machine)
        machine.disk.open_database(machine.home.store_folder / "shares.db").execute("DELETE FROM shares")
        self.watch.look(machine)
        await heal(self)

    monkeypatch.setattr(Study, "heal", drop)
    report = run_study(replace(SMALL, absences=0))
    assert any("dropped before its lease" in text for text in report.violations)


def test_absences_are_counted_of_machines_that_were_there_all_the_time() -> None:
    """A machine that came an hour before the end was away at most once: the least of all machines said nothing."""
    report = run_study(replace(SMALL, days=0.9, mean_life_days=1.5, absences=3_000))
    assert report.first_machines == 14
    assert 0 < report.first_deaths < 14
    assert report.first_deaths <= report.deaths
    assert report.least_absences >= 3, "of about seven"
    assert report.fields()["first_deaths"] == report.first_deaths
    (words,) = [text for name, text in report.rows() if name == "initial machines"]
    assert words.startswith(f"{report.first_deaths} of 14 died for good")
    assert words.endswith(f"was away at least {report.least_absences} times")


def test_machines_of_the_beginning_that_are_all_gone_were_away_never() -> None:
    report = Report(StudyPlan(), first_machines=4, first_deaths=4)
    assert ("initial machines", "4 of 4 died for good (100 %)") in report.rows()


# --- lives


def test_lives_have_the_uptime_and_the_length_asked_for() -> None:
    plan = StudyPlan(mean_life_days=100.0, uptime=0.6, absences=100)
    up = total = 0.0
    cycles = 0
    for seed in range(200):
        events = list(life(plan, random.Random(seed), 0.0, newborn=True))
        assert [each.at for each in events] == sorted(each.at for each in events)
        assert [each.change is Change.DEATH for each in events].count(True) == 1
        assert events[-1].change is Change.DEATH
        for before, after in pairwise(events):
            up += (after.at - before.at) * (before.change is Change.UP)
        cycles += len(events) // 2
        total += events[-1].at
    assert up / total == pytest.approx(0.6, abs=0.03)
    assert total / 200 == pytest.approx(100 * DAY_S, rel=0.2)
    assert cycles / (total / (365 * DAY_S)) == pytest.approx(100, rel=0.1)


def test_machines_that_never_go_away() -> None:
    events = list(life(StudyPlan(uptime=1.0), random.Random(1), 5.0, newborn=False))
    assert [each.change for each in events] == [Change.UP, Change.DEATH]


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 2},
        {"days": 0.0},
        {"uptime": 0.0},
        {"uptime": 1.1},
        {"k": 3},
        {"k": 4, "n": 3},
        {"k": 4, "n": 101},
        {"size_bytes": 10**11},
        {"size_bytes": 2**25, "files": 1000},
        {"mean_life_days": 1e-6},
        {"absences": 1e12},
    ],
)
def test_plans_that_make_no_sense(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        StudyPlan(**change)  # type: ignore[arg-type]


def test_a_world_in_which_at_times_nobody_is_up() -> None:
    plan = StudyPlan(seed=1, nodes=4, days=1, files=2, size_bytes=1000, uptime=0.05)
    assert run_study(plan).good


def test_a_study_without_a_file_shows_nothing() -> None:
    """It ended well once, although every publish was refused: nothing was lost, since there was nothing."""
    report = run_study(StudyPlan(seed=1, nodes=4, days=0.2, files=2, size_bytes=1000, uptime=0.05))
    assert not report.violations
    assert report.published == 0
    assert not report.good
    assert report.verdict == "None of the 2 files was published, so the study shows nothing."
    assert dict(report.rows())["files"].startswith("none published")


def test_a_study_of_no_files_is_good_when_nothing_goes_wrong() -> None:
    assert Report(StudyPlan(files=0)).good
    assert not Report(StudyPlan(files=1)).good
    assert Report(StudyPlan(files=1), published=1).good


# --- reports


def test_the_command_does_the_very_same_again() -> None:
    command = replay_command(StudyPlan(days=1.123456789, uptime=0.123456789, absences=12.5, mean_life_days=60.1234567))
    for text in ("--days 1.123456789", "--mean-life 60.1234567d", "--uptime 0.123456789", "--absences 12.5"):
        assert text in command


def test_the_command_that_does_it_again() -> None:
    command = replay_command(StudyPlan(seed=9, k=3, n=10))
    assert command == (
        "shoal simulate --nodes 100 --days 365 --files 100 --size 65536 --mean-life 180d --uptime 0.7 "
        "--absences 75 --k 3 --n 10 --seed 9"
    )


def test_the_picture_is_an_svg() -> None:
    report = Report(StudyPlan(days=3), k=4, n=12, samples=[Sample(0.0, 10, 12, 12.0), Sample(2.0, 8, 5, 9.5)])
    picture = ElementTree.fromstring(plot(report))
    assert picture.tag == SVG + "svg"
    numbers = [each.text for each in picture.iter(SVG + "text")]
    assert numbers == ["0", "1", "2", "3", "0", "4", "9", "12"]  # days; none, k, where repair begins, n
    lines = [each.attrib["points"].split() for each in picture.iter(SVG + "polyline")]
    assert lines == [["56.0,16.0", "648.0,104.3"], ["56.0,16.0", "648.0,263.3"]]


def test_a_study_without_samples_has_a_picture_too() -> None:
    assert ElementTree.fromstring(plot(Report(StudyPlan(days=0.5)))).tag == SVG + "svg"


def test_the_usual_hazards_can_be_calmed() -> None:
    assert Hazards(bit_flips=0.0).severed_days > 0


# --- liars


def test_a_study_among_liars_loses_nothing_and_counts_nothing_of_theirs() -> None:
    report = run_study(replace(SMALL, days=1.0, hazards=Hazards(liars=0.3)))
    assert report.good, report.violations
    assert report.published == 2
    assert report.liars > 1
    assert report.audits_failed > 0
    assert report.least_shares < report.n
