"""Taking apart a node that has ended, so that its memory is free at once.

Its parts know each other: callbacks, handlers, owners. Python frees such cycles only when it looks for them, which
costs more the more there is, and a study ends some thirty nodes a day. So the world, which is their last owner, has
every part forget the others.
"""

from enum import Enum
from types import MethodType

from shoal.node.environment import Environment
from shoal.node.home.home import Home
from shoal.node.home.network import Network
from shoal.node.home.settings import NodeSettings
from shoal.node.node import Node

PARTS = ("shoal.dht.", "shoal.node.")  # the modules that a node's parts come from
NOT_PARTS = "shoal.simulation."
LENT = (Environment, Home, Network, NodeSettings)  # what outlives a node, or belongs to others as well


def dismantle(node: Node) -> None:
    """Empty a node that has ended, and all its parts. Nothing of it may be used afterwards; values stay whole."""
    left: list[object] = [node]
    while left:
        part = left.pop()
        if isinstance(part, MethodType):
            part = part.__self__
        if isinstance(part, dict):
            left += part.values()
        elif _is_part(part):
            contents = vars(part)
            left += contents.values()
            contents.clear()


def _is_part(thing: object) -> bool:
    module = type(thing).__module__
    return (
        module.startswith(PARTS)
        and not module.startswith(NOT_PARTS)
        and not isinstance(thing, LENT)
        and not _is_value(thing)
        and hasattr(thing, "__dict__")
    )


def _is_value(thing: object) -> bool:
    """Whether others may have it as well."""
    parameters = getattr(thing, "__dataclass_params__", None)
    return isinstance(thing, Enum) or (parameters is not None and parameters.frozen)
