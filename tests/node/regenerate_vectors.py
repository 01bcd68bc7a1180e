"""Golden vectors of the formats of node/. Run on purpose only, when a format and docs/format.md change:

    PYTHONPATH=tests python tests/node/regenerate_vectors.py

The tests build the same values and compare them with what is stored: running this hides a change of format.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from kit.folders import file_entry, in_place, many_files, write_index
from kit.hostile_indexes import hand_made
from shoal.dht import Address, Contact, Ed25519, Identity, NodeId, Reach
from shoal.erasure import (
    SEGMENT_OVERHEAD,
    FileId,
    Layout,
    Link,
    LinkKind,
    Manifest,
    ShareEncoder,
    best_codec,
    padded_size,
)
from shoal.node.care.polls import pack_answer, pack_poll, pseudonym
from shoal.node.cipher import FileCipher, FileKind, Metadata
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.holders.announcers import CLASSES, Hint, announcers, class_key, class_of, pack_announcement, slice_for
from shoal.node.holders.statements import make_statement
from shoal.node.names import name_text

BLOCK_BYTES = 65536
NETWORK_ID = blake3(b"network").digest(8)
NOW = 1_800_000_000


def bytes_for(seed: str, length: int = 32) -> bytes:
    """BLAKE3's extendable output of the seed: input data a second implementation can make for itself."""
    return blake3(seed.encode()).digest(length)


FILE_KEY = bytes_for("file key")
FILE_ID = FileId(bytes_for("file id"))


def build_cipher() -> dict[str, Any]:
    cipher = FileCipher(FILE_KEY)
    return {
        "file key": FILE_KEY.hex(),
        "key commitment": cipher.commitment.hex(),
        "segment 0, not last, of 'hello'": cipher.seal_segment(0, False, b"hello").hex(),
        "segment 0, last, of 'hello'": cipher.seal_segment(0, True, b"hello").hex(),
        "segment 258, last, of 256 zeros": cipher.seal_segment(258, True, bytes(256)).hex(),
        "metadata": {
            name: cipher.seal_metadata(metadata, fixed_entropy("metadata nonce")).hex()
            for name, metadata in example_metadata().items()
        },
    }


def example_metadata() -> dict[str, Metadata]:
    return {
        "named": Metadata(140_000, "fish.txt", "text/plain"),
        "nameless": Metadata(0),
        "not UTF-8": Metadata(1, name_text(b"\xff\n\x1b"), None),
        "short lease": Metadata(140_000, "fish.txt", "text/plain", lease_s=3600),
        "longest": Metadata(2**63 - 1, "n" * 255, "m" * 127),
    }


def fixed_entropy(seed: str) -> Callable[[int], bytes]:
    return lambda length: bytes_for(seed, length)


def holder(number: int) -> Identity:
    return Identity.restore(bytes_for(f"holder {number}"), number.to_bytes(8, "big"), Ed25519())


def address(number: int, *, ipv6: bool) -> Address:
    if ipv6:
        return Address.of(f"2001:db8:{number:x}::1", 4750)
    return Address.of(f"198.51.{number // 200}.{number % 200 + 1}", 4750)


def build_statements() -> dict[str, Any]:
    cases = {}
    relays = tuple(Contact(holder(number).node_id, address(number, ipv6=False)) for number in (1, 2, 3))
    ways = {
        0: Reach.of(address(0, ipv6=False)),
        7: Reach((), relays),
        255: Reach.of(address(255, ipv6=True)),
    }
    for number, reach in ways.items():
        identity = holder(number)
        statement = make_statement(identity, NETWORK_ID, FILE_ID, number, reach, NOW + 90 * 86400, NOW)
        cases[f"share {number}"] = {
            "secret": identity.secret.hex(),
            "id nonce": identity.id_nonce.hex(),
            "public key": identity.public_key.hex(),
            "node id": identity.node_id.hex(),
            "reach": reach.pack().hex(),
            "statement": statement.signed.hex(),
        }
    return {"network id": NETWORK_ID.hex(), "file id": FILE_ID.hex(), "issued": NOW, "cases": cases}


def build_announcements() -> dict[str, Any]:
    ids = [NodeId(bytes_for(f"node {number}")) for number in range(12)]
    hints = [Hint(number, Contact(each, address(number, ipv6=number % 2 == 1))) for number, each in enumerate(ids)]
    chosen = announcers(FILE_ID, ids)
    order = list(dict.fromkeys(each for number in sorted(chosen) for each in chosen[number]))
    payloads = {}
    for announcer in order:
        others = [hint for hint in hints if hint.contact.node_id != announcer]
        own = ids.index(announcer)
        payloads[str(own)] = pack_announcement([own], slice_for(announcer, order, others)).hex()
    return {
        "file id": FILE_ID.hex(),
        "class keys": [class_key(FILE_ID, number).hex() for number in range(CLASSES)],
        "classes of nodes 0 to 11": [class_of(FILE_ID, each) for each in ids],
        "announcers by class": [[ids.index(each) for each in chosen[number]] for number in range(CLASSES)],
        "payload by announcer": payloads,
    }


def publish(plaintext: bytes, k: int, n: int, *, public: bool) -> tuple[Manifest, list[bytes], list[Any]]:
    """Plaintext to manifest with a fixed key, owner and nonce: also the sealed segments and the encoded ones."""
    cipher = FileCipher(FILE_KEY)
    encoder = ShareEncoder(k, n, best_codec())
    step = k * BLOCK_BYTES - SEGMENT_OVERHEAD
    padded = plaintext.ljust(padded_size(len(plaintext)), b"\0")
    pieces = [padded[at : at + step] for at in range(0, len(padded), step)]
    sealed = [cipher.seal_segment(at, at == len(pieces) - 1, piece) for at, piece in enumerate(pieces)]
    encoded = [encoder.add_segment(segment, at == len(sealed) - 1) for at, segment in enumerate(sealed)]
    roots = encoder.finish()
    manifest = Manifest(
        k=k,
        n=n,
        block_bytes=BLOCK_BYTES,
        ciphertext_bytes=roots.ciphertext_bytes,
        data_root=roots.data_root,
        share_roots=roots.share_roots,
        metadata=cipher.seal_metadata(
            Metadata(len(plaintext), "fish.txt", "text/plain"), fixed_entropy("metadata nonce")
        ),
        key_commitment=cipher.commitment,
        owner_key=Ed25519().public_key(bytes_for("owner secret")),
        public_key_material=FILE_KEY if public else b"",
    )
    return manifest, sealed, encoded


def build_polls() -> dict[str, Any]:
    holder, files = NodeId(bytes_for("node 3")), [FILE_ID, FileId(bytes_for("other file id"))]
    return {
        "holder": holder.hex(),
        "file ids": [each.hex() for each in files],
        "pseudonyms": [pseudonym(holder, each).hex() for each in files],
        "poll": pack_poll(NOW, holder, files).hex(),
        "answer: shares 0 and 255 of the first, none of the second": pack_answer(NOW + 1, [{255, 0}, set()]).hex(),
    }


def build_folder() -> dict[str, Any]:
    """A folder of each kind of entry, one of many pages, and its metadata."""
    contents = {b"a/empty": b"", b"a/run": b"#!/bin/sh\n", b"b \xff\n": bytes_for("contents", 300)}
    entries = [
        Entry(b"a", EntryKind.DIRECTORY, mtime_ns=NOW * 10**9),
        file_entry(b"a/empty"),
        file_entry(b"a/run", contents[b"a/run"], executable=True),
        Entry(b"a.d", EntryKind.DIRECTORY, mtime_ns=-1),
        file_entry(b"b \xff\n", contents[b"b \xff\n"]),
        Entry(b"link", EntryKind.SYMLINK, mtime_ns=123_456_789, target=b"../b"),
    ]
    small, large = write_index(in_place(entries)), write_index(many_files(1_500))
    described = Metadata(small.summary.size, "photos", kind=FileKind.DIRECTORY, folder=small.summary)
    short = replace(described, lease_s=3600)
    return {
        "contents": {path.hex(): content.hex() for path, content in contents.items()},
        "pages": [page.hex() for page in small.pages],
        "table": small.table.hex(),
        "index in the metadata": shown_fields(small.summary.fields()),
        "size": small.summary.size,
        "file key": FILE_KEY.hex(),
        "metadata": FileCipher(FILE_KEY).seal_metadata(described, fixed_entropy("metadata nonce")).hex(),
        "metadata, short lease": FileCipher(FILE_KEY).seal_metadata(short, fixed_entropy("metadata nonce")).hex(),
        "1,500 files": {
            "pages": [blake3(page).hexdigest() for page in large.pages],
            "table": large.table.hex(),
            "index in the metadata": shown_fields(large.summary.fields()),
            "size": large.summary.size,
        },
    }


def build_hostile_indexes() -> dict[str, Any]:
    """Indexes that a reader refuses, by what is wrong with them."""
    return {
        name: {
            "index in the metadata": shown_fields(index.fields),
            "size": index.size,
            "table": index.table.hex(),
            "pages": [page.hex() for page in index.pages],
        }
        for name, index in hand_made().items()
        if sum(map(len, index.pages)) < 10_000
    }


def shown_fields(fields: list[Any]) -> list[Any]:
    return [field.hex() if isinstance(field, bytes) else field for field in fields]


def build_published() -> dict[str, Any]:
    return {
        "file key": FILE_KEY.hex(),
        "owner secret": bytes_for("owner secret").hex(),
        "metadata nonce": bytes_for("metadata nonce", 24).hex(),
        "small": build_object(b"a shoal has no leader", 2, 4, public=False, whole=True),
        "public": build_object(b"", 1, 3, public=True, whole=True),
        "two segments": build_object(bytes_for("plaintext", 140_000), 2, 4, public=False, whole=False),
    }


def build_object(plaintext: bytes, k: int, n: int, *, public: bool, whole: bool) -> dict[str, Any]:
    """One published object; what is long is stored as its BLAKE3 hash unless `whole`."""
    manifest, sealed, encoded = publish(plaintext, k, n, public=public)
    show: Callable[[Any], str] = (lambda data: bytes(data).hex()) if whole else (lambda data: blake3(data).hexdigest())
    link = Link(manifest.id, LinkKind.PUBLIC) if public else Link(manifest.id, LinkKind.PRIVATE, FILE_KEY)
    assert manifest.layout == Layout.for_plaintext(k, n, len(plaintext))
    return {
        "k": k,
        "n": n,
        "size": len(plaintext),
        "plaintext": show(plaintext),
        "sealed segments": [show(segment) for segment in sealed],
        "blocks by share": [[show(segment.blocks[share]) for segment in encoded] for share in range(n)],
        "leaves by share": [[segment.leaves[share].hex() for segment in encoded] for share in range(n)],
        "data leaves": [segment.data_leaf.hex() for segment in encoded],
        "data root": manifest.data_root.hex(),
        "share roots": [root.hex() for root in manifest.share_roots],
        "manifest": manifest.encode().hex(),
        "id": manifest.id.hex(),
        "link": str(link),
    }


def build_all() -> dict[str, Any]:
    """Everything that is stored, by the name of its file."""
    return {
        "cipher": build_cipher(),
        "statements": build_statements(),
        "announcements": build_announcements(),
        "polls": build_polls(),
        "published": build_published(),
        "folder": build_folder(),
        "hostile_indexes": build_hostile_indexes(),
    }


def main() -> None:
    folder = Path(__file__).parent / "vectors"
    folder.mkdir(exist_ok=True)
    for name, value in build_all().items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
