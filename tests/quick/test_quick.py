"""A quick class is the frozen dataclass that it was, but for the time it takes."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from fleetaudit.model import Process
from fleetaudit.quick import changed, quick


@quick
@dataclass(frozen=True, slots=True)
class Point:
    """A class to try it on."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()


def test_it_is_made_as_before() -> None:
    assert [Point(1), Point(1, 3), Point(y=4, x=1), Point(1, names=("a",))] == [
        Point(1, 2, ()),
        Point(1, 3, ()),
        Point(1, 4, ()),
        Point(1, 2, ("a",)),
    ]
    assert repr(Point(1)) == "Point(x=1, y=2, names=())"
    assert type(Point(1)) is Point
    assert hash(Point(1)) == hash(Point(1, 2))


@pytest.mark.parametrize("arguments", [{}, {"x": 1, "z": 2}])
def test_it_refuses_what_it_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Point\.__init__\(\)"):
        Point(**arguments)


def test_it_stays_frozen() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    with pytest.raises((AttributeError, TypeError)):
        point.z = 2  # type: ignore[attr-defined]


def test_copies_and_changes() -> None:
    point = Point(1, 3, ("a",))
    assert copy.deepcopy(point) == copy.copy(point) == point
    assert replace(point, y=5) == changed(point, y=5) == Point(1, 5, ("a",))
    assert changed(point) == point
    with pytest.raises(KeyError):
        changed(point, z=1)


def test_every_field_reaches_its_own_place() -> None:
    names = [item.name for item in fields(Process)]
    values: dict[str, Any] = dict(zip(names, range(len(names)), strict=True))
    process = Process(**values)
    assert [getattr(process, name) for name in names] == list(range(len(names)))
    assert process == Process(*values.values())


def test_a_default_factory_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Listed:
        items: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="items"):
        quick(Listed)
