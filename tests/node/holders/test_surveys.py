"""What a survey's answer says, and bytes of a stranger in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.channel import MAX_PAYLOAD_BYTES
from shoal.node.holders.surveys import Entry, MalformedSurvey, SurveyRow, pack_survey, rows_of, unpack_survey

rows = st.builds(SurveyRow, st.integers(0, 255), st.integers(0, 2**63 - 1), st.binary(max_size=512))
entries = st.lists(st.one_of(st.binary(min_size=1, max_size=128), st.lists(rows, max_size=5).map(tuple)), max_size=20)


@given(entries)
def test_round_trip(given_entries: list[Entry]) -> None:
    assert unpack_survey(pack_survey(given_entries), len(given_entries)) == given_entries


def test_the_golden_answer() -> None:
    packed = pack_survey([(SurveyRow(7, 1_800_000_000, b"word"),), (), b"gone"])
    assert packed.hex() == "93919307ce6b49d200c404776f726490c404676f6e65"


def test_what_does_not_fit_is_left_for_the_next_question() -> None:
    full = tuple(SurveyRow(number, 2**40, bytes(512)) for number in range(256))
    packed = pack_survey([full] * 20)
    assert len(packed) <= MAX_PAYLOAD_BYTES
    found = unpack_survey(packed, 20)
    assert 5 <= len(found) < 20
    assert all(entry == full for entry in found)
    assert rows_of(found, 0) == full
    assert rows_of(found, 19) == ()
    assert rows_of([b"deleted"], 0) == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_malformed(payload: bytes) -> None:
    try:
        unpack_survey(payload, 5)
    except MalformedSurvey:
        return


@pytest.mark.parametrize(
    "payload",
    [
        "80",
        "c0",
        "9390",
        "91a0",
        "9191c0",
        "91919301c0c400",
        "919193c2ce6b49d200c400",
        "919193cd0100ce6b49d200c400",
        "919193ff01c400",
        "9191930101a178",
        "91c400",
        "9290",
        "929090",
    ],
)
def test_these_are_malformed(payload: str) -> None:
    with pytest.raises(MalformedSurvey):
        unpack_survey(bytes.fromhex(payload), 1)
