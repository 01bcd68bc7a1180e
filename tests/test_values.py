"""`shoal.values.dataclass` is as `dataclasses.dataclass`; only its methods come later."""

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, field, replace

import pytest

from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Has all that a field can have."""

    x: int
    y: int = 0
    tags: tuple[str, ...] = ()
    memory: list[int] = field(default_factory=list, compare=False, repr=False)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.x + self.y)


@dataclass(frozen=True, slots=True)
class Point3(Point):
    z: int = field(default=0, kw_only=True)


@dataclass(slots=True)
class Open:
    x: int


@dataclass(eq=False)
class Thing:
    x: int


@dataclass(frozen=True)
class Told:
    x: int

    def __repr__(self) -> str:
        return "told"

    def __hash__(self) -> int:
        return 7


def test_values_are_made_compared_hashed_shown_and_replaced() -> None:
    point = Point(1, tags=("a",))
    assert (point.x, point.y, point.tags, point.memory, point.total) == (1, 0, ("a",), [], 1)
    assert point == Point(1, 0, ("a",), [5]) != Point(2, 0, ("a",))
    assert hash(point) == hash(Point(1, 0, ("a",)))
    assert len({point, Point(1, 0, ("a",))}) == 1
    assert repr(point) == "Point(x=1, y=0, tags=('a',), total=1)"
    assert replace(point, y=4).total == 5
    assert Point3(1, z=2) == Point3(1, z=2) != Point3(1)
    assert Point(1) != Point3(1)
    assert [each.name for each in dataclasses.fields(Point3)] == ["x", "y", "tags", "memory", "total", "z"]
    match point:
        case Point(x, y):
            assert (x, y) == (1, 0)
    assert Point(1).memory is not Point(1).memory


def test_arguments_are_checked_at_the_first_use_as_at_any_other() -> None:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        x: int

    for _ in range(2):
        with pytest.raises(TypeError, match="'x'"):
            Fresh()  # type: ignore[call-arg]
    assert str(inspect.signature(Point)).startswith("(x: int, y: int = 0")


def test_frozen_values_stay_as_they_are() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    with pytest.raises(AttributeError):
        object.__setattr__(point, "other", 1)  # slots


def test_others_can_be_changed_and_have_no_hash() -> None:
    thing = Open(1)
    thing.x = 2
    assert thing == Open(2)
    with pytest.raises(TypeError):
        hash(thing)
    assert Thing(1) != Thing(1)
    assert len({Thing(1), Thing(1)}) == 2


def test_methods_of_the_class_itself_stay() -> None:
    assert repr(Told(1)) == "told"
    assert hash(Told(1)) == 7
    assert Told(1) == Told(1)


@pytest.mark.parametrize("value", [Point(1, 2, ("a",), [3]), Point3(1, z=2), Open(1), Told(1)], ids=repr)
def test_values_are_pickled_and_copied(value: object) -> None:
    thawed = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
    for same in (thawed, copy.copy(value), copy.deepcopy(value)):
        assert type(same) is type(value)
        assert same == value
