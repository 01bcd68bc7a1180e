"""Golden vectors of the erasure formats. Run on purpose only, when a format and docs/format.md change:

    python tests/erasure/regenerate_vectors.py

The tests build the same values and compare them with what is stored: running this hides a change of format.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from shoal.erasure import (
    FileId,
    Frontier,
    Layout,
    Link,
    LinkKind,
    Manifest,
    ShareEncoder,
    best_codec,
    block_leaf,
    block_node,
    data_leaf,
    data_node,
    level_positions,
    range_proof,
    stored_tree,
)

SIZES = (0, 1, 255, 256, 257, 1000, 65496, 65497, 1 << 20, 10**7, 2 * 10**9, 2**40 + 1)
WIDTHS = ((1, 3), (4, 12), (16, 48), (256, 256))


def bytes_for(seed: str, length: int) -> bytes:
    """BLAKE3's extendable output of the seed: input data a second implementation can make for itself."""
    return blake3(seed.encode()).digest(length=length)


def build_layout() -> list[dict[str, int]]:
    return [layout_case(k, n, size) for k, n in WIDTHS for size in SIZES]


def layout_case(k: int, n: int, size: int) -> dict[str, int]:
    layout = Layout.for_plaintext(k, n, size)
    return {
        "k": k,
        "n": n,
        "size": size,
        "padded": layout.padded_plain_bytes,
        "ciphertext": layout.ciphertext_bytes,
        "segments": layout.segment_count,
        "last_segment": layout.last_segment_bytes,
        "last_block": layout.last_block_bytes,
        "share": layout.share_bytes,
    }


def build_merkle() -> dict[str, Any]:
    leaves = [block_leaf(bytes([number])) for number in range(7)]
    roots = {}
    frontier = Frontier(block_node)
    for leaf in leaves:
        frontier.append(leaf)
        roots[str(frontier.count)] = frontier.root().hex()
    tree = stored_tree(block_node, leaves)
    positions = level_positions(7)
    return {
        "leaf of each byte 0 to 6": [leaf.hex() for leaf in leaves],
        "root by leaf count": roots,
        "stored tree of 7": tree.hex(),
        "proof of leaves 2 to 4 of 7": range_proof(
            7, 2, 3, lambda level, index: tree[(positions[level] + index) * 32 :][:32]
        ).hex(),
        "frontier of 7": [frontier.state()[0], bytes(frontier.state()[1]).hex()],
        "data leaf of segment 5 over the first two": data_leaf(5, leaves[:2]).hex(),
        "data node of the first two": data_node(leaves[0], leaves[1]).hex(),
    }


def example_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "k": 2,
        "n": 3,
        "block_bytes": 65536,
        "ciphertext_bytes": 296,
        "data_root": bytes_for("data root", 32),
        "share_roots": tuple(bytes_for(f"share root {number}", 32) for number in range(3)),
        "metadata": bytes_for("metadata", 32),
        "key_commitment": bytes_for("commitment", 32),
        "owner_key": bytes_for("owner", 32),
    }
    return Manifest(**fields | changes)


def build_manifest() -> dict[str, Any]:
    cases = {
        "private": example_manifest(),
        "public with extension": example_manifest(
            public_key_material=bytes_for("file key", 32), extension=b"extension"
        ),
        "no metadata, one share, largest size": example_manifest(
            k=1, n=1, ciphertext_bytes=1 << 54, metadata=b"", share_roots=(bytes_for("share root 0", 32),)
        ),
    }
    return {name: {"bytes": manifest.encode().hex(), "id": manifest.id.hex()} for name, manifest in cases.items()}


def build_link() -> dict[str, Any]:
    file_id, key = FileId(bytes_for("id", 32)), bytes_for("file key", 32)
    private, public = Link(file_id, LinkKind.PRIVATE, key), Link(file_id, LinkKind.PUBLIC)
    paths = (b"a", b"holiday/img 01.jpg", "été/#1/100 %".encode(), b"\xff\n", b"etc.", b"_/_", b"~/-.x")
    return {
        "id": file_id.hex(),
        "key": key.hex(),
        "private with key": str(private),
        "private": private.hash,
        "public": str(public),
        "paths": {path.hex(): [str(replace(link, path=path)) for link in (private, public)] for path in paths},
    }


def build_published() -> dict[str, Any]:
    """A whole published object, 2-of-4: a full segment and one of 41 bytes, from ciphertext to link."""
    ciphertext = bytes_for("ciphertext", 2 * 65536 + 41)
    encoder = ShareEncoder(2, 4, best_codec())
    segments = [
        encoder.add_segment(ciphertext[:131072], False),
        encoder.add_segment(ciphertext[131072:], True),
    ]
    roots = encoder.finish()
    manifest = example_manifest(
        n=4, ciphertext_bytes=roots.ciphertext_bytes, data_root=roots.data_root, share_roots=roots.share_roots
    )
    return {
        "ciphertext hash": blake3(ciphertext).hexdigest(),
        "last segment": ciphertext[131072:].hex(),
        "block hashes of segment 0": [blake3(block).hexdigest() for block in segments[0].blocks],
        "blocks of segment 1": [bytes(block).hex() for block in segments[1].blocks],
        "leaves": [[leaf.hex() for leaf in segment.leaves] for segment in segments],
        "data leaves": [segment.data_leaf.hex() for segment in segments],
        "data root": roots.data_root.hex(),
        "share roots": [root.hex() for root in roots.share_roots],
        "manifest": manifest.encode().hex(),
        "id": manifest.id.hex(),
        "link": str(Link(manifest.id, LinkKind.PRIVATE, bytes_for("file key", 32))),
    }


def build_all() -> dict[str, Any]:
    """Everything that is stored, by the name of its file."""
    return {
        "layout": build_layout(),
        "merkle": build_merkle(),
        "manifest": build_manifest(),
        "link": build_link(),
        "published": build_published(),
    }


def main() -> None:
    folder = Path(__file__).parent / "vectors"
    for name, value in build_all().items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
