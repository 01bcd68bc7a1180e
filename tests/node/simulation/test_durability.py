"""The disaster of benchmarks/durability.py, small and in short epochs: nothing is lost, and repair is sparing."""

from collections.abc import Callable
from types import ModuleType

import pytest

from shoal.node.care.health import repair_at

HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def durability(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return benchmark_script("durability")


def test_files_outlive_a_disaster_at_little_traffic(durability: ModuleType) -> None:
    disaster = durability.Disaster(
        seed=1,
        nodes=20,
        files=4,
        size_bytes=4_000,
        needed=4,
        total=12,
        end_at=7.0,
        epoch_s=6 * HOUR_S,
        check_every_s=6 * HOUR_S,
    )
    found = durability.run_disaster(disaster)
    assert found.failures == []
    assert found.codes == {(4, 12): 4}
    assert found.least_spare >= 0
    assert found.lost_shares > 0
    assert found.placed_shares > 0
    share_bytes = found.lost_bytes // found.lost_shares
    assert found.vain_shares == 0
    assert found.ratio < durability.BAR
    assert found.placed_bytes < found.traffic_bytes <= found.placed_bytes + found.repairs * 4 * share_bytes
    assert min(good for good, _ in found.final) > repair_at(4, 12)
    assert found.good


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
