"""What the erasure tests share: codecs, published files, golden vectors and their builder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import _cffi_backend
import pytest

from kit.coded_files import Published, pseudo_bytes, publish_file
from kit.scripts import load_script, load_vectors
from shoal.erasure import (
    Codec,
    IsalCodec,
    ZfecCodec,
    best_codec,
)

HERE = Path(__file__).parent


@pytest.fixture(scope="session", params=["zfec", "isa-l"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Both codecs, always: where ISA-L is missing the tests fail, because CI must not stop testing it unnoticed."""
    if request.param == "zfec":
        return ZfecCodec()
    return IsalCodec(request.getfixturevalue("isal_library"))


@pytest.fixture(scope="session")
def isal_library() -> str:
    """The library that best_codec found."""
    codec = best_codec()
    assert isinstance(codec, IsalCodec), "ISA-L was not found: install the `test` extra, or Debian's libisal2"
    return codec.library


@pytest.fixture(scope="session")
def other_library() -> str:
    """A library that opens and has no ISA-L in it."""
    return str(_cffi_backend.__file__)


@pytest.fixture(scope="session")
def publish() -> Callable[..., Published]:
    return publish_file


@pytest.fixture(scope="session")
def random_bytes() -> Callable[..., bytes]:
    return pseudo_bytes


@pytest.fixture(scope="session")
def vector_builder() -> ModuleType:
    """The regeneration script as a module."""
    return load_script(HERE / "regenerate_vectors.py")


@pytest.fixture(scope="session")
def stored_vectors() -> Callable[[str], Any]:
    """Read one file of golden vectors by its name."""
    return partial(load_vectors, HERE)
