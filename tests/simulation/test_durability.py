"""The disaster of benchmarks/durability.py, small and in short epochs: nothing is lost, and repair is sparing."""

from dataclasses import replace
from types import ModuleType

import pytest

from kit.scripts import benchmark_script
from shoal.node.care.health import repair_at

HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def durability() -> ModuleType:
    """The benchmark as a module."""
    return benchmark_script("durability")


def test_files_outlive_a_disaster_at_little_traffic(durability: ModuleType) -> None:
    disaster = durability.Disaster(
        seed=1,
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
    found = durability.Findings(lost_bytes=100, placed_bytes=100, traffic_bytes=149)
    assert found.good
    found.traffic_bytes = 150
    assert found.ratio == 1.0
    assert not found.good
    lines = durability.describe(durability.Disaster(), replace(found, final=[(12, 12)]))
    assert any(line.startswith("traffic / lost") and "1.50 (bar: below 1.5)" in line for line in lines)
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
