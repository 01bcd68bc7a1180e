"""Reasons why hosts dropped out, told in words."""

import pytest

from shoal.node.publishing.lanes import BROKE_THE_PROTOCOL, in_words


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ({}, ""),
        ({"full": 0}, ""),
        ({"full": 5, "no answer": 1}, "5 were full, 1 did not answer"),
        ({"full": 1, "refused": 2}, "2 refused, 1 was full"),
        ({"stalled": 1, "lost what it had": 1}, "1 lost what it had received, 1 was too slow"),
        ({BROKE_THE_PROTOCOL: 1}, "1 broke the protocol"),
        ({"something new": 3}, "3 something new"),
    ],
)
def test_in_words(refusals: dict[str, int], words: str) -> None:
    assert in_words(refusals) == words
