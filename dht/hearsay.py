"""Addresses that others told us of, and how often we try them.

A liar can put anybody's address into its answers. So an address known from others only is left alone for ten minutes
when it did not answer. A host that did not answer at many ports is left alone altogether.

In private networks all addresses belong to one party, and a silent address is left alone for some seconds only. That
keeps lookup after lookup from waiting for the same dead node.
"""

from collections import OrderedDict
from dataclasses import dataclass

from shoal.dht.address import Address

PRIVATE_QUIET_S = 20.0
QUIET_S = 600.0  # at most one attempt per silent address in this time
MAX_FAILURES_PER_HOST = 16  # silent ports of one host in that time; more is no sign of a host with many nodes
MAX_REMEMBERED = 4_096  # of each: the oldest are forgotten first


@dataclass(slots=True)
class _HostRecord:
    since: float
    failures: int


class HearsayBook:
    """The addresses that did not answer lately. Pure; `now` is monotonic seconds."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._quiet_s = PRIVATE_QUIET_S if private else QUIET_S
        self._silent: OrderedDict[Address, float] = OrderedDict()
        self._hosts: OrderedDict[bytes, _HostRecord] = OrderedDict()

    def allows(self, address: Address, now: float) -> bool:
        """Whether an address known by hearsay may be tried."""
        failed_at = self._silent.get(address)
        if failed_at is not None and now - failed_at < self._quiet_s:
            return False
        if self._private:
            return True
        host = self._hosts.get(address.host_key())
        return host is None or now - host.since >= QUIET_S or host.failures < MAX_FAILURES_PER_HOST

    def was_silent(self, address: Address) -> bool:
        """Whether the last attempt that we know of brought no answer, however long ago."""
        return address in self._silent

    def note_silence(self, address: Address, now: float) -> None:
        """An attempt at `address` brought no answer."""
        self._silent[address] = now
        self._silent.move_to_end(address)
        if len(self._silent) > MAX_REMEMBERED:
            self._silent.popitem(last=False)
        if not self._private:
            self._note_silent_host(address, now)

    def _note_silent_host(self, address: Address, now: float) -> None:
        host = self._hosts.get(address.host_key())
        if host is None or now - host.since >= QUIET_S:
            self._hosts[address.host_key()] = _HostRecord(now, 1)
        else:
            host.failures += 1
        if len(self._hosts) > MAX_REMEMBERED:
            self._hosts.popitem(last=False)

    def note_life(self, address: Address) -> None:
        """`address` answered, or proved with a cookie that it hears us."""
        if self._silent.pop(address, None) is not None:
            self._hosts.pop(address.host_key(), None)
