"""Statements of holders are renewed before they end, many at a time."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kit.worlds import chunks
from shoal.dht import Address, NodeId, Reach
from shoal.erasure import FileId
from shoal.node.care.findings import Findings
from shoal.node.care.telling import Teller
from shoal.node.holders.refresh import commonly_known, refresh_horizon, worth_keeping
from shoal.node.holders.statements import LIFETIME_S, HolderStatement
from shoal.simulation.world import World, run_world

DAY_S = 86400.0
FILE = FileId(bytes(32))
NODES = [NodeId(bytes([number]) * 32) for number in range(6)]


def test_young_statements_are_left_alone() -> None:
    assert refresh_horizon([], DAY_S) == 0
    assert refresh_horizon([7 * DAY_S, 5 * DAY_S, 4.6 * DAY_S], DAY_S) == 0


def test_few_that_are_older_wait_for_the_others() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 5 + [2.1 * DAY_S] * 5, DAY_S) == 0


def test_when_most_are_older_all_but_the_newest_are_renewed() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 4 + [4 * DAY_S] * 5, DAY_S) == 6 * DAY_S


def test_one_that_ends_soon_takes_only_the_older_along() -> None:
    assert refresh_horizon([6.9 * DAY_S] * 5 + [1 * DAY_S], DAY_S) == 4.5 * DAY_S


@given(st.floats(3600.0, 4 * DAY_S))
def test_nothing_ends_between_two_looks(epoch_s: float) -> None:
    left_s = 1.4 * epoch_s
    assert refresh_horizon([7 * DAY_S] * 5 + [left_s], epoch_s) > left_s


def test_what_one_of_three_knows_alone_is_not_commonly_known() -> None:
    a, b, c = ((number, NodeId(bytes([number]) * 32)) for number in range(3))
    ours, away, ahead = {a: 10, b: 10}, {a: 5, b: 5}, {a: 20, b: 10, c: 20}
    assert commonly_known([ours, away, ahead]) == {a: 10, b: 10}
    assert commonly_known([away, ours]) == {a: 5, b: 5}
    assert commonly_known([ahead]) == ahead
    assert commonly_known([]) == {}


@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=3), st.randoms())
def test_no_single_view_decides_what_is_commonly_known(views: list[dict[int, int]], rng: random.Random) -> None:
    known = [{(share, NodeId(bytes(32))): at for share, at in view.items()} for view in views]
    common = commonly_known(known)
    for place, at in common.items():
        assert sum(view.get(place, -1) >= at for view in known) >= 2
    rng.shuffle(known)
    assert commonly_known(known) == common


def statement(share: int, holder: int, issued: float, *, port: int = 4750, lease_end: int = 0) -> HolderStatement:
    reach = Reach.of(Address.parse(f"10.0.0.{holder}:{port}"))
    ends = int(issued) + LIFETIME_S
    return HolderStatement(FILE, share, NODES[holder], reach, lease_end, int(issued), ends, bytes([share, holder]))


def test_of_others_lists_is_learnt_whom_we_do_not_know_and_what_all_of_them_have() -> None:
    old, now = 10 * DAY_S, 11 * DAY_S
    ours = [statement(0, 1, old), statement(1, 2, old), statement(2, 3, old), statement(3, 4, old - 5 * DAY_S)]
    unknown = statement(5, 5, now - 5)
    moved = statement(2, 3, now - 4, port=4751)
    first = [statement(0, 1, now - 1), statement(1, 2, now - 3), moved, statement(3, 4, now - 2), unknown]
    second = [statement(1, 2, now - 2)]
    kept = worth_keeping(ours, [first, second], now, DAY_S)
    assert {(each.share, each.issued) for each in kept} == {
        (1, now - 3),  # both have it
        (2, now - 4),  # it has moved
        (3, now - 2),  # ours is about to end
        (5, now - 5),  # whom we did not know
    }
    assert worth_keeping(ours, [[statement(1, 2, old - 1, port=4751)]], now, DAY_S) == []  # old news
    assert worth_keeping([], [], now, DAY_S) == []


@pytest.mark.parametrize(("k", "n", "days"), [(1, 3, 30), (3, 6, 15)])
def test_holders_that_stay_always_know_of_each_other_and_seldom_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int, n: int, days: int
) -> None:
    told_at: list[float] = []
    tell = Teller.tell

    async def noted(self: Teller, findings: Findings, statements: Sequence[HolderStatement]) -> int:
        told_at.append(trio.current_time())
        return await tell(self, findings, statements)

    monkeypatch.setattr(Teller, "tell", noted)

    async def story(world: World) -> None:
        for number in range(n):
            await world.start(f"node-{number}")
        await trio.sleep(60)
        async with world.client("publisher") as client:
            published = await client.publish(chunks(world.rng.randbytes(20_000)), needed=k, total=n)
        assert published.complete
        for _ in range(days):
            await trio.sleep(DAY_S)
            for machine in world.machines.values():
                known = machine.serving.store.statements(published.link.id)
                good_until = machine.clock.read() + 3.4 * DAY_S
                assert len({each.holder_id for each in known if each.expires > good_until}) == n  # itself among them

    run_world(5, tmp_path, story)
    assert days / 4 <= len(told_at) <= days / 2.5  # every third day or so
