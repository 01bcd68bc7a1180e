"""The routers of the home that this machine stands in."""

import os
from collections.abc import Callable, Sequence
from random import Random, SystemRandom

from shoal.node.router.gateway import Gateway, NatPmpRouter, PcpRouter
from shoal.node.router.pcp import NONCE_BYTES
from shoal.node.router.routes import default_gateways, default_ipv6_gateways
from shoal.node.router.values import Router, RouterProtocol

MAX_GATEWAYS = 2  # that are asked by PCP and NAT-PMP: a machine with a cable and a radio may have two


class HomeRouters:
    """Finds them. It keeps the nonce of PCP, by which a router knows our renewals."""

    def __init__(self, rng: Random | None = None, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._rng = rng or SystemRandom()
        self._nonce = entropy(NONCE_BYTES)

    async def find(self, protocol: RouterProtocol, local_host: str | None) -> Sequence[Router]:
        """See RouterNetwork. Gateways are not asked before they are to open a port."""
        if local_host is not None and ":" in local_host:
            return self._by_ipv6(local_host) if protocol is RouterProtocol.PCP else []
        gateways = default_gateways()[:MAX_GATEWAYS]
        match protocol:
            case RouterProtocol.PCP:
                return [PcpRouter(Gateway(each, local_host), self._rng, self._nonce) for each in gateways]
            case RouterProtocol.NAT_PMP:
                return [NatPmpRouter(Gateway(each, local_host), self._rng) for each in gateways]
            case RouterProtocol.UPNP:
                # HTTP and XML take long to load, and most nodes and all clients never speak them.
                from shoal.node.router.upnp import UpnpRouter, search

                return [UpnpRouter(each, self._rng, local_host) for each in await search(gateways, local_host)]

    def _by_ipv6(self, local_host: str) -> list[Router]:
        gateways = default_ipv6_gateways()[:MAX_GATEWAYS]
        return [PcpRouter(Gateway(each, local_host), self._rng, self._nonce) for each in gateways]
