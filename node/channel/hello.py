"""The opening of a conversation: versions, the server's id, and the caller's proof of who it is. Pure."""

from enum import StrEnum

from shoal.dht import Identity, NetworkParameters, NodeId, has_proof, node_id_of
from shoal.dht.params import NETWORK_ID_BYTES
from shoal.node.channel.errors import Misbehaved, OtherNetwork, OtherNode
from shoal.node.channel.messages import VERSION, ClientHello, Identify, ServerHello

FEATURES = 0  # a bit for each thing a node can do beyond its version; none yet
HELLO_TIMEOUT_S = 5.0  # one round trip on top of the handshake, which has as much

UNSAID = bytes(NETWORK_ID_BYTES)  # for a network's id, of callers that do not say

_LABEL = b"shoal/1 identify\0"


class Role(StrEnum):
    """In what capacity a caller speaks. Callers who do not identify are ANONYMOUS: most clients."""

    ANONYMOUS = "anonymous"
    PEER = "peer"
    ADMIN = "admin"


class NotProven(Exception):
    """The caller is not who it says it is, or not entitled to the role."""


def server_hello(identity: Identity, params: NetworkParameters, challenge: bytes) -> ServerHello:
    """What a server says first. `challenge` is 32 fresh random bytes."""
    own = (identity.node_id, identity.id_nonce, challenge)
    return ServerHello(VERSION, VERSION, FEATURES, *own, params.network_id, params.name)


def client_hello(params: NetworkParameters | None = None) -> ClientHello:
    """What a caller says first; `params` of the network that it belongs to, if it says so."""
    network = (UNSAID, "") if params is None else (params.network_id, params.name)
    return ClientHello(VERSION, VERSION, FEATURES, *network)


def check_network(hello: ServerHello | ClientHello, params: NetworkParameters | None) -> None:
    """Raises OtherNetwork when one side belongs to another network than the other. Both have to have said which."""
    if params is None or hello.network_id in (params.network_id, UNSAID):
        return
    raise OtherNetwork(
        f"the peer belongs to the network {hello.network!r} ({hello.network_id.hex()}), not to {params.name!r} "
        f"({params.network_id.hex()})"
    )


def check_version(hello: ServerHello | ClientHello) -> int:
    """The version to speak: the highest both know. Raises Misbehaved when there is none."""
    version = min(VERSION, hello.max_version)
    if version < max(VERSION, hello.min_version):
        raise Misbehaved(f"the peer speaks versions {hello.min_version} to {hello.max_version}, not {VERSION}")
    return version


def check_server(hello: ServerHello, peer_key: bytes | None, expected: NodeId | None) -> NodeId:
    """The server's node id, proven by the key of its certificate.

    Raises Misbehaved when it is not proven, and OtherNode when it is not the node that was expected.
    """
    check_version(hello)
    node_id = node_id_of(peer_key or b"", hello.id_nonce)
    if node_id != hello.node_id:
        raise Misbehaved("the server's key does not belong to the node id it claims")
    if expected is not None and node_id != expected:
        raise OtherNode("another node answers at this address")
    return node_id


def prove(identity: Identity, params: NetworkParameters, server: ServerHello, role: Role) -> Identify:
    """The request by which `identity` takes `role` on the connection that began with `server`."""
    message = identify_message(params.network_id, server.node_id, server.challenge, role)
    return Identify(role.value, identity.public_key, identity.id_nonce, identity.sign(message))


def check_proof(
    proof: Identify, identity: Identity, params: NetworkParameters, challenge: bytes
) -> tuple[Role, NodeId]:
    """Role and node id of a caller, checked by the server `identity`. Raises NotProven."""
    if proof.role not in (Role.PEER, Role.ADMIN):
        raise NotProven("unknown role")
    role = Role(proof.role)
    message = identify_message(params.network_id, identity.node_id, challenge, role)
    if not identity.scheme.verify(proof.public_key, message, proof.signature):
        raise NotProven("wrong signature")
    if role is Role.ADMIN and proof.public_key != identity.public_key:
        raise NotProven("the administrator has the node's own key")
    node_id = node_id_of(proof.public_key, proof.id_nonce)
    if role is Role.PEER and not has_proof(node_id, params.pow_bits):
        raise NotProven("the node id lacks its proof of work")
    return role, node_id


def identify_message(network_id: bytes, server_id: bytes, challenge: bytes, role: Role) -> bytes:
    """What the signature covers: label ‖ network id (8) ‖ server's node id (32) ‖ challenge (32) ‖ role."""
    return _LABEL + network_id + server_id + challenge + role.value.encode()
