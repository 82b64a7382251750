"""The one place where the inventory touches the file system."""

from __future__ import annotations

from pathlib import Path

from fleetaudit import yamlio
from fleetaudit.errors import InventoryError, Place, Problem


def read(path: str) -> bytes:
    """The file's bytes, or as many as it takes to see that they are too many. Raises InventoryError."""
    try:
        if Path(path).is_dir():
            message = "inventory directories are not supported yet"
            raise InventoryError(Problem(message, Place(path), "name the inventory file in it"))
        with Path(path).open("rb") as file:
            return file.read(yamlio.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "name an inventory file, or hosts with a comma after each: host1,"
        raise InventoryError(Problem(f"the inventory cannot be read: {reason}", Place(path), hint)) from None
