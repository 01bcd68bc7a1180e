"""The ports of the home router that lead to this node: one by IPv4, and by IPv6 a hole in the router's firewall."""

from shoal.dht import Address, AddressSource, DatagramNetwork, DhtService
from shoal.node.nursery import open_nursery
from shoal.node.reach.mapping import PortMapping
from shoal.node.reach.reachability import Reaching
from shoal.node.router import RouterNetwork


class HomePorts:
    """Keeps both open while `run` runs. `reaching` hears of what is opened and closed."""

    def __init__(self, dht: DhtService, datagrams: DatagramNetwork, routers: RouterNetwork, reaching: Reaching) -> None:
        def mapped(external: Address | None) -> None:
            dht.be_mapped(external)
            reaching.reopened(ipv6=False)

        def opened(external: Address | None) -> None:
            reaching.reopened(ipv6=True)

        changed = datagrams.wait_for_change
        self.ipv4 = PortMapping(routers, lambda: _by_ipv4(dht), mapped, changed)
        self.ipv6 = PortMapping(routers, lambda: _by_ipv6(dht, datagrams), opened, changed)

    async def run(self) -> None:
        """Until cancelled; then they are closed."""
        async with open_nursery() as nursery:
            nursery.start_soon(self.ipv4.run)
            nursery.start_soon(self.ipv6.run)


def _by_ipv4(dht: DhtService) -> Address | None:
    """The listening address to which a port of the router is to lead; None where none is needed."""
    listening = [each for each in dht.addresses if not each.is_ipv6 and not each.is_loopback]
    from_others = (AddressSource.MAPPED, AddressSource.OBSERVED)
    depends = all(each.source in from_others for each in dht.candidates(ipv6=False))
    return listening[0] if listening and depends else None


def _by_ipv6(dht: DhtService, datagrams: DatagramNetwork) -> Address | None:
    """The public address of this machine for which a firewall is to be opened; None where there is none."""
    for bound in dht.addresses:
        host = datagrams.local_host(ipv6=True) if bound.is_ipv6 and bound.is_wildcard else bound.host
        if bound.is_ipv6 and host is not None and Address(host, bound.port).is_public:
            return Address(host, bound.port)
    return None
