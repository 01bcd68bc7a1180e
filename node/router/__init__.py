"""The home router: it is asked to let a port in, by PCP, NAT-PMP or UPnP-IGD.

Formats are sans-IO (`pcp`, `natpmp`, `igd`); `gateway` and `upnp` do the talking. Any machine in the home may pose as a
router: answers are bounded and checked here, and proven by peers outside alone.
"""

from shoal.node.router.home_routers import HomeRouters
from shoal.node.router.values import (
    LEASE_S,
    OpenedPort,
    OtherVersion,
    Router,
    RouterError,
    RouterNetwork,
    RouterProtocol,
    RouterRefused,
)

__all__ = [
    "LEASE_S",
    "HomeRouters",
    "OpenedPort",
    "OtherVersion",
    "Router",
    "RouterError",
    "RouterNetwork",
    "RouterProtocol",
    "RouterRefused",
]
