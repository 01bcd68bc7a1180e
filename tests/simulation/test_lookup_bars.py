"""The bars that benchmarks/lookup_quality.py tells: where they apply, and that one missed is a failure."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from kit.scripts import benchmark_script
from shoal.dht.lookup import PATHS, THOROUGH_PATHS


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    """The benchmark as a module."""
    return benchmark_script("lookup_quality")


@pytest.mark.parametrize(
    ("share", "bar"), [(0.1, 0.99), (0.2, 0.99), (0.25, 0.97), (0.3, 0.97), (0.5, 0.9), (0.6, None)]
)
def test_the_bar_is_that_of_as_many_liars_or_more(quality: ModuleType, share: float, bar: float | None) -> None:
    assert quality.bar(share) == bar


def test_thorough_lookups_alone_are_judged(quality: ModuleType) -> None:
    found = quality.Quality(found=0.97, reached=1.0, messages=40.0, seconds=0.3, worst_s=1.0)
    assert quality.judged(found, 0.3, THOROUGH_PATHS) == ("  bar 0.97 met", False)
    assert quality.judged(replace(found, found=0.969), 0.3, THOROUGH_PATHS) == ("  bar 0.97 MISSED", True)
    assert quality.judged(found, 0.2, THOROUGH_PATHS)[1]
    assert quality.judged(found, 0.2, PATHS) == ("", False)
    assert quality.judged(found, 0.9, THOROUGH_PATHS) == ("", False)


@pytest.mark.parametrize(("found", "code"), [(0.0, True), (1.0, False)])
def test_a_bar_missed_ends_with_a_failure(
    quality: ModuleType,
    found: float,
    code: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(quality, "measure", lambda *_: quality.Quality(found, 1.0, 40.0, 0.3, 1.0))
    monkeypatch.setattr(sys, "argv", ["lookup_quality.py", "--nodes", "12", "--shares", "0.2", "0.5"])
    with pytest.raises(SystemExit) as end:
        quality.main()
    assert bool(end.value.code) is code
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == f"bars missed: {10 * code}"
    assert "bar 0.90" in told
