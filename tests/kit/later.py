"""What a later version of Shoal may publish."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from shoal.node.cipher import FileCipher, Metadata


def seal_as(patch: pytest.MonkeyPatch, *, kind: int) -> None:
    """Have every publish say that its file is of this kind."""
    seal = FileCipher.seal_metadata

    def seal_metadata(cipher: FileCipher, metadata: Metadata, entropy: Callable[[int], bytes]) -> bytes:
        return seal(cipher, replace(metadata, kind=kind), entropy)

    patch.setattr(FileCipher, "seal_metadata", seal_metadata)
