"""Making an invite: which peers of an open node others can join through, from where they are."""

from dataclasses import replace

from shoal.dht import Address, Contact
from shoal.node.context import Context
from shoal.node.home.daemon import DaemonNote
from shoal.node.home.invites import chosen_peers, invite_to
from shoal.node.home.network import Network
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite, and what it says.

    :ivar text: the invite, for people to send.
    :ivar network: the network, with the peers that the invite names.
    :ivar answered: how many of these peers have answered.
    :ivar is_local: all of them can be called from this machine alone.
    """

    text: str
    network: Network
    answered: int
    is_local: bool


class Inviting:
    """Makes the invites of one open node. `local`: the daemon of its home, where that is another process."""

    def __init__(self, context: Context, network: Network, local: DaemonNote | None) -> None:
        self._context = context
        self._network = network
        self._local = local

    def invitation(self) -> Invitation:
        """An invite through the peers that have answered this node; where none has, through those of the network file.

        :raises UsageError: the network has rules that no invite can carry.
        """
        found = self._found()
        answered = {str(contact.address) for contact in found}
        peers = chosen_peers(found, self._network.peers, private=self._network.parameters.private)
        network = replace(self._network, peers=peers)
        loopback = [Address.parse(each).is_loopback for each in answered]
        return Invitation(
            invite_to(network),
            network,
            sum(peer.address in answered for peer in peers),
            bool(loopback) and all(loopback),
        )

    def _found(self) -> list[Contact]:
        """This machine's own node first, if it runs, then those that have answered."""
        dht = self._context.dht
        others = list(dht.contacts())
        if dht.serving:
            ours = next(iter(dht.own_addresses()), None) or self._from_outside(dht.addresses)
            return [*([Contact(dht.identity.node_id, ours)] if ours else []), *others]
        local = self._local
        if local is None or not any(contact.node_id == local.node_id for contact in others):
            return others
        ours = self._from_outside(local.addresses)
        rest = [contact for contact in others if contact.node_id != local.node_id]
        return [*([Contact(local.node_id, ours)] if ours else []), *rest]

    def _from_outside(self, listening: tuple[Address, ...]) -> Address | None:
        """How others may call a node that listens so, as far as this machine knows by itself."""
        datagrams = self._context.env.datagrams
        for bound in listening:
            host = datagrams.local_host(ipv6=bound.is_ipv6) if bound.is_wildcard else bound.host
            address = Address.of(host, bound.port) if host else None
            if address is not None and self._network.parameters.allows(address):
                return address
        return None
