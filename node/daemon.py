"""How other processes of the same user find and ask the daemon of a home.

The daemon writes where it listens into its home. Whoever can read the daemon's key may ask it for its status, over the
same port and protocol as any peer: there is no second socket.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgpack
import trio

from shoal.dht import Address, AddressError, NodeId
from shoal.node.channel import GetStatus, PeerError, Role, open_connection
from shoal.node.environment import Environment, real_environment
from shoal.node.errors import LocalError
from shoal.node.home import Home, write_private
from shoal.node.network import Network
from shoal.node.nursery import open_nursery
from shoal.node.settings import load_identity

STATUS_TIMEOUT_S = 10.0
MAX_FILE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class DaemonNote:
    """Where the daemon of a home listens, with real port numbers, and who it is."""

    node_id: NodeId
    addresses: tuple[Address, ...]

    def reachable(self) -> list[Address]:
        """The addresses as this machine can call them: wildcards replaced by loopback."""
        return [_loopback(address) if address.is_wildcard else address for address in self.addresses]


def _loopback(address: Address) -> Address:
    return Address("::1" if address.is_ipv6 else "127.0.0.1", address.port)


def write_note(home: Home, note: DaemonNote) -> None:
    """Called by the daemon once it listens."""
    content = {"node_id": note.node_id.hex(), "addresses": [str(address) for address in note.addresses]}
    write_private(home.daemon_file, json.dumps(content).encode(), durable=False)


def read_note(home: Home) -> DaemonNote | None:
    """The note of the daemon, dead or alive; None without one. A damaged note counts as none."""
    try:
        with open(home.daemon_file, "rb") as file:
            content = json.loads(file.read(MAX_FILE_BYTES))
        addresses = tuple(Address.parse(text) for text in content["addresses"])
        return DaemonNote(NodeId(bytes.fromhex(content["node_id"])), addresses)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, AddressError):
        return None


def remove_note(home: Home) -> None:
    """Called by the daemon at its end."""
    home.daemon_file.unlink(missing_ok=True)


async def daemon_status(
    home: Home, *, network: Network | None = None, environment: Environment | None = None
) -> dict[str, Any]:
    """The status of the daemon that runs on `home`; LocalError when none does, UsageError before `node init`."""
    env = environment or real_environment()
    parameters = (network or Network.load()).parameters
    identity = load_identity(home, parameters, env.scheme)
    note = read_note(home)
    if note is None:
        raise LocalError(f"No node runs on {home.data}. Start it with: shoal node run")
    with trio.move_on_after(STATUS_TIMEOUT_S):
        for address in note.reachable():
            try:
                async with (
                    open_nursery(),
                    open_connection(env.streams, address, identity.node_id) as connection,
                ):
                    await connection.identify(identity, parameters, Role.ADMIN, timeout_s=STATUS_TIMEOUT_S)
                    reply = await connection.request(GetStatus(), timeout_s=STATUS_TIMEOUT_S)
                    return _plain(bytes(reply.payload))
            except PeerError:
                continue
    raise LocalError(
        f"The node that ran on {home.data} does not answer at {', '.join(map(str, note.addresses))}: it has stopped, "
        "or it runs on another network. Start it with: shoal node run"
    )


def _plain(payload: bytes) -> dict[str, Any]:
    status = msgpack.unpackb(payload, raw=False)
    if not isinstance(status, dict):
        raise LocalError("The node's answer makes no sense; it may be of another version of Shoal.")
    return {str(key): value for key, value in status.items()}
