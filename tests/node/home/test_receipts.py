"""Receipts: one way to write one, and every slip refused without repeating the secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.erasure import FileId, Link, LinkKind
from shoal.node import Receipt, UsageError, parse_receipt

RECEIPT = Receipt(FileId(bytes(range(32))), bytes(range(100, 132)))


def test_round_trip() -> None:
    text = str(RECEIPT)
    assert len(text) == len("receipt:") + 120
    assert parse_receipt(f"  {text}\n") == RECEIPT
    assert parse_receipt(text.removeprefix("receipt:")) == RECEIPT
    public = Receipt(RECEIPT.file_id, RECEIPT.secret, LinkKind.PUBLIC)
    assert parse_receipt(str(public)) == public
    assert public.hash == Link(RECEIPT.file_id, LinkKind.PUBLIC).hash
    assert RECEIPT.secret.hex() not in repr(RECEIPT)


def test_the_golden_receipt() -> None:
    assert str(RECEIPT) == (
        "receipt:caaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6zdfmztw"
        "q2lknnwg23tpobyxe43uov3ho6dzpj5xy7l6p6aidaudrhurpw5j32f3bcss"
    )


@given(at=st.integers(8, 127), char=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567A0 #"))
def test_one_wrong_character_is_refused(at: int, char: str) -> None:
    text = str(RECEIPT)
    if text[at] == char:
        return
    with pytest.raises(UsageError) as caught:
        parse_receipt(text[:at] + char + text[at + 1 :])
    assert text[60:100] not in str(caught.value)


@given(st.text(max_size=200))
def test_nothing_else_is_one(text: str) -> None:
    with pytest.raises(UsageError):
        parse_receipt(text)
