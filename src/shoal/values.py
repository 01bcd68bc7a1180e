"""Dataclasses that cost little to define: a method is made when it is first used.

A start of the `shoal` command defines some 200 dataclasses and uses few of them. `dataclasses` compiles six methods for
each, one by one, which took a third of the start. Here the same decorator makes the fields and the slots at once; the
methods are made by `dataclasses` as well, when somebody asks for them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True
    ) -> type | Callable[[type], type]:
        """As `dataclasses.dataclass` with these options. All values can be pickled and copied."""

        def decorate(cls: type) -> type:
            own = {name for name in ("__repr__", "__eq__", "__hash__") if cls.__dict__.get(name) is not None}
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
            wanted = {"__init__", "__repr__"} | ({"__eq__"} if eq else set()) | ({"__hash__"} if eq and frozen else set())
            for name in wanted - own:
                setattr(made, name, _Later(made, name, frozen))
            if eq and not frozen and not own & {"__hash__"}:
                made.__hash__ = None
            if frozen:
                made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
                made.__getstate__, made.__setstate__ = _state, _set_state
            return made

        return decorate if cls is None else decorate(cls)


class _Later:
    """Stands for a method until it is looked up; then it is in its place."""

    def __init__(self, owner: type, name: str, frozen: bool) -> None:
        self._owner, self._name, self._frozen = owner, name, frozen

    def __get__(self, instance: object, owner: type) -> Any:
        method = _made(self._owner, self._name, self._frozen)
        setattr(self._owner, self._name, method)
        return method if instance is None else method.__get__(instance, owner)


def _made(owner: Any, name: str, frozen: bool) -> Any:
    """The method that `dataclasses` gives to a class with the fields of `owner`."""
    found = dataclasses.fields(owner)
    contents: dict[str, Any] = {each.name: _same(each) for each in found}
    contents["__annotations__"] = {each.name: each.type for each in found}
    contents |= {"__module__": owner.__module__, "__qualname__": owner.__qualname__}
    if hasattr(owner, "__post_init__"):
        contents["__post_init__"] = owner.__post_init__
    twin = type(owner.__name__, (), contents)
    made: Any = dataclasses.dataclass(
        init=name == "__init__", repr=name == "__repr__", eq=name in ("__eq__", "__hash__"), frozen=frozen
    )(twin)
    return getattr(made, name)


def _same(each: "dataclasses.Field[Any]") -> Any:
    """A field like another one."""
    options: dict[str, Any] = {"init": each.init, "repr": each.repr, "hash": each.hash, "compare": each.compare}
    if each.default is not dataclasses.MISSING:
        options["default"] = each.default
    if each.default_factory is not dataclasses.MISSING:
        options["default_factory"] = each.default_factory
    return dataclasses.field(kw_only=each.kw_only, **options)


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


__all__ = ["dataclass"]
