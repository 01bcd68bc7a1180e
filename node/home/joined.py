"""Which network a home is on: the one that was named, else the one that the home has joined, else Shoal's own.

A home with a node has a note, too. It says which network the node, its key and its shares belong to, and stays.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

from shoal.dht import NetworkParameters
from shoal.node.errors import UsageError
from shoal.node.home.home import Home, read_plain, write_private
from shoal.node.home.invites import is_invite, parse_invite
from shoal.node.home.network import MAX_FILE_BYTES, Network, Peer, shown

MAX_JOINED_PEERS = 64  # of a home's network file: those of the newest invites


def network_of(home: Home, named: Network | Path | str | None = None) -> Network:
    """The network of a home, or the one named: a network file, or an invite.

    :raises UsageError: what is wrong in the file or the invite.
    """
    if isinstance(named, Network):
        return named
    if named is not None:
        return parse_invite(str(named)) if is_invite(str(named)) else Network.load(Path(named))
    return _joined(home) or Network.load()


def _joined(home: Home) -> Network | None:
    return Network.load(home.network_file) if os.path.lexists(home.network_file) else None


def is_shipped(parameters: NetworkParameters) -> bool:
    """Whether everybody with this copy of Shoal is on this network without being told anything."""
    return parameters.network_id == Network.load().parameters.network_id


def join_network(home: Home, network: Network) -> Network:
    """Have a home be on a network from now on. Peers that its network file has already are kept behind the new ones.

    :raises UsageError: the home is on another network, or its node was made for another one.
    :raises LocalError: the home cannot be written.
    """
    check_network(home, network.parameters)
    old = _joined(home)
    if old is not None and old.parameters.network_id == network.parameters.network_id:
        peers: dict[str, Peer] = {}
        for peer in (*network.peers, *old.peers):
            peers.setdefault(peer.address, peer)
        network = replace(network, peers=tuple(peers.values())[:MAX_JOINED_PEERS])
    if old is not None or network != Network.load():
        home.create()
        write_private(home.network_file, network.to_toml().encode())
    return network


def remember_network(home: Home, parameters: NetworkParameters) -> None:
    """Note which network the node of this home, its key and its shares belong to. What is noted stays.

    :raises LocalError: it cannot be written.
    """
    if _noted_network(home) is None:
        content = {"name": parameters.name, "id": parameters.network_id.hex()}
        write_private(home.network_note, json.dumps(content).encode())


def _noted_network(home: Home) -> tuple[str, bytes] | None:
    """Name and id of the network that was noted; None where none was."""
    try:
        noted = json.loads(read_plain(home.network_note, MAX_FILE_BYTES))
        return str(noted["name"]), bytes.fromhex(noted["id"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def check_network(home: Home, parameters: NetworkParameters) -> None:
    """See that a home, and the node in it, may be on a network.

    :raises UsageError: the node belongs to another one, or the home has joined another one. Both are named.
    """
    noted = _noted_network(home)
    if noted is not None and noted[1] != parameters.network_id:
        raise UsageError(
            f"The node in {home.data} belongs to the network {shown(noted[0])}, not to "
            f"{_other_name(noted[0], parameters)}. Name its network file with --network, or use another --home."
        )
    joined = _joined(home)
    if noted is None and joined is not None and joined.parameters.network_id != parameters.network_id:
        name = joined.parameters.name
        raise UsageError(
            f"The home {home.config} has joined the network {shown(name)}, not {_other_name(name, parameters)}. Use "
            f"another --home, or remove {home.network_file} first."
        )


def _other_name(name: str, parameters: NetworkParameters) -> str:
    """How to name a network beside another one of perhaps the same name."""
    return shown(parameters.name) if name != parameters.name else "one of that name with other rules"
