"""Arguments of the library that are one thing or several."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

from fleetaudit.errors import ConfigError, Problem

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]


def several(given: PathLike | Iterable[object], what: str) -> list[object]:
    """The things given, or the one. Raises ConfigError, naming `what`, for what is neither."""
    if isinstance(given, str | os.PathLike):
        return [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ConfigError(Problem(f"{what}: {type(given).__name__} is not a path", hint="pass a path"))
    return list(given)


def paths(given: PathLike | Iterable[object], what: str) -> tuple[str, ...]:
    """The paths, or other texts, given. Raises ConfigError, naming `what`, for anything else."""
    found = []
    for item in several(given, what):
        if not isinstance(item, str | os.PathLike):
            raise ConfigError(Problem(f"{what}: {type(item).__name__} is not a path", hint="pass a path"))
        found.append(os.fspath(item))
    return tuple(found)
