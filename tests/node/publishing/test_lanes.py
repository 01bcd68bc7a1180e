"""Reasons why hosts dropped out, told in words."""

import pytest

from shoal.node.errors import in_words
from shoal.node.publishing.lanes import DropReason


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ({}, ""),
        ({DropReason.FULL: 0}, ""),
        ({DropReason.FULL: 5, DropReason.NO_ANSWER: 1}, "5 were full, 1 did not answer"),
        ({DropReason.FULL: 1, DropReason.REFUSED: 2}, "2 refused, 1 was full"),
        ({DropReason.STALLED: 1, DropReason.LOST_BLOCKS: 1}, "1 lost what it had received, 1 was too slow"),
        ({DropReason.BROKE_THE_PROTOCOL: 1}, "1 broke the protocol"),
    ],
)
def test_in_words(refusals: dict[DropReason, int], words: str) -> None:
    assert in_words(refusals) == words
