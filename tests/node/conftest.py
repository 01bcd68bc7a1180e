"""What the node tests share: an environment that runs in place, an identity, golden vectors and their builder."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3

from kit.scripts import load_script, load_vectors
from shoal.dht import Identity, UdpNetwork
from shoal.node.channel import TlsNetwork
from shoal.node.environment import Environment, InlineCompute
from shoal.node.home.home import Home
from shoal.node.store import RealDisk

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def env() -> Environment:
    """Real seams, but calls run in place and randomness is seeded."""
    rng = random.Random(7)
    return Environment(
        datagrams=UdpNetwork(),
        streams=TlsNetwork(),
        disk=RealDisk(),
        compute=InlineCompute(),
        entropy=rng.randbytes,
        rng=rng,
    )


@pytest.fixture(scope="session")
def identity() -> Identity:
    """One holder, always the same."""
    return Identity.restore(blake3(b"holder secret").digest(), bytes(8))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that was just made."""
    made = Home.at(tmp_path / "home")
    made.create()
    return made


@pytest.fixture(scope="session")
def node_vector_builder() -> ModuleType:
    """The script that regenerates the vectors, as a module."""
    return load_script(HERE / "regenerate_vectors.py")


@pytest.fixture(scope="session")
def node_vectors() -> Callable[[str], Any]:
    """A stored vector file by its name."""
    return partial(load_vectors, HERE)
