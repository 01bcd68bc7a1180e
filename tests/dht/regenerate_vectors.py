"""Golden vectors of the DHT's formats. Run on purpose only, when a format and docs/dht.md change:

    python tests/dht/regenerate_vectors.py

The tests build the same values and compare them with what is stored: running this hides a change of format.
"""

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from shoal.dht import Address, Contact, Ed25519, Identity, NetworkParameters, NodeId, Reach, Record, RecordKey
from shoal.dht.guard import CookieMint
from shoal.dht.identity import UNKNOWN_ID
from shoal.dht.messages import (
    Answered,
    FindNode,
    GetRecords,
    Nodes,
    Ping,
    Pong,
    Query,
    Records,
    ReplyHead,
    Store,
    Stored,
    Unsupported,
    encode_reply,
    encode_request,
)
from shoal.dht.records import provider_payload
from shoal.dht.wire import seal

PARAMS = NetworkParameters("vectors", pow_bits=4, private=True)
V4 = Address("192.0.2.7", 4100)
V6 = Address("2001:db8::7", 4100)


def bytes_for(seed: str, length: int = 32) -> bytes:
    """BLAKE3's extendable output of the seed: input data a second implementation can make for itself."""
    return blake3(seed.encode()).digest(length=length)


def identity(name: str) -> Identity:
    """An identity whose secret and first nonce come from its name."""
    material = iter([bytes_for(f"{name} secret"), bytes_for(f"{name} nonce", 8)])
    return Identity.create(PARAMS.pow_bits, lambda _: next(material), Ed25519())


ALICE, BOB = identity("alice"), identity("bob")


DIRECT = Reach.of(V4)
RELAYED = Reach((), (Contact(BOB.node_id, V4), Contact(NodeId(bytes_for("relay")), V6)))


def build_record(reach: Reach = DIRECT) -> Record:
    return Record.sign(
        ALICE,
        PARAMS,
        kind=1,
        key=RecordKey(bytes_for("key")),
        sequence=1_800_000_000_123,
        issued=1_800_000_000,
        lifetime_s=172_800,
        payload=provider_payload(reach, b"what I have"),
    )


def build_identity() -> dict[str, Any]:
    return {
        "secret": ALICE.secret.hex(),
        "public key": ALICE.public_key.hex(),
        "id nonce": ALICE.id_nonce.hex(),
        "node id": ALICE.node_id.hex(),
        "network id, name 'vectors', 4 bits, private": PARAMS.network_id.hex(),
        "contact, 192.0.2.7:4100": Contact(ALICE.node_id, V4).pack().hex(),
        "contact, [2001:db8::7]:4100": Contact(ALICE.node_id, V6).pack().hex(),
    }


def build_records() -> dict[str, Any]:
    record, relayed = build_record(), build_record(RELAYED)
    return {
        "provider": record.encoded.hex(),
        "tag": record.tag.hex(),
        "provider behind two relays": relayed.encoded.hex(),
        "reach": {
            "192.0.2.7:4100": Reach.of(V4).pack().hex(),
            "192.0.2.7:4100 and [2001:db8::7]:4100": Reach((V4, V6)).pack().hex(),
            "relays, bob at 192.0.2.7:4100 and another at [2001:db8::7]:4100": RELAYED.pack().hex(),
        },
    }


def build_messages() -> dict[str, Any]:
    """The bodies, from Alice to Bob, and one whole datagram of each kind of signature."""
    request_id, cookie = bytes_for("request id", 16), bytes_for("cookie", 16)
    record = build_record().encoded
    contacts = (Contact(NodeId(bytes_for("c4")), V4), Contact(NodeId(bytes_for("c6")), V6))
    key = bytes_for("key")

    def request(message: Any, cookie: bytes = cookie, *, addressed: bool = True) -> bytes:
        return encode_request(message, request_id, cookie, serving=True, addressed=addressed)

    def reply(message: Any) -> bytes:
        return encode_reply(message, request_id, ReplyHead(cookie, True, V4, 37))

    bodies = {
        "open ping": request(Ping(), b"", addressed=False),
        "ping": request(Ping()),
        "find node": request(FindNode(key)),
        "find node without cookie": request(FindNode(key), b""),
        "get records": request(GetRecords(1, key, (bytes_for("tag", 8),), True)),
        "store": request(Store((record,))),
        "query": request(Query(1, b"a question")),
        "pong": reply(Pong()),
        "nodes": reply(Nodes(contacts)),
        "records": reply(Records(contacts, (record,), 3)),
        "stored": reply(Stored((0, 3))),
        "answered": reply(Answered(0, b"an answer")),
        "unsupported": reply(Unsupported(99)),
    }
    network_id = PARAMS.network_id
    return {name: body.hex() for name, body in bodies.items()} | {
        "open ping, datagram": seal(bodies["open ping"], UNKNOWN_ID, network_id, ALICE).hex(),
        "find node, datagram to bob": seal(bodies["find node"], BOB.node_id, network_id, ALICE).hex(),
    }


def build_cookies() -> dict[str, Any]:
    mint = CookieMint(lambda length: bytes_for("cookie secret", length), now=0.0)
    return {str(address): mint.mint(address, ALICE.node_id, now=1.0).hex() for address in (V4, V6)}


def build_all() -> dict[str, Any]:
    """Everything that is stored, by the name of its file."""
    return {
        "identity": build_identity(),
        "records": build_records(),
        "messages": build_messages(),
        "cookies": build_cookies(),
    }


def main() -> None:
    folder = Path(__file__).parent / "vectors"
    for name, value in build_all().items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
