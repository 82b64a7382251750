"""Where a history is kept: a file or a PostgreSQL URL, as a person writes it. Imports no database library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible

FILE: Final = "history.sqlite3"
_SCHEMES: Final = ("postgresql", "postgres")
_SUFFIXES: Final = (".sqlite", ".sqlite3", ".db")
_PASSWORD = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StorePlace:
    """An SQLite file at `path`, or the PostgreSQL database at `url`; `shown` has no password."""

    url: str = ""
    path: Path | None = None

    @property
    def shown(self) -> str:
        """For messages."""
        return visible(str(self.path) if self.path else masked(self.url).replace("+psycopg", "", 1))


def masked(text: str) -> str:
    """The text without passwords of URLs."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    userinfo, at, place = rest.rpartition("@")
    user = userinfo.partition(":")[0]
    hidden = f"{user}:***@" if ":" in userinfo else f"{user}{at}"
    return f"{scheme}://{hidden}{_PASSWORD.sub('***', place)}"


def store_place(text: str, state: Path) -> StorePlace:
    """What `--store TEXT` names; empty: the file in the state directory. Raises ConfigError."""
    if not text:
        return StorePlace(path=state / FILE)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return StorePlace(path=_file(text))
    if scheme == "sqlite":
        return StorePlace(path=_file(rest.removeprefix("/")))
    if scheme not in _SCHEMES:
        hint = "write a path, or postgresql://USER@HOST/DATABASE"
        raise ConfigError(Problem(f"--store {visible(masked(text))}: no such kind of store", hint=hint))
    if find_spec("psycopg") is None:
        hint = "pip install 'fleetaudit[postgres]'"
        raise ConfigError(Problem("a history in PostgreSQL needs psycopg", hint=hint))
    return StorePlace(url=f"postgresql+psycopg://{rest}")


def _file(text: str) -> Path:
    """A bare word is more likely the next argument than a file: `--store web` would audit all hosts."""
    path = Path(text)
    if "/" not in text and path.suffix not in _SUFFIXES:
        hint = f"write ./{text} for that file, or --store last for the usual one"
        raise ConfigError(Problem(f"--store {visible(text)}: is that a file?", hint=hint))
    if path.is_dir():
        raise ConfigError(Problem(f"--store {visible(text)} is a directory", hint="name a file in it"))
    return path.expanduser()
