"""The formats are a contract: what is built today equals what was stored when the format was fixed."""

import pytest

from shoal.erasure import Manifest, SegmentDecoder, parse_link


@pytest.mark.parametrize("name", ["layout", "merkle", "manifest", "link", "published"])
def test_built_equals_stored(name, vector_builder, stored_vectors):
    assert vector_builder.build_all()[name] == stored_vectors(name)


def test_stored_manifests_decode_to_themselves(stored_vectors):
    for case in stored_vectors("manifest").values():
        manifest = Manifest.decode(bytes.fromhex(case["bytes"]))
        assert manifest.encode().hex() == case["bytes"]
        assert manifest.id.hex() == case["id"]


def test_stored_links_parse(stored_vectors):
    case = stored_vectors("link")
    link = parse_link(case["private with key"])
    assert (link.id.hex(), link.key.hex()) == (case["id"], case["key"])
    assert str(link) == case["private with key"]
    assert link.hash == case["private"]


def test_stored_object_reads_back(stored_vectors, codec):
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
