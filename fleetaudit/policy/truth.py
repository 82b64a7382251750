"""Three-valued logic (Kleene): True, False, and None for "the snapshot does not say"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Truth: TypeAlias = bool | None


def any_of(values: Iterable[Truth]) -> Truth:
    """True if one is, else unknown if one is, else False."""
    result: Truth = False
    for value in values:
        if value:
            return True
        if value is None:
            result = None
    return result


def all_of(values: Iterable[Truth]) -> Truth:
    """False if one is, else unknown if one is, else True."""
    result: Truth = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def negate(value: Truth) -> Truth:
    """The opposite; unknown stays unknown."""
    return None if value is None else not value
