"""The disaster of benchmarks/durability.py, small and in short epochs: nothing is lost, and repair is sparing."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest

from kit.scripts import ROOT, benchmark_script
from shoal.node.care.health import repair_at

HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def durability() -> Iterator[ModuleType]:
    """The benchmark as a module, with the package that it finds beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield benchmark_script("durability")
        for name in [name for name in sys.modules if name.split(".")[0] == "parts"]:
            del sys.modules[name]


def test_files_outlive_a_disaster_at_little_traffic(durability: ModuleType) -> None:
    disaster = durability.Disaster(
        seed=3,
        nodes=24,
        files=4,
        size_bytes=4_000,
        needed=2,  # far below what is left when repair begins, as usual: each repair makes more than it reads
        total=16,
        end_at=7.0,
        epoch_s=6 * HOUR_S,
        check_every_s=6 * HOUR_S,
    )
    found = durability.run_disaster(disaster)
    assert found.failures == []
    assert found.codes == {(2, 16): 4}
    assert found.least_spare >= 0
    assert found.lost_shares > 0
    assert found.placed_shares > 0
    share_bytes = found.lost_bytes // found.lost_shares
    assert found.vain_shares == 0
    assert found.ratio < found.traffic_ratio < durability.BAR
    assert found.placed_bytes < found.traffic_bytes <= found.placed_bytes + found.repairs * 2 * share_bytes
    assert min(good for good, _ in found.final) > repair_at(2, 16)
    assert found.good


def test_repair_traffic_is_the_bar_and_not_what_was_placed(durability: ModuleType) -> None:
    found = durability.Findings(lost_bytes=100, placed_bytes=100, traffic_bytes=199)
    assert found.good
    found.traffic_bytes = 200
    assert found.ratio == 1.0
    assert not found.good
    lines = durability.describe(durability.Disaster(), replace(found, final=[(12, 12)]))
    assert any(line.startswith("traffic / lost") and "2.00 (bar: below 2.0)" in line for line in lines)
    assert any(line.startswith("placed / lost") and "bar" not in line for line in lines)


def test_the_disaster_is_told_as_it_is(durability: ModuleType) -> None:
    """With four of five machines gone for ever nothing can be read, and the benchmark says so."""
    disaster = durability.Disaster(
        nodes=14,
        files=1,
        size_bytes=4_000,
        needed=4,
        total=12,
        gone=0.8,
        back=0.0,
        gone_at=0.2,
        back_at=0.25,
        end_at=0.3,
    )
    lines: list[str] = []
    found = durability.run_disaster(disaster, lines.append)
    assert not found.good
    assert any("cannot be read" in text for text in found.failures)
    assert found.least_spare < 0
    assert lines
    assert any("FAILURES" in line for line in durability.describe(disaster, found))


def test_where_machines_die_all_the_time_patience_by_spare_loses_few_files(durability: ModuleType) -> None:
    """By the model: one death in eight hours among sixteen machines."""
    curve, deaths = (importlib.import_module(f"parts.{name}") for name in ("curve", "deaths"))
    lost = {
        (k, name): deaths.run_model(k, n, 18.75, rule, seed=1, files=60, days=20.0).lost
        for k, n in ((1, 3), (4, 12), (8, 24))
        for name, rule in curve.RULES.items()
    }
    assert [lost[k, "fixed"] > 30 for k in (1, 4, 8)] == [True, True, True]
    assert [lost[k, "by spare"] < 12 for k in (1, 4, 8)] == [True, True, True]


def test_a_file_of_the_model_that_nothing_happens_to_is_never_repaired(durability: ModuleType) -> None:
    curve, deaths = (importlib.import_module(f"parts.{name}") for name in ("curve", "deaths"))
    found = deaths.run_model(4, 12, 1e-9, curve.BY_SPARE, seed=1, files=3, days=20.0)
    assert (found.lost, found.moved_shares) == (0, 0)
    table = list(curve.model_table(curve.Size(files=2, days=2.0), [(1, 3)], [1e-9]))
    assert table[-1] == "| 1 of 3 | by spare | 0 %, 0.00 |"


def test_whole_nodes_go_through_deaths_as_the_model_does(durability: ModuleType) -> None:
    curve = importlib.import_module("parts.curve")
    size = curve.Size(files=2, days=2.0, whole_files=2, whole_days=2.0)
    *_, row = curve.whole_table(size, None, [(1, 3, 10.0)])
    code, rate, name, whole, model = (cell.strip() for cell in row.strip("|").split("|"))
    assert (code, rate, name) == ("1 of 3", "10", "by spare")
    assert whole.endswith(tuple("0123456789"))
    assert model.split("%")[0].strip() == "0"
