"""What another version of Shoal may publish."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shoal.node.cipher import FileCipher, FileKind, Metadata
from shoal.node.folders.index import IndexSummary


def seal_as(patch: pytest.MonkeyPatch, *, kind: int) -> None:
    """Have every publish say that its file is of this kind."""
    _change(patch, lambda metadata: replace(metadata, kind=kind))


def seal_as_folder(patch: pytest.MonkeyPatch, summary: IndexSummary) -> None:
    """Have every publish say that its bytes are a folder with this index, whatever they are."""
    _change(patch, lambda metadata: replace(metadata, kind=FileKind.DIRECTORY, folder=summary))


def seal_as_forged(patch: pytest.MonkeyPatch, fields: list[Any], size: int) -> None:
    """Have every publish say that its bytes are a folder of this size, with whatever fields of an index."""
    summary = IndexSummary(0, 0, 0, bytes(32), 0)
    patch.setattr(IndexSummary, "fields", lambda _: fields)
    _change(patch, lambda metadata: replace(metadata, kind=FileKind.DIRECTORY, folder=summary, size=size))


def seal_without_lease(patch: pytest.MonkeyPatch) -> None:
    """Have no publish say that its lease is short: a fetch then renews it."""
    _change(patch, lambda metadata: replace(metadata, lease_s=None))


def _change(patch: pytest.MonkeyPatch, change: Callable[[Metadata], Metadata]) -> None:
    seal = FileCipher.seal_metadata

    def seal_metadata(cipher: FileCipher, metadata: Metadata, entropy: Callable[[int], bytes]) -> bytes:
        return seal(cipher, change(metadata), entropy)

    patch.setattr(FileCipher, "seal_metadata", seal_metadata)
