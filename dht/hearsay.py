"""Addresses that others told us of, and how much we send there.

A liar can put anybody's address into its answers. So whatever goes to an address that has not answered yet is counted
when it is sent, by host and by prefix, and is given back when the address answers. An address that did not answer is
left alone for ten minutes.

In private networks all addresses belong to one party. There a silent address is left alone for some seconds only, which
keeps lookup after lookup from waiting for the same dead node. A host or a prefix from which anybody has answered is not
counted there.
"""

from collections import OrderedDict
from collections.abc import Callable

from shoal.dht.address import Address
from shoal.values import dataclass

PRIVATE_QUIET_S = 20.0
QUIET_S = 600.0  # at most one attempt per silent address in this time
MAX_REMEMBERED = 4_096  # of each: the oldest are forgotten first, of places those that owe least


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one place may be sent before anybody there has answered: so much at once.

    It comes back evenly within `QUIET_S`. So in no ten minutes is it more than twice as much.
    """

    count: int
    size: int


# Of datagrams. Five silent addresses use up their host's: three datagrams each. A full datagram has 1,232 bytes.
HOST_DATAGRAMS = Allowance(16, 16 * 2**10)
PREFIX_DATAGRAMS = Allowance(64, 64 * 2**10)


class _Debt:
    """What was sent without an answer, and has not been forgiven by time."""

    __slots__ = ("at", "count", "size")

    def __init__(self, now: float) -> None:
        self.at = now
        self.count = self.size = 0.0

    def age(self, allowance: Allowance, now: float) -> None:
        forgiven = max(0.0, now - self.at) / QUIET_S
        self.at = max(self.at, now)
        self.give_back(forgiven * allowance.count, forgiven * allowance.size)

    def add(self, count: float, size: float) -> None:
        self.count += count
        self.size += size

    def give_back(self, count: float, size: float) -> None:
        self.count = max(0.0, self.count - count)
        self.size = max(0.0, self.size - size)

    def has_room(self, allowance: Allowance, size: int) -> bool:
        return self.count + 1 <= allowance.count and self.size + size <= allowance.size


class _Ledger:
    """The debts of all places of one width."""

    def __init__(self, allowance: Allowance, place_of: Callable[[Address], bytes]) -> None:
        self.place_of = place_of
        self._allowance = allowance
        self._debts: dict[bytes, _Debt] = {}

    def has_room(self, address: Address, size: int, now: float) -> bool:
        return self._debt(address, now).has_room(self._allowance, size)

    def add(self, address: Address, size: int, now: float) -> None:
        place = self.place_of(address)
        self._debts[place] = debt = self._debt(address, now)
        debt.add(1, size)
        if len(self._debts) > MAX_REMEMBERED:
            self._forget_half(now)

    def give_back(self, address: Address, paid: _Debt, now: float) -> None:
        self._debt(address, now).give_back(paid.count, paid.size)

    def _debt(self, address: Address, now: float) -> _Debt:
        debt = self._debts.get(self.place_of(address))
        if debt is None:
            return _Debt(now)
        debt.age(self._allowance, now)
        return debt

    def _forget_half(self, now: float) -> None:
        """Forget those that owe least. A liar that names thousands of hosts does not have its victim forgotten."""
        for debt in self._debts.values():
            debt.age(self._allowance, now)
        owing = sorted(self._debts.items(), key=lambda item: item[1].count, reverse=True)
        self._debts = dict(owing[: MAX_REMEMBERED // 2])


class KnockBudget:
    """Counts what is sent to addresses that have not answered, by host and by prefix. Pure; `now` is monotonic seconds.

    An attempt counts from its start. An answer gives back what that one address has cost, and no more.
    """

    def __init__(self, host: Allowance, prefix: Allowance, *, private: bool) -> None:
        self._private = private
        self._ledgers = (_Ledger(host, Address.host_key), _Ledger(prefix, Address.prefix))
        self._unpaid: OrderedDict[Address, _Debt] = OrderedDict()
        self._alive: OrderedDict[bytes, None] = OrderedDict()  # in private networks: places somebody answered from

    def take(self, address: Address, size: int, now: float) -> bool:
        """Count `size` bytes that are about to go to `address`; False when they must not."""
        ledgers = [ledger for ledger in self._ledgers if ledger.place_of(address) not in self._alive]
        if not all(ledger.has_room(address, size, now) for ledger in ledgers):
            return False
        for ledger in ledgers:
            ledger.add(address, size, now)
        self._unpaid.setdefault(address, _Debt(now)).add(1, size)
        self._unpaid.move_to_end(address)
        if len(self._unpaid) > MAX_REMEMBERED:
            self._unpaid.popitem(last=False)
        return True

    def note_life(self, address: Address, now: float) -> None:
        """`address` answered, or proved otherwise that it hears us."""
        paid = self._unpaid.pop(address, None)
        for ledger in self._ledgers:
            if paid is not None:
                ledger.give_back(address, paid, now)
            if self._private:
                self._note_alive(ledger.place_of(address))

    def _note_alive(self, place: bytes) -> None:
        self._alive[place] = None
        self._alive.move_to_end(place)
        if len(self._alive) > MAX_REMEMBERED:
            self._alive.popitem(last=False)


class HearsayBook:
    """The addresses that did not answer lately, and what they may be sent. Pure; `now` is monotonic seconds."""

    def __init__(self, *, private: bool) -> None:
        self._quiet_s = PRIVATE_QUIET_S if private else QUIET_S
        self._silent: OrderedDict[Address, float] = OrderedDict()
        self._budget = KnockBudget(HOST_DATAGRAMS, PREFIX_DATAGRAMS, private=private)

    def allows(self, address: Address, now: float) -> bool:
        """Whether an address known by hearsay may be tried: it was not silent a moment ago."""
        failed_at = self._silent.get(address)
        return failed_at is None or now - failed_at >= self._quiet_s

    def take(self, address: Address, size: int, now: float) -> bool:
        """Count a datagram that is about to go to an address known by hearsay; False when it must not."""
        return self._budget.take(address, size, now)

    def was_silent(self, address: Address) -> bool:
        """Whether the last attempt that we know of brought no answer, however long ago."""
        return address in self._silent

    def note_silence(self, address: Address, now: float) -> None:
        """An attempt at `address` brought no answer."""
        self._silent[address] = now
        self._silent.move_to_end(address)
        if len(self._silent) > MAX_REMEMBERED:
            self._silent.popitem(last=False)

    def note_life(self, address: Address, now: float) -> None:
        """`address` answered, or proved with a cookie that it hears us."""
        self._silent.pop(address, None)
        self._budget.note_life(address, now)
