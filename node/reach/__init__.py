"""How this node is reached: whether it can be dialled, and relays where it cannot."""
