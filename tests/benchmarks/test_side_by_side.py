"""The parts of benchmarks/compare.py that only compute: what /proc says, limits, ratios, tables."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MIB = 2**20
GIB = 2**30


@pytest.fixture(scope="module")
def module() -> Iterator[Callable[[str], ModuleType]]:
    """A module of benchmarks/side_by_side by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield lambda name: importlib.import_module(f"side_by_side.{name}")


@pytest.fixture
def results(module: Callable[[str], ModuleType]) -> Any:
    """A run in which Shoal takes 10 s where Tahoe takes 60 s by HTTPS and 50 s by Foolscap, for 1 GiB each."""
    found = module("results")
    made = found.Results("a machine", "a day", "a command", 0.5)
    for system, wall_s in ((found.SHOAL, 10.0), (found.TAHOE, 60.0), (found.FOOLSCAP, 50.0)):
        for operation in (found.PUBLISH, found.FETCH):
            made.rows.append(found.Row(system, operation, found.CLIENT, GIB, 3, 10, 2, wall_s, 2 * wall_s, 100.0, 3.5))
    made.costs = [
        found.Costs(1.0, 1.0, 0.3, 0.6, 0.6, 0.3, 0.1, 0.9, {"isa-l 3/10": 0.2}, {"isa-l 3/10": 0.4}, cores=2)
    ]
    return made


def test_cpu_ticks_are_found_behind_any_process_name(module: Callable[[str], ModuleType]) -> None:
    numbers = "S 1 1 1 0 -1 4194304 100 0 0 0 250 31 7 8 20 0 3 0 100"
    assert module("processes").cpu_ticks(f"77 (evil) name 1 2) {numbers}") == 281


def test_a_memory_field_is_read_in_mib_and_missing_after_the_end(module: Callable[[str], ModuleType]) -> None:
    status = "Name:\tVmHWM: 5 kB\nVmPeak:\t  999999 kB\nVmHWM:\t   51200 kB\nVmRSS:\t   20480 kB\n"
    processes = module("processes")
    assert processes.status_mib(status, "VmHWM") == 50.0
    assert processes.status_mib("Name:\tgone\nState:\tZ (zombie)\n", "VmHWM") == 0.0


def test_the_publish_limit_multiplies_what_is_done_for_every_share(results: Any, module: Any) -> None:
    limit = module("limits").publish_limit(results.costs[0], "isa-l", 3, 10)
    per_share = 0.3 + 0.6 + 0.6 + 0.3 + 0.3
    assert limit.cpu_s == pytest.approx(0.1 + 1.0 + 0.2 + 10 / 3 * per_share)
    assert limit.wall_s == pytest.approx(limit.cpu_s / 2)
    assert limit.mib_s == pytest.approx(1024 / limit.wall_s)


def test_a_slow_disk_is_the_limit(results: Any, module: Any) -> None:
    limit = module("limits").publish_limit(replace(results.costs[0], sync_s=5.0), "isa-l", 3, 10)
    assert limit.wall_s == pytest.approx(10 / 3 * 5.0)


def test_a_fetch_decodes_only_where_shares_are_gone(results: Any, module: Any) -> None:
    healthy, lost = (
        module("limits").fetch_limit(results.costs[0], "isa-l", 3, 10, is_lost=is_lost) for is_lost in (False, True)
    )
    assert healthy.cpu_s == pytest.approx(0.1 + 0.6 + 0.6 + 0.3 + 1.0 + 0.3)
    assert lost.cpu_s - healthy.cpu_s == pytest.approx(0.4)


def test_costs_measured_twice_meet_in_the_middle(results: Any, module: Any) -> None:
    other = replace(results.costs[0], send=0.8, encode={"isa-l 3/10": 0.4})
    middle = module("report").mean_costs([results.costs[0], other])
    assert middle.send == pytest.approx(0.7)
    assert middle.encode == pytest.approx({"isa-l 3/10": 0.3})
    assert middle.cores == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.00312, "0.0031"),
        (0.3249, "0.325"),
        (1.7, "1.70"),
        (67.79, "67.8"),
        (99.96, "100"),
        (1234.5, "1230"),
    ],
)
def test_figures_have_three_digits(module: Callable[[str], ModuleType], value: float | None, text: str) -> None:
    assert module("tables").figure(value) == text


def test_sizes_have_names(module: Callable[[str], ModuleType]) -> None:
    names = [module("tables").size_name(size) for size in (512, 1024, 100 * MIB, GIB)]
    assert names == ["512 B", "1 KiB", "100 MiB", "1 GiB"]


def test_a_table_is_aligned_or_markdown(module: Callable[[str], ModuleType]) -> None:
    table = module("tables").Table("Things", ("what", "s"), [["one", "1"], [], ["eleven", "11.5"]], ["A note."])
    assert table.plain() == "Things\n\nwhat       s\none        1\n\neleven  11.5\n\nA note."
    lines = table.markdown().splitlines()
    assert lines[2:6] == ["| what | s |", "| --- | ---: |", "| one | 1 |", "| eleven | 11.5 |"]


def test_ratios_stand_in_the_rows_they_are_of(results: Any, module: Any) -> None:
    table = module("report").main_table(results)
    assert [row[-2:] for row in table.rows if row] == [["6.00×", "5.00×"], ["–", "–"], ["–", "–"]] * 2


def test_bars_are_met_missed_or_unknown(results: Any, module: Any) -> None:
    rows = {row[0]: row[1:] for row in module("report").bar_table(results).rows}
    assert rows["publish, times Tahoe HTTPS"] == ["≥ 6", "6.00", "yes"]
    assert rows["fetch, times Tahoe HTTPS"] == ["≥ 8", "6.00", "NO"]
    assert rows["publish, CPU-seconds to those of Tahoe HTTPS"] == ["≤ 0.17", "0.167", "yes"]
    assert rows["publish 1 KiB through the library, s"] == ["≤ 0.06", "–", "–"]


def test_what_was_not_measured_is_said(results: Any, module: Any) -> None:
    results.remarks.append("foolscap: no such protocol")
    report = module("report")
    assert "Not measured: foolscap: no such protocol" in report.text_of(results, is_markdown=False)
    empty = module("results").Results("a machine", "a day", "a command", 0.5)
    assert report.text_of(empty, is_markdown=True).startswith("a machine")


def test_results_survive_being_written_down(results: Any, module: Any, tmp_path: Path) -> None:
    results.idle.append(module("results").Idle("Shoal", 30.0, 0.1, 55.0, 57.0))
    results.save(tmp_path / "below" / "last.json")
    assert json.loads((tmp_path / "below" / "last.json").read_text())["machine"] == "a machine"
    assert module("results").Results.load_from(tmp_path / "below" / "last.json") == results


def test_files_are_compared_by_their_bytes(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    source = module("rounds").Source(tmp_path / "source", 3 * MIB + 5)
    copy = tmp_path / "copy"
    copy.write_bytes(source.path.read_bytes())
    same_bytes = module("rounds").same_bytes
    assert same_bytes(source.path, copy)
    source.renew()
    assert not same_bytes(source.path, copy)
    assert source.path.stat().st_size == 3 * MIB + 5
    copy.write_bytes(source.path.read_bytes()[:-1])
    assert not same_bytes(source.path, copy)
