"""The user's configuration file: what holds for every command unless an option says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetaudit import schema, yamlio
from fleetaudit.errors import ConfigError, Problem

_NAME: Final = "fleetaudit/config.yaml"


@dataclass(frozen=True, slots=True)
class Configured:
    """What the file says. `store`: keep runs there ("" is the usual file); None: only when told to.

    `notify` is told what is new in a run that is kept.
    """

    store: str | None = None
    notify: tuple[str, ...] = ()


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the file is, if there is one (XDG Base Directory Specification)."""
    return Path(environment.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / _NAME


def configured() -> Configured:
    """What the user's file says; without one, nothing. Raises ConfigError with every mistake in it."""
    path = config_file()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Configured()
    except OSError as error:
        raise ConfigError(Problem(f"{path}: {error.strerror or error}")) from error
    document = yamlio.parse(data, str(path))
    problems = list(schema.problems(document, "config"))
    value = document.value if isinstance(document.value, Mapping) else {}
    store = value.get("store", False)
    if isinstance(store, str) and "://" not in store and not store.startswith(("/", "~/")):
        hint = "write an absolute path, one from ~/, or postgresql://USER@HOST/DATABASE"
        problems.append(
            Problem(f"store: {store!r} depends on where it is read", document.place(("store",)), hint)
        )
    if problems:
        raise ConfigError(problems)
    notify = tuple(str(url) for url in value.get("notify", ()))
    return Configured(store if isinstance(store, str) else "" if store else None, notify)
