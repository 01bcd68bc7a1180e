"""What the DHT tests share: signatures, parameters, labs and golden vectors from a seed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import trio
from blake3 import blake3

from kit.scripts import load_script, load_vectors
from kit.virtual_dht import CheapSignatures, Lab, VirtualNetwork
from shoal.dht import Address, Contact, Ed25519, NetworkParameters, NodeId

HERE = Path(__file__).parent


@pytest.fixture
def scheme() -> CheapSignatures:
    return CheapSignatures()


@pytest.fixture
def rng() -> Random:
    return Random(20261122)


@pytest.fixture
def params() -> NetworkParameters:
    return NetworkParameters("test", pow_bits=0, private=True)


@pytest.fixture
def make_lab(nursery: trio.Nursery, scheme: CheapSignatures) -> Callable[..., Lab]:
    """make_lab(params, seed=..., real_signatures=False, **virtual network options)."""

    def make(params: NetworkParameters, *, seed: int = 1, real_signatures: bool = False, **options: Any) -> Lab:
        rng = Random(seed)
        network = VirtualNetwork(Random(rng.random()), **options)
        nursery.start_soon(network.run)
        return Lab(nursery, network, params, rng, Ed25519() if real_signatures else scheme)

    return make


@pytest.fixture
def make_contact() -> Callable[..., Contact]:
    """make_contact(number, ip=..., port=...): a contact with a made-up id."""

    def make(number: int, ip: str | None = None, port: int = 4100) -> Contact:
        node_id = NodeId(blake3(number.to_bytes(8, "big")).digest())
        return Contact(node_id, Address.of(ip or f"10.{number // 250}.{number % 250}.1", port))

    return make


@pytest.fixture(scope="session")
def vector_builder() -> ModuleType:
    """The regeneration script as a module."""
    return load_script(HERE / "regenerate_vectors.py")


@pytest.fixture(scope="session")
def stored_vectors() -> Callable[[str], Any]:
    """Read one file of golden vectors by its name."""
    return partial(load_vectors, HERE)
