"""The one place where the inventory touches the file system."""

from __future__ import annotations

import os
from pathlib import Path

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.inventory.names import MAX_BYTES

_HINT = "name an inventory file, or hosts with a comma after each: host1,"


def read(path: str) -> bytes:
    """The file's bytes, or as many as it takes to see that they are too many. Raises InventoryError."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def listing(path: str) -> tuple[str, ...] | None:
    """The sorted names in a directory; None for what is no directory. Raises InventoryError."""
    try:
        return tuple(sorted(entry.name for entry in os.scandir(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def is_executable(path: str) -> bool:
    """Whether it is a file that may be run."""
    return Path(path).is_file() and os.access(path, os.X_OK)


def _unreadable(path: str, error: Exception) -> InventoryError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InventoryError(Problem(f"the inventory cannot be read: {reason}", Place(path), _HINT))
