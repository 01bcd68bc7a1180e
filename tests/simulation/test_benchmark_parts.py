"""What benchmarks/micro.py and benchmarks/scale.py reckon with, and one small store of theirs."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def parts() -> Iterator[ModuleType]:
    """The package that both scripts find beside themselves, with its modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        for name in ("figures", "shares", "nodes", "fetches"):
            importlib.import_module(f"parts.{name}")
        yield sys.modules["parts"]
        for name in [name for name in sys.modules if name.split(".")[0] == "parts"]:
            del sys.modules[name]


def test_a_percentile_is_one_of_the_values(parts: ModuleType) -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    found = [parts.figures.percentile(values, percent) for percent in (0, 20, 21, 50, 95, 100)]
    assert found == [1.0, 1.0, 2.0, 3.0, 5.0, 5.0]
    assert parts.figures.percentile([7.0], 50) == 7.0
    for wrong in ((), 50), (values, -1), (values, 101):
        with pytest.raises(ValueError, match="percentile"):
            parts.figures.percentile(*wrong)


def test_a_table_is_aligned_and_its_figures_are_short(parts: ModuleType) -> None:
    rows = [("one", 1, 0.1234), ("a longer name", 100_000, 12_345.6), ("none", "", 99.96)]
    assert parts.figures.table(("what", "count", "figure"), rows) == [
        "what             count  figure",
        "one                  1   0.123",
        "a longer name  100,000  12,346",
        "none                     100.0",
    ]
    with pytest.raises(ValueError, match="as many cells"):
        parts.figures.table(("what", "count"), [("one",)])


def test_growth_is_an_exponent_per_column(parts: ModuleType) -> None:
    rows = [(10, 1.0, 7.0, "x", 0.0), (100, 3.0, 7.0, "y", 1.0), (1000, 100.0, 7.0, "z", 2.0)]
    assert parts.figures.growth_row([10, 100, 1000], rows) == ["~ size^", "1.00", "0.00", "", ""]
    assert parts.figures.growth_row([10], rows[:1]) == ["~ size^", "", "", "", ""]


def test_a_store_is_built_through_its_calls_and_measured(parts: ModuleType, tmp_path: Path) -> None:
    setting = parts.shares.Setting(tmp_path / "store", 2, 3, 300)
    for size in (5, 9):  # goes on where it was
        assert parts.shares.build(setting, size) > 0
    found = parts.shares.measure(setting)
    assert found.shares == 9
    assert min(found.start_ms, found.status_ms, found.put_ms, found.list_us, found.scrub_us, found.disk_kib) > 0
    store = setting.open(parts.shares.RealDisk())
    file_id = store.files()[0]
    assert len(store.statements(file_id)) in (0, 2)  # those put while measuring have none
    assert store.usage().shares == 2 * 9
    store.close()


def test_fetches_of_several_processes_are_one_row(parts: ModuleType, tmp_path: Path) -> None:
    crowd = parts.fetches.Crowd(3, 1, "link", tmp_path, os.getpid())
    fetched = [
        parts.fetches.Fetched([1.0, 2.0], 100.0, 102.0, 0.5, 0.25, 40.0),
        parts.fetches.Fetched([4.0], 100.5, 104.5, 0.75, 0.5, 30.0),
    ]
    row = parts.fetches.summary(3, crowd, 2**30, fetched)
    assert (row.fetches, row.fastest_s, row.slowest_s, row.ratio) == (3, 1.0, 4.0, 4.0)
    assert row.mib_s == pytest.approx(3 * 1024 / 4.5)
    assert (row.node_cpu_s_gib, row.clients_cpu_s_gib, row.clients_mib) == (0.25, 0.25, 70.0)
    assert row.node_core_percent == pytest.approx(100 * 0.75 / 4.5)
