"""What ansible-vault has encrypted is not read here: Ansible itself has the passwords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.inventory.tree import ENCRYPTED
from fleetaudit.inventory.variables import is_read
from fleetaudit.text import visible
from fleetaudit.yamlio import Tags

REMEDY: Final = "pass --inventory-via ansible, and Ansible decrypts it"
# How ansible-inventory prints a value that is `!vault` in a file: it does not decrypt these
# (ansible/_internal/_json/_profiles/_inventory_legacy.py).
_MARK: Final = "__ansible_vault"
_UNSAFE: Final = (
    "__ansible_unsafe"  # text that is no template: so plugins' values came before ansible-core 2.19
)


class _Sealed(str):
    """An encrypted value in a YAML file; its text, which nothing here reads, is not kept."""

    __slots__ = ()

    def __new__(cls, text: str) -> _Sealed:
        del text
        return super().__new__(cls, "(encrypted)")


TAGS: Final[Tags] = MappingProxyType({"!vault": _Sealed, "!vault-encrypted": _Sealed, "!unsafe": str})
"""Ansible's tags that text in a YAML inventory may have: an encrypted value, and what is no template."""


def refuse(text: bytes, file: str) -> None:
    """Raise InventoryError for a file that is encrypted as a whole."""
    if text.startswith(b"$ANSIBLE_VAULT;"):
        raise InventoryError(Problem("the file is encrypted by ansible-vault", Place(file), REMEDY))


def opened(document: Mapping[str, object], decrypt: Callable[[str], str]) -> Mapping[str, object]:
    """What `ansible-inventory --list` printed, with encrypted values decrypted that the inventory reads.

    Only these say how to reach a host, and they never leave the inventory. Any other variable that holds an
    encrypted value is left out in the end: policies and reports must not have it.
    """
    meta = document.get("_meta")
    hosts = meta.get("hostvars") if isinstance(meta, Mapping) else None
    if not isinstance(hosts, Mapping):
        return document
    found: dict[object, object] = {
        host: _opened(variables, decrypt) if isinstance(variables, Mapping) else variables
        for host, variables in hosts.items()
    }
    return {**document, "_meta": {"hostvars": found}}


def _opened(variables: Mapping[str, object], decrypt: Callable[[str], str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in variables.items():
        secret = value.get(_MARK) if isinstance(value, Mapping) and len(value) == 1 else None
        if isinstance(secret, str) and is_read(name):
            found[name] = decrypt(secret)
        else:
            found[name] = value
    return found


def readable(variables: Mapping[str, object], place: Callable[[str], Place]) -> dict[str, object]:
    """The variables as plain values, ENCRYPTED for those that hold something encrypted; `place` tells where.

    Raises InventoryError for those that say how to reach a host and what is audited there.
    """
    hidden = {name for name, value in variables.items() if _holds(value)}
    needed = sorted(name for name in hidden if is_read(name))
    if needed:
        raise InventoryError(
            Problem(f"the value of {visible(name)} is encrypted", place(name), REMEDY) for name in needed
        )
    return {name: ENCRYPTED if name in hidden else _plain(value) for name, value in variables.items()}


def _holds(value: object) -> bool:
    """Whether something encrypted is anywhere in the value."""
    if isinstance(value, Mapping):
        return _MARK in value or any(map(_holds, value.values()))
    return isinstance(value, _Sealed) or (isinstance(value, list) and any(map(_holds, value)))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        if value.keys() == {_UNSAFE}:
            return value[_UNSAFE]
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
