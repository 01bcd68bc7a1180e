"""Making an invite: which peers of an open node others can join through, from where they are."""

from dataclasses import replace

import trio

from shoal.dht import Address, AddressError, Contact
from shoal.node.context import Context
from shoal.node.errors import ShoalError
from shoal.node.home.daemon import DaemonNote, daemon_status
from shoal.node.home.home import Home
from shoal.node.home.invites import chosen_peers, invite_to
from shoal.node.home.network import Network
from shoal.values import dataclass

STATUS_TIMEOUT_S = 3.0  # for the node of this home to say where it is called; it has just answered


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

    def __init__(self, context: Context, network: Network, home: Home, local: DaemonNote | None) -> None:
        self._context = context
        self._network = network
        self._home = home
        self._local = local

    async def invitation(self) -> Invitation:
        """An invite through the peers that have answered this node; where none has, through those of the network file.

        :raises UsageError: the network has rules that no invite can carry.
        """
        found = await self._found()
        answered = {str(contact.address) for contact in found}
        peers = chosen_peers(found, self._network.peers, private=self._network.parameters.private)
        network = replace(self._network, peers=peers)
        loopback = [contact.address.is_loopback for contact in found]
        return Invitation(
            invite_to(network),
            network,
            sum(peer.address in answered for peer in peers),
            bool(loopback) and all(loopback),
        )

    async def _found(self) -> list[Contact]:
        """This machine's own node first, if it runs, then those that have answered."""
        dht = self._context.dht
        others = list(dht.contacts())
        if dht.serving:
            ours = (*dht.own_addresses(), *self._from_outside(dht.addresses))
            return [*(Contact(dht.identity.node_id, each) for each in dict.fromkeys(ours)), *others]
        local = self._local
        if local is None or not any(contact.node_id == local.node_id for contact in others):
            return others
        ours = (*await self._as_it_says(), *self._from_outside(local.addresses))
        rest = [contact for contact in others if contact.node_id != local.node_id]
        return [*(Contact(local.node_id, each) for each in dict.fromkeys(ours)), *rest]

    async def _as_it_says(self) -> tuple[Address, ...]:
        """Where the node of this home is called from outside, if it knows."""
        status: dict[str, object] = {}
        with trio.move_on_after(STATUS_TIMEOUT_S):
            try:
                status = await daemon_status(self._home, network=self._network, environment=self._context.env)
            except ShoalError:  # it runs on another network, say, or ends just now
                return ()
        if status.get("reachable") not in ("direct", "mapped"):
            return ()
        try:
            address = Address.parse(str(status.get("external_address")))
        except AddressError:
            return ()
        return (address,) if self._network.parameters.allows(address) else ()

    def _from_outside(self, listening: tuple[Address, ...]) -> tuple[Address, ...]:
        """How others may call a node that listens so, as far as this machine knows by itself: one address at most."""
        for bound in listening:
            host = self._own_host(ipv6=bound.is_ipv6) if bound.is_wildcard else bound.host
            address = Address.of(host, bound.port) if host else None
            if address is not None and self._network.parameters.allows(address):
                return (address,)
        return ()

    def _own_host(self, *, ipv6: bool) -> str | None:
        """This machine's address: on the way to the internet, or else in a local network."""
        env = self._context.env
        links = env.lan.links() if env.lan is not None else ()
        local = next((link.host for link in links if link.is_ipv6 == ipv6), None)
        return env.datagrams.local_host(ipv6=ipv6) or local
