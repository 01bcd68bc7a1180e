"""The attackers. Each runs until it is cancelled, and calls `task_status.started()` when it is in position."""

from hostile.attacks.catalogue import ATTACKS

__all__ = ["ATTACKS"]
