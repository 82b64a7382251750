"""Where policies and waivers are read: on the disk, or in what a run of the past has read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible


class Files(Protocol):
    """Reads the user's files. Raises ConfigError naming the file."""

    def expand(self, path: str) -> list[str]:
        """The policy files that a `-p` argument stands for."""

    def read(self, path: str, most: int | None = None) -> bytes:
        """What is in a file; of one with more than `most` bytes, one byte more than that."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What was read once: the files that each argument stood for, and what was in each file."""

    expanded: Mapping[str, tuple[str, ...]]
    contents: Mapping[str, bytes]

    def expand(self, path: str) -> list[str]:
        """As then."""
        if path not in self.expanded:
            raise ConfigError(Problem(f"{visible(path)} was not among what the run has read"))
        return list(self.expanded[path])

    def read(self, path: str, most: int | None = None) -> bytes:
        """As it was then."""
        if path not in self.contents:
            raise ConfigError(Problem(f"{visible(path)} was not among what the run has read"))
        return self.contents[path] if most is None else self.contents[path][: most + 1]


class Noting:
    """Reads what `files` reads, and notes it."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._expanded: dict[str, tuple[str, ...]] = {}
        self._contents: dict[str, bytes] = {}

    @property
    def noted(self) -> Noted:
        """Everything that was read so far."""
        return Noted(MappingProxyType(dict(self._expanded)), MappingProxyType(dict(self._contents)))

    def expand(self, path: str) -> list[str]:
        """The policy files that a `-p` argument stands for."""
        found = self._files.expand(path)
        self._expanded[path] = tuple(found)
        return found

    def read(self, path: str, most: int | None = None) -> bytes:
        """What is in a file."""
        self._contents[path] = self._files.read(path, most)
        return self._contents[path]
