"""A resolved policy as YAML that loads again and means the same, with where each part is from. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from fleetaudit.errors import Place
from fleetaudit.policy.resolve import Resolved, RuleSource
from fleetaudit.text import visible
from fleetaudit.yamlio import plain

_WIDTH: Final = 100
_UNPLAIN: Final = re.compile(r"[^A-Za-z0-9_./ -]")


def show(resolved: Resolved) -> Iterator[str]:
    """The lines of the policy, without ends; a comment above each rule says which files wrote it."""
    yield f"# {_where(resolved.document.place(()))}, resolved"
    keys = {"version": 1, "name": resolved.keys["name"], **resolved.keys}
    for key, value in keys.items():
        writer = resolved.documents.get(key, resolved.document)
        if writer is not resolved.document:
            yield f"# from {_where(writer.place((key,), key=True))}"
        yield from _pair(key, value, 0)
    yield "rules:"
    for rule in resolved.rules:
        yield f"  # {_origin(rule)}"
        lines = [line for key, value in _in_order(rule) for line in _pair(key, value, 4)]
        yield f"  - {lines[0].lstrip()}"
        yield from lines[1:]


def _in_order(rule: RuleSource) -> Iterator[tuple[str, object]]:
    yield "id", rule.spec["id"]
    yield from ((key, value) for key, value in rule.spec.items() if key != "id")


def _origin(rule: RuleSource) -> str:
    first, *others = rule.layers
    text = f"from {_where(first.place)}"
    for layer in others:
        changed = [key for key, writer in rule.writers.items() if writer == layer and key != "id"]
        text += f"; {_where(layer.place)} overrides {', '.join(changed) or 'nothing'}"
    return text


def _where(place: Place) -> str:
    return visible(f"{place.file}:{place.line}")


def _pair(key: str, value: object, indent: int) -> Iterator[str]:
    """A key with its value: on one line where it fits, else one line an item."""
    start = f"{' ' * indent}{_scalar(key)}:"
    line = f"{start} {_flow(value)}"
    if len(line) <= _WIDTH or not value or not isinstance(value, list | Mapping):
        yield line
    elif isinstance(value, Mapping):
        yield start
        for name, item in value.items():
            yield from _pair(str(name), item, indent + 2)
    else:
        yield start
        yield from (f"{' ' * indent}  - {_flow(item)}" for item in value)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return str(value)
    plainly = value[:1].isalnum() or value[:1] in "/_"
    if plainly and not _UNPLAIN.search(value) and value == value.strip() and isinstance(plain(value), str):
        return value
    return _quoted(value)


def _quoted(value: str) -> str:
    """In double quotes, with everything escaped that is not plain to see."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else _escape(char) for char in escaped) + '"'


def _escape(char: str) -> str:
    if char in "\n\t":
        return {"\n": "\\n", "\t": "\\t"}[char]
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
