"""`shoal simulate`: what it takes, what it prints, and that it prints the same twice."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.commands import simulate
from shoal.cli.main import run
from shoal.simulation.plan import StudyPlan
from shoal.simulation.report import Report, replay_command

SMALL = ["--nodes", "13", "--days", "0.2", "--files", "1", "--size", "2kB", "--seed", "5"]


def test_a_small_network_loses_nothing_and_replays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["--json", "simulate", *SMALL, "--plot", str(tmp_path / "shares.svg")]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run(["--json", "simulate", *SMALL]) == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    machine = first.pop("machine")
    second.pop("machine")
    assert first == second
    assert machine["cpu_seconds"] > 0
    wanted = {"seed": 5, "nodes": 13, "days": 0.2, "published": 1, "lost_files": 0, "wrong_bytes": 0, "repairs": 0}
    assert wanted.items() <= first.items()
    assert first["messages"] > 0
    assert (tmp_path / "shares.svg").read_text().startswith("<svg")


def test_a_picture_that_cannot_be_drawn_costs_no_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "full.svg").symlink_to("/dev/full")
    assert run(["--json", "simulate", *SMALL, "--plot", str(tmp_path / "full.svg")]) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out.splitlines()[-1])
    assert (summary["message_type"], summary["published"]) == ("summary", 1)
    assert f"Cannot write {tmp_path / 'full.svg'}: No space left" in err


def test_a_study_that_was_ended_early_is_told_as_it_was(
    recorded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoal.cli.context import Globals
    from shoal.simulation import study

    plan = StudyPlan(seed=77, days=365)
    report = Report(replace(plan, days=12.5), published=2, violation_count=1, violations=["day 3.00: a file"])
    monkeypatch.setattr(study, "run_study", lambda plan, say, **more: report)
    output = recorded()
    assert simulate.run_plan(Globals(None, None, (), output), plan, None) == 1
    assert "To repeat it: shoal simulate --nodes 100 --days 12.5 " in output.err.getvalue().splitlines()[-1]
    assert "days:" in output.out.getvalue()


def test_loss_is_told_and_is_a_failure(recorded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal.cli.context import Globals
    from shoal.simulation import study

    report = Report(StudyPlan(seed=77), published=2, lost_files=1, violation_count=1, violations=["day 3.00: a file"])
    monkeypatch.setattr(study, "run_study", lambda plan, say, **more: report)
    output = recorded()
    assert simulate.run_plan(Globals(None, None, (), output), StudyPlan(seed=77), None) == 1
    assert "1 lost" in output.out.getvalue()
    assert "day 3.00: a file" in output.err.getvalue()
    assert "--seed 77" in output.err.getvalue()


def test_ctrl_c_is_remembered_once_and_ends_the_command_the_second_time() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with simulate.Interruptions() as interruptions:
        assert not interruptions.seen()
        signal.raise_signal(signal.SIGINT)
        assert interruptions.seen()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_runs_ends_between_two_steps_of_the_scheduler(number: signal.Signals, tmp_path: Path) -> None:
    """An exception raised by the handler came up wherever it liked; a study once went on for ever after one."""
    from shoal.simulation.study import run_study

    def say(text: str) -> None:
        signal.raise_signal(number)
        signal.raise_signal(number)

    with simulate.Interruptions() as interruptions, pytest.raises(KeyboardInterrupt):
        run_study(StudyPlan(nodes=13, files=1, days=9.0), say, tmp_path, on_start=interruptions.stop_by)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes", "1"], "--nodes"),
        (["--days", "soon"], "--days"),
        (["--uptime", "1.5"], "up between"),
        (["--size", "3 potatoes"], "potatoes"),
        (["--k", "4"], "together"),
        (["--days", "-3"], "--days"),
        (["--days", "nan"], "36h, 30d"),
        (["--size", "many"], "--size"),
        (["--mean-life", "long"], "--mean-life: 'long' is not a number of days"),
        (["--mean-life", "5x"], "36h, 30d"),
        (["--mean-life", "1e9"], "century"),
        (["--plot", "picture.jpg"], ".svg"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("text", "days"), [("60", 60), ("0.5", 0.5), ("60d", 60), ("1.25d", 1.25), ("36h", 1.5)])
def test_days_are_a_number_or_a_duration(text: str, days: float) -> None:
    assert simulate.days_of("--days", text) == days


def test_what_the_replay_says_is_understood() -> None:
    plan = StudyPlan(days=1.1234567, mean_life_days=60.1234567, uptime=0.123, absences=12.5, nat=0.64, k=2, n=5)
    words = replay_command(plan).split()[2:]
    options = {name.removeprefix("--").replace("-", "_"): value for name, value in zip(*[iter(words)] * 2, strict=True)}
    assert simulate.read_plan(**options) == plan


def test_a_study_that_published_nothing_fails_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ["--nodes", "4", "--days", "0.2", "--files", "2", "--size", "1kB", "--uptime", "0.05"]
    assert run(["--quiet", "simulate", *refused]) == 1
    told = capsys.readouterr()
    assert "none published" in told.out
    assert "None of the 2 files was published, so the study shows nothing. To repeat it: shoal simulate" in told.err


@pytest.mark.parametrize("options", [[], ["--json"], ["--quiet"]])
def test_a_study_that_breaks_tells_its_seed(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoal.simulation import study

    def break_down(self: object) -> None:
        raise AssertionError("an error of ours")

    monkeypatch.setattr(study.Study, "_fill_in", break_down)
    assert run([*options, "simulate", *SMALL]) == 1
    assert "The study itself failed. To repeat it: shoal simulate --nodes 13" in capsys.readouterr().err


def test_a_study_that_is_interrupted_is_not_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoal.simulation import study

    def stop(*_: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_study", stop)
    assert run(["--quiet", "simulate", *SMALL]) == 130
    assert "broke" not in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_known_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["simulate", "--plot", str(tmp_path / "nowhere" / "x.svg")]) == 1
    assert "Cannot write" in capsys.readouterr().err
