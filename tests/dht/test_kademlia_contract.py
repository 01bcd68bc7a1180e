"""What we use of the `kademlia` package, pinned: an upgrade that changes any of it fails here and not in the field.

shoal/dht/routing.py derives from Node and keeps contacts in a KBucket; it uses nothing else of the package.
"""

import ast
import inspect
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from kademlia.node import Node
from kademlia.routing import KBucket

import shoal.dht.routing


def node(number: int, ip: str = "10.0.0.1", port: int = 4000) -> Any:
    return Node(number.to_bytes(32, "big"), ip, port)


def test_version_is_the_audited_one() -> None:
    assert version("kademlia") == "2.2.3"


def test_only_two_modules_are_imported() -> None:
    imported = set()
    for path in Path(inspect.getfile(shoal.dht.routing)).parent.glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text())):
            if isinstance(statement, ast.ImportFrom):
                imported.add(statement.module or "")
            elif isinstance(statement, ast.Import):
                imported.update(alias.name for alias in statement.names)
    assert {name for name in imported if name.startswith("kademlia")} == {"kademlia.node", "kademlia.routing"}


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Node.__init__, ["self", "node_id", "ip", "port"]),
        (KBucket.__init__, ["self", "rangeLower", "rangeUpper", "ksize", "replacementNodeFactor"]),
        (KBucket.add_node, ["self", "node"]),
        (KBucket.head, ["self"]),
    ],
)
def test_signatures(function: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_node_keeps_id_address_and_number() -> None:
    made = node(2**255 + 5, "10.1.2.3", 99)
    assert (made.id, made.ip, made.port) == ((2**255 + 5).to_bytes(32, "big"), "10.1.2.3", 99)
    assert made.long_id == 2**255 + 5


def test_bucket_starts_empty_with_a_bounded_replacement_cache() -> None:
    bucket = KBucket(8, 15, 3, 2)
    assert bucket.range == (8, 15)
    assert bucket.ksize == 3
    assert bucket.max_replacement_nodes == 6
    assert isinstance(bucket.nodes, OrderedDict)
    assert isinstance(bucket.replacement_nodes, OrderedDict)
    assert len(bucket) == 0


def test_adding_appends_and_adding_again_moves_to_the_tail() -> None:
    bucket = KBucket(0, 15, 3)
    one, two = node(1), node(2)
    assert bucket.add_node(one) is True
    assert bucket.add_node(two) is True
    assert bucket.head() is one
    assert bucket.add_node(one) is True
    assert list(bucket.nodes) == [two.id, one.id]
    assert len(bucket) == 2


def test_adding_to_a_full_bucket_files_a_replacement_and_drops_the_oldest() -> None:
    bucket = KBucket(0, 15, 1, 2)
    bucket.add_node(node(1))
    assert [bucket.add_node(node(n)) for n in (2, 3, 2, 4)] == [False] * 4
    assert list(bucket.nodes) == [node(1).id]
    assert list(bucket.replacement_nodes) == [node(2).id, node(4).id]
