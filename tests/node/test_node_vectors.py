"""The formats of node/ are a contract: what is built today equals what was stored when the format was fixed."""

import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgpack
import pytest
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_sign_open

from kit.hostile_indexes import Forged
from shoal.dht import Address, Ed25519
from shoal.erasure import FileId, Manifest, SegmentDecoder, best_codec, parse_link
from shoal.node.cipher import FileCipher, check_padding
from shoal.node.folders.entries import BadEntry
from shoal.node.holders.statements import read_statement


@pytest.mark.parametrize("name", ["cipher", "statements", "announcements", "published", "folder", "hostile_indexes"])
def test_built_equals_stored(name: str, node_vector_builder: ModuleType, node_vectors: Callable[[str], Any]) -> None:
    assert node_vector_builder.build_all()[name] == node_vectors(name)


def test_stored_statements_are_read(node_vectors: Callable[[str], Any]) -> None:
    stored = node_vectors("statements")
    for share, case in ((0, stored["cases"]["share 0"]), (255, stored["cases"]["share 255"])):
        statement = read_statement(
            bytes.fromhex(case["statement"]), bytes.fromhex(stored["network id"]), Ed25519(), stored["issued"]
        )
        assert statement.share == share
        assert statement.file_id.hex() == stored["file id"]
        assert statement.node_id.hex() == case["node id"]
        assert statement.reach.pack().hex() == case["reach"]
        assert statement.expires == stored["issued"] + 7 * 86400


@pytest.mark.parametrize("name", ["small", "public"])
def test_a_stored_object_reads_back_from_its_last_shares(name: str, node_vectors: Callable[[str], Any]) -> None:
    """A reader given only stored bytes: the shares with the highest numbers, the manifest and the link."""
    case = node_vectors("published")[name]
    manifest, link = Manifest.decode(bytes.fromhex(case["manifest"])), parse_link(case["link"])
    assert manifest.id == link.id
    decoder = SegmentDecoder(manifest, best_codec())
    data_leaf = bytes.fromhex(case["data leaves"][0])
    decoder.check_data_leaves(0, [data_leaf], b"")
    blocks, leaves = {}, {}
    for share in range(case["n"] - case["k"], case["n"]):
        blocks[share] = bytes.fromhex(case["blocks by share"][share][0])
        (leaves[share],) = decoder.check_blocks(share, 0, [blocks[share]], b"")
    cipher = FileCipher(link.key or manifest.public_key_material)
    plaintext = cipher.open_segment(0, True, decoder.decode(0, blocks, leaves, data_leaf))
    metadata = cipher.open_metadata(manifest.metadata)
    check_padding(metadata.size, len(plaintext))
    assert plaintext[: metadata.size].hex() == case["plaintext"]
    assert not any(plaintext[metadata.size :])
    assert (metadata.name, metadata.media_type) == ("fish.txt", "text/plain")


# docs/format.md followed with nothing but BLAKE3, msgpack and libsodium


def keyed(label: bytes, data: bytes) -> bytes:
    return blake3(data, key=blake3(b"shoal/1 " + label).digest()).digest()


def derived(label: str, key: bytes) -> bytes:
    return blake3(key, derive_key_context="shoal/1 " + label).digest()


def opened(sealed: bytes, associated: bytes, key: bytes) -> bytes:
    return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], associated, sealed[:24], key)


def test_encryption_by_the_page_alone(node_vectors: Callable[[str], Any]) -> None:
    case = node_vectors("published")["small"]
    file_key = blake3(b"file key").digest()
    sealed = bytes.fromhex(case["sealed segments"][0])
    position = (0).to_bytes(8, "big") + b"\x01"
    padded = b"a shoal has no leader".ljust(256, b"\0")
    assert sealed[:24] == blake3(position + padded, key=derived("nonce key", file_key)).digest(24)
    assert opened(sealed, b"\x01" + position, derived("segment key", file_key)) == padded

    manifest = msgpack.unpackb(bytes.fromhex(case["manifest"]))
    assert manifest[8] == derived("key commitment", file_key)
    padded = opened(manifest[7], b"metadata", derived("metadata key", file_key))
    assert len(padded) == 256
    body = padded[2 : 2 + int.from_bytes(padded[:2], "big")]
    assert msgpack.unpackb(body) == [1, 0, b"fish.txt", 21, "text/plain"]


def test_a_folder_by_the_page_alone(node_vectors: Callable[[str], Any]) -> None:
    stored = node_vectors("folder")
    contents, (page,), table = stored["contents"], stored["pages"], bytes.fromhex(stored["table"])
    page = bytes.fromhex(page)
    metadata_key = derived("metadata key", blake3(b"file key").digest())
    padded = opened(bytes.fromhex(stored["metadata"]), b"metadata", metadata_key)
    body = msgpack.unpackb(padded[2 : 2 + int.from_bytes(padded[:2], "big")])
    index = [1, len(page) + len(table), len(table), blake3(table).digest(), 6]
    assert body == [1, 1, b"photos", stored["size"], None, None, index]
    assert stored["size"] == 310 + len(page) + len(table)

    assert table == b"\0\1a" + struct.pack(">IIQ", 6, len(page), 310) + blake3(page).digest()
    empty, run, odd = (bytes.fromhex(contents[path.hex()]) for path in (b"a/empty", b"a/run", b"b \xff\n"))
    time = struct.Struct(">q").pack
    assert page == b"".join(
        (
            b"\1\0\1a" + time(1_800_000_000 * 10**9),
            b"\0\0\x07a/empty" + time(0) + struct.pack(">QB", 0, 0) + blake3(empty).digest(),
            b"\0\0\x05a/run" + time(0) + struct.pack(">QB", 10, 1) + blake3(run).digest(),
            b"\1\0\3a.d" + time(-1),
            b"\0\0\4b \xff\n" + time(0) + struct.pack(">QB", 300, 0) + blake3(odd).digest(),
            b"\2\0\4link" + time(123_456_789) + b"\0\4../b",
        )
    )


def test_stored_hostile_indexes_are_refused(node_vectors: Callable[[str], Any]) -> None:
    stored = node_vectors("hostile_indexes")
    assert len(stored) >= 40
    for case in stored.values():
        fields = [bytes.fromhex(each) if isinstance(each, str) else each for each in case["index in the metadata"]]
        index = Forged(tuple(map(bytes.fromhex, case["pages"])), bytes.fromhex(case["table"]), fields, case["size"])
        with pytest.raises(BadEntry):
            index.read()


def test_statements_by_the_page_alone(node_vectors: Callable[[str], Any]) -> None:
    stored = node_vectors("statements")
    case = stored["cases"]["share 0"]
    body, signature = msgpack.unpackb(bytes.fromhex(case["statement"]))
    message = b"shoal/1 holder statement" + bytes.fromhex(stored["network id"]) + body
    public_key = bytes.fromhex(case["public key"])
    crypto_sign_open(signature + message, public_key)
    assert case["node id"] == keyed(b"node id", public_key + bytes.fromhex(case["id nonce"])).hex()
    assert msgpack.unpackb(body) == [
        2,
        bytes.fromhex(stored["file id"]),
        0,
        public_key,
        bytes.fromhex(case["id nonce"]),
        bytes([1, 1, 6, 198, 51, 0, 1]) + (4750).to_bytes(2, "big"),
        stored["issued"] + 90 * 86400,
        stored["issued"],
        stored["issued"] + 7 * 86400,
    ]


def test_announcements_by_the_page_alone(node_vectors: Callable[[str], Any]) -> None:
    stored = node_vectors("announcements")
    file_id = FileId(bytes.fromhex(stored["file id"]))
    ids = [blake3(f"node {number}".encode()).digest() for number in range(12)]
    assert stored["class keys"] == [keyed(b"announcement key", file_id + bytes([at])).hex() for at in range(3)]
    classes = [int.from_bytes(keyed(b"announcer class", file_id + each), "big") % 3 for each in ids]
    assert stored["classes of nodes 0 to 11"] == classes
    for number, chosen in enumerate(stored["announcers by class"]):
        own = [at for at in range(12) if classes[at] == number]
        own.sort(key=lambda at: keyed(b"announcer rank", file_id + bytes([number]) + ids[at]))
        assert chosen == own[:2]
    version, own_shares, entries = msgpack.unpackb(bytes.fromhex(stored["payload by announcer"]["5"]))
    assert (version, own_shares) == (2, b"\x05")
    share, node_id, packed = entries[0][0], entries[0][1:33], entries[0][33:]
    assert node_id == ids[share]
    assert packed[:3] == bytes([1, 1, 6])
    assert Address.unpack(packed[3:]) == Address.of(f"198.51.0.{share + 1}", 4750)
