"""What a publisher may choose, and what is refused before anybody is asked."""

from dataclasses import replace
from typing import Any

import pytest

from shoal.erasure import MAX_SHARES, default_happy, default_width
from shoal.node.errors import UsageError
from shoal.node.formats import MAX_LEASE_S, MIN_LEASE_S
from shoal.node.publishing.options import PublishOptions

GIB = 2**30


@pytest.mark.parametrize(
    ("needed", "total", "code"),
    [
        (None, None, None),
        (4, None, (4, 12)),
        (None, 12, (4, 12)),
        (None, 2, (1, 2)),
        (10, 12, (10, 12)),
        (200, None, (200, MAX_SHARES)),
    ],
)
def test_one_number_of_a_code_gives_the_other(
    needed: int | None, total: int | None, code: tuple[int, int] | None
) -> None:
    assert PublishOptions(needed=needed, total=total).code == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"needed": 5, "total": 4},
        {"needed": 0},
        {"total": 0},
        {"total": MAX_SHARES + 1},
        {"happy": 0},
        {"happy": MAX_SHARES + 1},
        {"needed": 2, "total": 4, "happy": 5},
        {"ttl_s": MIN_LEASE_S - 1},
        {"ttl_s": MAX_LEASE_S + 1},
        {"media_type": "text/\n"},
        {"media_type": "täxt"},
        {"media_type": "a" * 1000},
        {"name": ""},
        {"name": "a/b"},
        {"name": "\0"},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PublishOptions(**wrong).check()


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"needed": 1, "total": 1, "happy": 1},
        {"ttl_s": MIN_LEASE_S},
        {"ttl_s": MAX_LEASE_S},
        {"name": "fish.txt", "media_type": "text/plain"},
    ],
)
def test_what_can_be_is_not(right: dict[str, Any]) -> None:
    PublishOptions(**right).check()


def test_the_width_is_the_chosen_code_or_the_default() -> None:
    assert PublishOptions(needed=4, total=10).width(None, 3) == (4, 10)
    assert PublishOptions().width(GIB, 60) == default_width(GIB, 60)
    assert PublishOptions().width(None, MAX_SHARES) == default_width(None, MAX_SHARES)


def test_three_quarters_make_a_publish_complete_unless_chosen() -> None:
    assert PublishOptions().happy_with(12) == default_happy(12)
    assert PublishOptions(happy=2).happy_with(12) == 2


def test_every_choice_is_part_of_the_command() -> None:
    plain = PublishOptions()
    others: list[dict[str, Any]] = [
        {"name": "a"},
        {"needed": 2},
        {"total": 9},
        {"happy": 3},
        {"ttl_s": MIN_LEASE_S},
        {"public": True},
        {"media_type": "text/plain"},
    ]
    fields = [plain.fields(), *(replace(plain, **other).fields() for other in others)]
    assert len({repr(each) for each in fields}) == len(fields)
