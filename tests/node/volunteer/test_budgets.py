"""Each caller's share of a node's time: what it gets, when it is told to wait, and that others do not wait with it."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from shoal.dht import Address, NodeId
from shoal.node.care.polls import MAX_POLLED, PSEUDONYM_BYTES
from shoal.node.channel import (
    MAX_SURVEY_COUNT,
    AnyRequest,
    Buffer,
    Caller,
    Commit,
    GetHeld,
    HeldShares,
    HolderList,
    Offer,
    Put,
    Reason,
    Renew,
    Reply,
    RequestError,
    Role,
    Settle,
    Status,
    Survey,
    Surveyed,
    TellHolders,
    Write,
)
from shoal.node.volunteer.budgets import (
    BURST_S,
    CONNECTIONS_AT_ONCE,
    CONNECTIONS_PER_S,
    MAX_CALLERS,
    PART,
    REFUSAL_S,
    BudgetedHandlers,
    CallerBudgets,
    cost_s,
)

MINUTE_S = 60.0
SURVEY = Survey(bytes(32 * MAX_SURVEY_COUNT), True)
HELD = GetHeld(bytes(32))
RENEW = Renew(bytes(32), 3600)
SOMEBODY = Caller(Address.of("198.51.100.7", 1))
NEIGHBOUR = Caller(Address.of("198.51.100.200", 1))
STRANGER = Caller(Address.of("203.0.113.1", 1))


class Node:
    """A node's budget, and how long it has worked for each caller. Work takes as long as it costs."""

    def __init__(self, *, private: bool = False) -> None:
        self.budgets = CallerBudgets(private=private)
        self.handlers = BudgetedHandlers(self.budgets, self._work)
        self.worked: dict[Caller, float] = {}
        self.at_once = self.most_at_once = 0

    async def _work(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(cost_s(request, len(payload)))
        self.at_once -= 1
        self.worked[caller] = self.worked.get(caller, 0.0) + cost_s(request, len(payload))
        return Surveyed(0, b"") if isinstance(request, Survey) else HeldShares(())

    async def flood(self, caller: Caller, request: AnyRequest, seconds: float) -> None:
        """Ask without a pause; what the answer says makes no difference."""
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            await self.ask(caller, request)
            await trio.sleep(0.05)

    async def ask(self, caller: Caller, request: AnyRequest) -> float:
        """Ask once; the seconds to wait that it answers, 0 where it does what was asked."""
        try:
            await self.handlers.answer(caller, request, b"")
        except RequestError as error:
            is_busy = (error.failure.status, error.failure.reason) == (Status.BUSY, Reason.SHARE)
            return error.failure.price if is_busy else math.nan
        return 0.0


async def test_a_caller_gets_its_part_of_a_core_and_no_more(autojump_clock: MockClock) -> None:
    node = Node()
    async with trio.open_nursery() as nursery:
        for _ in range(8):  # however many connections it has
            nursery.start_soon(node.flood, SOMEBODY, SURVEY, 2 * MINUTE_S)
    most = BURST_S + 2 * MINUTE_S * PART
    assert most * 0.97 < node.worked[SOMEBODY] <= most + 8 * cost_s(SURVEY, 0)
    assert node.most_at_once == 1


async def test_others_never_wait_for_one_who_floods(autojump_clock: MockClock) -> None:
    node = Node()
    slowest = 0.0
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(node.flood, SOMEBODY, SURVEY, MINUTE_S)
            nursery.start_soon(node.flood, SOMEBODY, HELD, MINUTE_S)
        for _ in range(50):
            begun = trio.current_time()
            assert await node.ask(STRANGER, SURVEY) == 0.0
            slowest = max(slowest, trio.current_time() - begun)
            await trio.sleep(1.0)
    assert slowest == pytest.approx(cost_s(SURVEY, 0))


def test_handshakes_count_and_others_are_let_in() -> None:
    """Somebody connects 2,000 times a second for a minute, and a stranger once a second."""
    budgets = CallerBudgets(private=True)
    let_in = 0
    for step in range(int(MINUTE_S) * 2_000):
        now = step / 2_000
        let_in += budgets.admits_connection(SOMEBODY.remote, now)
        if not step % 2_000:
            assert budgets.admits_connection(STRANGER.remote, now)
    assert let_in == pytest.approx(CONNECTIONS_AT_ONCE + MINUTE_S * CONNECTIONS_PER_S, rel=0.01)


async def test_to_refuse_is_work_too_and_is_done_in_turn(autojump_clock: MockClock) -> None:
    """Over 16 connections it asks as fast as it is answered, far beyond its share. A stranger waits for nothing."""
    node = Node()

    async def press() -> None:
        while True:
            await node.ask(SOMEBODY, RENEW)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(press)
        await trio.sleep(MINUTE_S)
        begun = trio.current_time()
        assert await node.ask(STRANGER, HELD) == 0.0
        assert trio.current_time() - begun == pytest.approx(cost_s(HELD, 0))
        nursery.cancel_scope.cancel()
    assert 0 < node.budgets.refused <= MINUTE_S / REFUSAL_S + 1


async def test_a_caller_is_told_how_long_to_wait(autojump_clock: MockClock) -> None:
    node = Node()
    while not (wait_s := await node.ask(SOMEBODY, SURVEY)):
        pass
    assert 0 < wait_s <= math.ceil(cost_s(SURVEY, 0) / PART)
    await trio.sleep(wait_s)
    assert await node.ask(SOMEBODY, SURVEY) == 0.0


@pytest.mark.parametrize("private", [False, True])
async def test_who_counts_as_one_caller(autojump_clock: MockClock, private: bool) -> None:
    node = Node(private=private)
    await node.flood(SOMEBODY, SURVEY, MINUTE_S)
    assert await node.ask(replace(SOMEBODY, role=Role.PEER, node_id=NodeId(bytes(32))), SURVEY) > 0  # an id is free
    assert (await node.ask(NEIGHBOUR, SURVEY) == 0.0) == private  # and so are addresses of one /24
    assert await node.ask(STRANGER, SURVEY) == 0.0


@pytest.mark.parametrize("private", [False, True])
async def test_a_48_of_the_internets_is_one_caller(autojump_clock: MockClock, private: bool) -> None:
    node = Node(private=private)
    callers = [Caller(Address.of(f"2a00:1:1:{number:x}::1", 1)) for number in range(300)]
    assert any([await node.ask(each, SURVEY) for each in callers])
    assert len(node.budgets) == 1


@pytest.mark.parametrize("private", [False, True])
async def test_polls_count_like_requests(autojump_clock: MockClock, private: bool) -> None:
    node = Node(private=private)
    size = MAX_POLLED * PSEUDONYM_BYTES
    answered = sum(node.budgets.admits_poll(SOMEBODY.remote, size, at / 1000) for at in range(60_000))
    assert (BURST_S + MINUTE_S * PART) / 0.0020 < answered < (BURST_S + MINUTE_S * PART) / 0.0015
    await trio.sleep(MINUTE_S)
    assert any([await node.ask(SOMEBODY, SURVEY) for _ in range(2)])
    assert await node.ask(STRANGER, SURVEY) == 0.0
    assert node.budgets.admits_poll(STRANGER.remote, size, MINUTE_S)


async def test_forged_polls_use_up_one_budget_and_nobody_s(autojump_clock: MockClock) -> None:
    node = Node()
    while node.budgets.admits_poll(None, 0, 0.0):
        pass
    assert node.budgets.admits_poll(SOMEBODY.remote, 0, 0.0)
    assert await node.ask(SOMEBODY, SURVEY) == 0.0


def test_a_tiny_file_costs_what_its_upload_costs_the_node() -> None:
    upload = bytes(16)
    steps = (Offer(upload, 0, 1, b""), Write(upload, 0, bytes(32), False), Commit(upload, 0, 1))
    assert sum(cost_s(each, 1) for each in steps) >= 0.0024
    assert cost_s(Put(upload, 0, 1, 700, b""), 1) >= 0.0024
    assert cost_s(Settle(bytes(32)), 9 * 230) >= 0.0029


async def test_the_administrator_has_no_budget(autojump_clock: MockClock) -> None:
    node = Node()
    await node.flood(SOMEBODY, SURVEY, MINUTE_S)
    assert await node.ask(replace(SOMEBODY, role=Role.ADMIN), SURVEY) == 0.0


async def test_the_table_is_bounded_and_debts_outlive_those_without() -> None:
    budgets, now = CallerBudgets(private=False), 0.0
    debtor = Address.of("198.51.100.7", 1)
    budgets.charge(budgets.account(debtor, now), 2 * BURST_S, now)
    for number in range(2 * MAX_CALLERS):
        account = budgets.account(Address.of(f"{44 + number // 65536}.{number // 256 % 256}.{number % 256}.1", 1), now)
        budgets.charge(account, 0.001, now)
        assert len(budgets) <= MAX_CALLERS
    assert budgets.wait_s(budgets.account(debtor, now), now) > 0


def test_junk_costs_as_much_as_what_it_pretends_to_be() -> None:
    tell = TellHolders(bytes(32))
    assert cost_s(tell, 1024 * 250) > 1024 * 0.0001
    assert cost_s(SURVEY, 0) > cost_s(replace(SURVEY, with_statements=False), 0) > 1024 * 0.00001


async def test_a_long_list_of_holders_is_paid_for_when_it_is_known(autojump_clock: MockClock) -> None:
    budgets = CallerBudgets(private=False)

    async def answer(caller: Caller, request: Any, payload: Buffer) -> Reply:
        return HolderList(bytes(200_000))

    handlers = BudgetedHandlers(budgets, answer)
    for _ in range(int(BURST_S / 0.1)):
        await handlers.answer(SOMEBODY, HELD, b"")
    with pytest.raises(RequestError):
        await handlers.answer(SOMEBODY, HELD, b"")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=50), st.randoms(use_true_random=False))
def test_no_pattern_of_requests_gets_more(requests: list[tuple[float, float]], rng: random.Random) -> None:
    """In any stretch of time: the burst, its part of the time, and the last request."""
    budgets, spent, now = CallerBudgets(private=True), 0.0, 0.0
    account = budgets.account(SOMEBODY.remote, now)
    largest = 0.0
    for pause_s, cost in requests:
        now += pause_s
        if not budgets.wait_s(account, now):
            budgets.charge(account, cost, now)
            spent, largest = spent + cost, max(largest, cost)
        assert spent <= BURST_S + PART * now + largest + 1e-6
