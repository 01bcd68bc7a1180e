"""What home routers let through, by kind. Pure.

A machine behind one calls anybody, and nobody calls it. Two machines that call each other at the same time meet where
their routers name them by one port for all whom they call, or where one router lets in whoever comes.
"""

from enum import Enum


class Nat(Enum):
    """A router, or two in a row: then the stricter one counts."""

    FULL_CONE = "full cone"  # one port for all, and lets in whoever comes to it while it is used
    RESTRICTED = "port restricted"  # one port for all, and lets in those that were called
    SYMMETRIC = "symmetric"  # a port for each that is called


def can_punch(one: Nat | None, other: Nat | None) -> bool:
    """Whether two that call each other at the same time meet; None for a machine behind no router."""
    kinds = {one, other}
    return Nat.SYMMETRIC not in kinds or bool(kinds & {None, Nat.FULL_CONE})
