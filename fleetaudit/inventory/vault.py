"""What ansible-vault has encrypted is not read here: Ansible itself has the passwords."""

from __future__ import annotations

from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem

REMEDY: Final = "pass --inventory-via ansible, and Ansible decrypts it"


def refuse(text: bytes, file: str) -> None:
    """Raise InventoryError for a file that is encrypted as a whole."""
    if text.startswith(b"$ANSIBLE_VAULT;"):
        raise InventoryError(Problem("the file is encrypted by ansible-vault", Place(file), REMEDY))
