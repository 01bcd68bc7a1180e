"""How often strangers' words can make us connect somewhere.

Anybody can sign a statement with a third party's address in it. So a connection counts from the moment it is begun, for
its host and for its prefix, and is given back when the peer has proven its key there. One peer that has been met needs
no leave.
"""

from collections.abc import Callable

import trio

from shoal.dht import Address, Allowance, KnockBudget, NodeId
from shoal.node.channel.errors import LeftAlone

# Connections to one place that have brought no peer, at once; they come back within ten minutes.
HOST_DIALS = Allowance(16, 16)
PREFIX_DIALS = Allowance(64, 64)


class Dials:
    """Shared by all pools of a node, and by its calls to where its own id is said to be.

    private: a place from which any peer has answered is not limited. is_met: whether that node is known to be at that
    address by other means.
    """

    def __init__(self, *, private: bool, is_met: Callable[[NodeId, Address], bool] = lambda node_id, address: False):
        self._budget = KnockBudget(HOST_DIALS, PREFIX_DIALS, private=private)
        self._is_met = is_met
        self.succeeded_at = float("-inf")  # when a connection last reached the peer that was meant

    def begin(self, node_id: NodeId | None, address: Address) -> None:
        """Count a connection that is about to be made. Raises LeftAlone when too many went there for nothing."""
        if node_id is not None and self._is_met(node_id, address):
            return
        if not self._budget.take(address, 1, trio.current_time()):
            raise LeftAlone(f"{address} is left alone: too many connections to that host brought no peer lately")

    def succeeded(self, address: Address) -> None:
        """The peer that was meant has answered there."""
        self.succeeded_at = trio.current_time()
        self._budget.note_life(address, self.succeeded_at)
