"""What home routers let through, by kind. Pure.

A machine behind one calls anybody, and nobody calls it. Two that connect to each other at the same time meet where each
router names its machine by one port, whomever that calls.
"""

from enum import Enum


class Nat(Enum):
    """A router, or two in a row: then the stricter one counts."""

    RESTRICTED = "port restricted"  # one port for all, and lets in those that were called
    SYMMETRIC = "symmetric"  # a port for each that is called, so nobody can tell another where to knock


def can_punch(one: Nat | None, other: Nat | None) -> bool:
    """Whether two that connect to each other at the same time meet; None for a machine behind no router."""
    return Nat.SYMMETRIC not in (one, other)
