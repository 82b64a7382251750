"""Where recorded hosts come from: files of snapshots, or a run that is kept in the state directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.inputs import open_snapshots
from fleetaudit.journal import FILE
from fleetaudit.text import visible

_RUNS = "runs"


def open_recorded(
    names: Sequence[str], state: str | None, stack: ExitStack
) -> tuple[list[tuple[str, BinaryIO]], bool]:
    """The files that `names` are, open and seekable: snapshot files, `-`, or ids of kept runs.

    Also says whether one is a run: its later line of a host stands for the earlier. A file goes before a run
    of the same name. Raises ConfigError for what is neither.
    """
    found = [recorded_path(name, state) for name in names]
    return open_snapshots([path for path, _ in found], stack), any(is_run for _, is_run in found)


def recorded_path(name: str, state: str | None) -> tuple[str, bool]:
    """The file that `name` is, and whether that is the journal of a kept run. Raises ConfigError."""
    if name == "-" or Path(name).exists():
        return name, False
    journal = _journal(name, state)
    if journal is None:
        message = f"{visible(name)}: no such file, and no run of this id is kept"
        raise ConfigError(Problem(message, hint="name a file that `fleetaudit collect` wrote"))
    return str(journal), True


def _journal(name: str, state: str | None) -> Path | None:
    """The journal of the kept run of this id; an id is no path."""
    if not name or "/" in name or name in (".", ".."):
        return None
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    home = Path(state) if state is not None else Path(base).expanduser() / "fleetaudit"
    path = home / _RUNS / name / FILE
    return path if path.is_file() else None


RECORDED_STATE = click.option(
    "--state", metavar="DIRECTORY", help="Where runs are kept; default: in your state directory."
)
