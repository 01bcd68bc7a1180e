"""A small network of real daemons that can be killed and started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Daemons that are not started yet; whatever of them runs at the end of the test is ended."""
    made = Fleet(tmp_path)
    yield made
    made.kill()
