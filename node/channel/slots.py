"""Caps on a server's connections. One slot is kept for the machine's own administrator.
Pure.
"""

from collections import Counter
from dataclasses import dataclass

from shoal.dht import Address

MAX_CONNECTIONS_COUNT = 512  # at some 20 KiB of TLS state each, 10 MiB when full
MAX_CONNECTIONS_PER_HOST_COUNT = 16  # a household behind one address; no single host can fill the node


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Leave to hold one connection. `reserved` marks the one that is only for the administrator."""

    host_key: bytes
    reserved: bool


class ConnectionSlots:
    """Counts connections. One object serves all listeners of a node, so that the caps hold over them
    together.
    """

    def __init__(
        self,
        total: int = MAX_CONNECTIONS_COUNT,
        per_host: int | None = MAX_CONNECTIONS_PER_HOST_COUNT,
    ) -> None:
        """`per_host` None lifts the limit per address, for private networks."""
        self.total = total
        self.per_host = per_host
        self.used = 0
        self._by_host: Counter[bytes] = Counter()
        self._reserve_free = True

    def take(self, remote: Address, local: Address) -> Slot | None:
        """A slot for a connection from `remote` that arrived at `local`; None when there is none for it."""
        host_key = remote.host_key()
        crowded = self.per_host is not None and self._by_host[host_key] >= self.per_host
        if self.used < self.total and not crowded:
            self.used += 1
            self._by_host[host_key] += 1
            return Slot(host_key, reserved=False)
        if self._reserve_free and _same_machine(remote, local):
            self._reserve_free = False
            return Slot(host_key, reserved=True)
        return None

    def release(self, slot: Slot) -> None:
        """Give a slot back. Once only."""
        if slot.reserved:
            self._reserve_free = True
            return
        self.used -= 1
        self._by_host[slot.host_key] -= 1
        if not self._by_host[slot.host_key]:
            del self._by_host[slot.host_key]


def _same_machine(remote: Address, local: Address) -> bool:
    return remote.host in (local.host, "::1") or remote.host.startswith("127.")
