"""Inventory sources of other distributions: `NAME:WHAT`, such as `netbox:site=berlin`.

An entry point of the group `fleetaudit.inventory_sources` names a function. It is called with WHAT and
returns the bytes of an inventory, as `ansible_yaml` reads it from a file; so what it says is checked as any
file is.
"""

from __future__ import annotations

import re
from collections.abc import Container

from fleetaudit import plugins

# A port follows the colon of `host:22,`, another colon that of an IPv6 address.
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):([^0-9:].*|)", re.DOTALL)


def read(source: str, built_in: Container[str]) -> tuple[str, bytes] | None:
    """The plugin's name and the inventory it gives; None for a source that no plugin is called for.

    Names that are built in are never looked for. Raises ConfigError for a plugin that does not load, fails or
    returns something else.
    """
    named = _NAMED.fullmatch(source)
    if named is None or named[1] in built_in:
        return None
    plugin = plugins.find(plugins.INVENTORY_SOURCES, named[1])
    if plugin is None:
        return None
    text = plugin(named[2])
    if not isinstance(text, bytes):
        raise plugin.broken(f"it returned {type(text).__name__}, not bytes")
    return plugin.name, text
