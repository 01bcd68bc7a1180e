"""What benchmarks/growth.py counts, in a small network, and how it tells."""

from collections import Counter
from dataclasses import replace
from types import ModuleType

import pytest

from kit.scripts import benchmark_script


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    """The benchmark as a module."""
    return benchmark_script("growth")


def test_what_is_counted_is_what_files_cost(growth: ModuleType) -> None:
    idle = growth.Setting(seed=4, nodes=10, size_bytes=2_000, needed=2, total=6, warm_up=0.1, days=0.5, lookups=10)
    pair = growth.Pair(growth.measure(idle), growth.measure(replace(idle, files=4)))
    assert pair.idle.node_days == pytest.approx(5.0, rel=0.01)
    assert pair.idle.contacts == 9.0
    assert pair.idle.hops == 1.0
    assert 0 < pair.idle.queries <= 9
    assert pair.per_node("datagrams") > 0
    assert pair.per_node("stream_messages") == pair.per_node("surveys") == 0
    assert pair.per_file("surveys") > 0
    assert pair.per_file("stream_messages") > 2 * pair.per_file("surveys")
    assert pair.per_file("repairs") == 0


def test_with_churn_machines_go_away_and_die(growth: ModuleType) -> None:
    setting = growth.Setting(seed=3, nodes=10, warm_up=0.1, days=0.5, lookups=5, churn=True)
    found = growth.measure(setting)
    assert 1.0 < found.node_days < 5.0
    assert found.counts["datagrams"] > 0


def test_the_table_has_the_exponents(growth: ModuleType) -> None:
    def measured(nodes: int, files: int, datagrams: int) -> object:
        setting = growth.Setting(nodes=nodes, files=files, days=2.0)
        return growth.Measured(setting, 2.0 * nodes, Counter(datagrams=datagrams), 1.0, 10.0, 1e6, 1.5, 22.0)

    pairs = [
        growth.Pair(measured(50, 0, 1_000), measured(50, 50, 2_000)),
        growth.Pair(measured(100, 0, 4_000), measured(100, 100, 6_000)),
    ]
    lines = growth.table(pairs)
    figures = [line.split()[-2:] for line in lines if line.startswith("idle node and day: DHT messages")]
    assert figures == [["10", "20"], ["1.00", "1.00"]]
    assert ["10", "10"] in [line.split()[-2:] for line in lines if line.startswith("file and day: DHT messages")]
