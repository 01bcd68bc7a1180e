"""The formats are a contract: what is built today equals what was stored when the format was fixed."""

import base64
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3

from shoal.erasure import Codec, Manifest, SegmentDecoder, parse_link


@pytest.mark.parametrize("name", ["layout", "merkle", "manifest", "link", "published"])
def test_built_equals_stored(name: str, vector_builder: ModuleType, stored_vectors: Callable[[str], Any]) -> None:
    assert vector_builder.build_all()[name] == stored_vectors(name)


def test_stored_manifests_decode_to_themselves(stored_vectors: Callable[[str], Any]) -> None:
    for case in stored_vectors("manifest").values():
        manifest = Manifest.decode(bytes.fromhex(case["bytes"]))
        assert manifest.encode().hex() == case["bytes"]
        assert manifest.id.hex() == case["id"]


def test_stored_links_parse(stored_vectors: Callable[[str], Any]) -> None:
    case = stored_vectors("link")
    link = parse_link(case["private with key"])
    assert link.key is not None
    assert (link.id.hex(), link.key.hex()) == (case["id"], case["key"])
    assert str(link) == case["private with key"]
    assert link.hash == case["private"]
    for path, texts in case["paths"].items():
        assert [parse_link(text).path.hex() for text in texts] == [path, path]


def test_stored_object_reads_back(stored_vectors: Callable[[str], Any], codec: Codec) -> None:
    """A reader given only stored bytes: the parity shares of the last segment make its ciphertext."""
    case = stored_vectors("published")
    manifest = Manifest.decode(bytes.fromhex(case["manifest"]))
    decoder = SegmentDecoder(manifest, codec)
    data_leaves = [bytes.fromhex(leaf) for leaf in case["data leaves"]]
    decoder.check_data_leaves(1, data_leaves[1:], data_leaves[0])
    blocks, leaves = {}, {}
    for share in (2, 3):
        blocks[share] = bytes.fromhex(case["blocks of segment 1"][share])
        proof = bytes.fromhex(case["leaves"][0][share])
        (leaves[share],) = decoder.check_blocks(share, 1, [blocks[share]], proof)
    assert decoder.decode(1, blocks, leaves, data_leaves[1]).hex() == case["last segment"]
    assert parse_link(case["link"]).id == manifest.id


def keyed(label: bytes, data: bytes) -> bytes:
    return blake3(data, key=blake3(b"shoal/1 " + label).digest()).digest()


def test_stored_object_by_the_page_alone(stored_vectors: Callable[[str], Any]) -> None:
    """docs/format.md followed step by step with nothing but BLAKE3, from blocks to the link."""
    case = stored_vectors("published")
    ciphertext = blake3(b"ciphertext").digest(length=2 * 65536 + 41)
    tail = (ciphertext[131072:] + b"\0")[:42]
    data = [[ciphertext[:65536], tail[:21]], [ciphertext[65536:131072], tail[21:]]]
    leaves = [[keyed(b"block leaf", block) for block in share] for share in data]
    roots = [keyed(b"block node", b"".join(share)) for share in leaves]
    assert [root.hex() for root in roots] == case["share roots"][:2]

    data_leaves = [keyed(b"data leaf", at.to_bytes(8, "big") + leaves[0][at] + leaves[1][at]) for at in range(2)]
    data_root = keyed(b"data node", b"".join(data_leaves))
    parts = ["9c010204ce00010000ce00020029", "c420" + data_root.hex(), "c480" + "".join(case["share roots"])]
    parts += ["c420" + blake3(seed).hexdigest() for seed in (b"metadata", b"commitment", b"owner")]
    manifest = bytes.fromhex("".join([*parts, "c400c400"]))
    assert manifest.hex() == case["manifest"]

    file_id, key = keyed(b"file id", manifest), blake3(b"file key").digest()
    link = []
    for body, label in ((b"\x10" + file_id, b"link id checksum"), (b"\x10" + key, b"link key checksum")):
        link.append(base64.b32encode(body + keyed(label, body)[:7]).decode().lower())
    assert "shoal:" + "#".join(link) == case["link"]
