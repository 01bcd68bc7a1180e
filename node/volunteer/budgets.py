"""How much of this node's time each caller gets, so that one of them cannot have all.

A request costs by its type and by how much it asks for. The costs are fixed numbers, measured once
(`benchmarks/callers.py`), so that a simulation does not depend on the machine. Bytes that are moved cost nothing here:
the caller pays for them as much as the node, and the line bounds them.

A caller saves up `BURST_S` at most, and then gets `PART` of one core. It is told how long to wait. That is work as
well, so one refusal follows another after `REFUSAL_S`. Others that are within their share wait neither for its debt nor
for its requests: each caller has one large request in work at a time.

Handshakes cost more than small requests, and an honest caller needs few. So they have an allowance of their own.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import field

import trio

from shoal.dht import Address
from shoal.node.care.polls import PSEUDONYM_BYTES
from shoal.node.channel import (
    Abort,
    Announce,
    AnyRequest,
    Buffer,
    Caller,
    Commit,
    Delete,
    GetHolders,
    HolderList,
    Offer,
    Put,
    Reason,
    Renew,
    Reply,
    RequestError,
    Role,
    Settle,
    Settled,
    Status,
    Survey,
    TellHolders,
    Write,
)
from shoal.node.channel.limits import acquire
from shoal.values import dataclass

PART = 0.1  # of one core, for one caller in the long run: 6 s a minute
BURST_S = 0.5  # of CPU at once, after a rest: 33,000 files surveyed, 5,000 statements told, 1,600 small requests
REFUSAL_S = 0.01  # between two refusals to one caller, which cost it as little as the node: 100 a second
MAX_CALLERS = 4_096  # remembered, at some 500 bytes each

CONNECTIONS_PER_S = 50.0  # from one caller; at 1.0 to 1.6 ms of CPU for handshake and hellos, 8 % of a core
CONNECTIONS_AT_ONCE = 300  # half a second of CPU

# CPU seconds, rounded up.
REQUEST_S = 0.0003  # of any request, with its frames
POLL_S = 0.0007  # of a poll by datagram: two signatures, and the disk is asked. Each file as in a survey
SURVEYED_S = 0.000015  # each file of a survey,
SIGNED_S = 0.00006  # and its statement, where it has to be signed
CHECKED_S = 0.0001  # each statement whose signature is checked
RENEWED_S = 0.002  # a write to the disk: what is synced, and what is committed
UPLOAD_S = 0.0006  # each step of an upload, beyond a request
PUT_S = 0.0021  # a share of one block: proven, written, synced and committed
SETTLED_S = 0.0016  # a list of holders that is kept, beyond its signatures
ANNOUNCED_S = 0.02  # three lookups, and the records that follow
STORED_S = 0.0006  # each node that is to keep an announcement: two signatures, and a part of a lookup
LEAST_STATEMENT_BYTES = 200  # a packed statement is longer

Answer = Callable[[Caller, AnyRequest, Buffer], Awaitable[Reply]]


@dataclass(eq=False)
class Account:
    """One caller. It is in debt until `free_at`, as far as that is more than a burst away; so for its connections."""

    free_at: float = -math.inf
    may_connect_at: float = -math.inf
    turn: trio.Lock = field(default_factory=trio.Lock)  # of its large requests
    refusals: trio.Lock = field(default_factory=trio.Lock)

    def owes_until(self) -> float:
        """When it will have paid for everything."""
        return max(self.free_at, self.may_connect_at)


class CallerBudgets:
    """The accounts of all callers. Pure: the times are given.

    A caller is a place (`Address.place`): a /24 or /48 in a public network, since ids and addresses there are cheap.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._accounts: dict[bytes, Account] = {}
        self._unproven = Account()  # of all polls whose sender may be forged
        self.refused = 0  # requests, since the start
        self.peak_s = 0.0  # the most that a caller has used of its burst, since the start

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, remote: Address, now: float) -> Account:
        """The account of a caller. When there are too many, those in no debt go, else the eighth with the smallest."""
        key = remote.place(private=self._private)
        found = self._accounts.get(key)
        if found is None:
            if len(self._accounts) >= MAX_CALLERS:
                self._make_room(now)
            found = self._accounts[key] = Account()
        return found

    def _make_room(self, now: float) -> None:
        self._accounts = {key: each for key, each in self._accounts.items() if each.owes_until() > now}
        if len(self._accounts) >= MAX_CALLERS:
            by_debt = sorted(self._accounts, key=lambda key: self._accounts[key].owes_until())
            for key in by_debt[: MAX_CALLERS // 8]:  # many at once, since to look through all takes a millisecond
                del self._accounts[key]

    def wait_s(self, account: Account, now: float) -> float:
        """How long a caller has to wait before its next request; 0 for not at all."""
        return max(0.0, account.free_at - now - BURST_S / PART)

    async def hold_back(self, remote: Address) -> None:
        """Wait for the caller's turn to be refused something that no budget covers."""
        await self.hold_back_account(self.account(remote, trio.current_time()))

    async def hold_back_account(self, account: Account) -> None:
        """The same, where the account is known."""
        async with account.refusals:
            await trio.sleep(REFUSAL_S)

    def charge(self, account: Account, cost_s: float, now: float) -> None:
        """The node works, or has worked, so long for a caller."""
        account.free_at = max(account.free_at, now) + cost_s / PART
        self.peak_s = max(self.peak_s, (account.free_at - now) * PART)

    def admits_connection(self, source: Address, now: float) -> bool:
        """Whether to shake hands with a caller, which then counts."""
        account = self.account(source, now)
        if account.may_connect_at - now > CONNECTIONS_AT_ONCE / CONNECTIONS_PER_S:
            self.refused += 1
            return False
        account.may_connect_at = max(account.may_connect_at, now) + 1 / CONNECTIONS_PER_S
        return True

    def admits_poll(self, source: Address | None, size: int, now: float) -> bool:
        """Whether to work on a poll of so many bytes, which then counts. All with no proven source have one budget."""
        account = self._unproven if source is None else self.account(source, now)
        if self.wait_s(account, now):
            self.refused += 1
            return False
        self.charge(account, POLL_S + size // PSEUDONYM_BYTES * SURVEYED_S, now)
        return True


class BudgetedHandlers:
    """Answers requests by way of `answer`, where the caller's budget allows that. The administrator needs none."""

    def __init__(self, budgets: CallerBudgets, answer: Answer) -> None:
        self._budgets = budgets
        self._answer = answer

    async def answer(self, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        """Do one request. Raises RequestError: BUSY with the seconds to wait, or what `answer` raises."""
        if caller.role is Role.ADMIN:
            return await self._answer(caller, request, payload)
        account = self._budgets.account(caller.remote, trio.current_time())
        if not isinstance(request, _LARGE):
            return await self._charged(account, caller, request, payload)
        await acquire(account.turn)
        try:
            return await self._charged(account, caller, request, payload)
        finally:
            account.turn.release()

    async def _charged(self, account: Account, caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        if self._budgets.wait_s(account, trio.current_time()):
            await self._budgets.hold_back_account(account)
        now = trio.current_time()
        wait_s = self._budgets.wait_s(account, now)
        if wait_s:
            self._budgets.refused += 1
            text = "this caller has had its share of this node's time"
            raise RequestError(Status.BUSY, Reason.SHARE, text, math.ceil(wait_s))
        self._budgets.charge(account, cost_s(request, len(payload)), now)
        reply = await self._answer(caller, request, payload)
        if isinstance(reply, HolderList):
            self._budgets.charge(account, len(reply.payload) // LEAST_STATEMENT_BYTES * CHECKED_S, now)
        if isinstance(reply, Settled):
            self._budgets.charge(account, sum(closest for _, closest, _ in reply.classes) * STORED_S, now)
        return reply


_LARGE = (Survey, TellHolders, GetHolders)  # those that keep a core busy for up to a tenth of a second


def cost_s(request: AnyRequest, payload_bytes: int) -> float:
    """CPU seconds that a request may cost this node."""
    match request:
        case Survey():
            return REQUEST_S + len(request.ids) * (SURVEYED_S + (SIGNED_S if request.with_statements else 0.0))
        case TellHolders():
            return REQUEST_S + -(-payload_bytes // LEAST_STATEMENT_BYTES) * CHECKED_S
        case Delete():
            return REQUEST_S + CHECKED_S
        case Settle():
            return REQUEST_S + SETTLED_S + -(-payload_bytes // LEAST_STATEMENT_BYTES) * CHECKED_S
        case Put():
            return REQUEST_S + PUT_S
        case Write(sync=True) | Commit():
            return REQUEST_S + UPLOAD_S + RENEWED_S
        case Offer() | Write() | Abort():
            return REQUEST_S + UPLOAD_S
        case Renew():
            return REQUEST_S + RENEWED_S
        case Announce():
            return REQUEST_S + ANNOUNCED_S
        case _:
            return REQUEST_S
