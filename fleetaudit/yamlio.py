"""YAML with places: the only module that knows the YAML library.

A deliberately small YAML: one document, string keys, no anchors, no surprises. Scalars follow the YAML 1.2
core schema less its octal and hexadecimal numbers (https://yaml.org/spec/1.2.2/#103-core-schema), so that
`no`, `on`, `22:22`, `010` and dates stay the text a person wrote. The document is built from parser events
and not from composed nodes: depth and aliases are then refused before they cost anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import yaml

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: the same results, ten times slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]  # both have the parser's interface

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_DEPTH: Final = 50
_MAX_PROBLEMS: Final = 20

Tags: TypeAlias = Mapping[str, Callable[[str], object]]
NO_TAGS: Final[Tags] = MappingProxyType({})

_TAG: Final = "tag:yaml.org,2002:"
_KINDS: Final[dict[str, type]] = {
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "bool": bool,
    _TAG + "null": type(None),
}
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# At most 18 digits: what is longer is an identifier, and stays exact as text.
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT: Final = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z"
)
# https://yaml.org/spec/1.2.2/#51-character-set, "c-printable"
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a node stands, and its children's spots; `key` is where its own mapping key stands."""

    line: int
    column: int
    key: tuple[int, int] | None = None
    children: dict[str | int, _Spot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file's value: dict, list, str, int, float, bool and None only, each with a known place."""

    file: str
    value: object
    _root: _Spot | None = field(default=None, repr=False, compare=False)

    def place(self, path: Sequence[str | int], key: bool = False) -> Place:
        """Where the value at `path` stands, or its nearest existing ancestor.

        With `key`, where its mapping key stands (an item of a list has none: the item itself).
        """
        spot = self._root
        if spot is None:
            return Place(self.file)
        whole = True
        for step in path:
            child = spot.children.get(step)
            if child is None:
                whole = False
                break
            spot = child
        line, column = spot.key if key and whole and spot.key else (spot.line, spot.column)
        return Place(self.file, line, column)


def parse(text: bytes, file: str, tags: Tags = NO_TAGS) -> Document:
    """The one YAML document in `text`; `file` is the name used in messages. An empty one has the value None.

    `tags` are more that text may have, each with what makes its value.
    Raises ConfigError naming every mistake found, with line, column and remedy.
    """
    characters = _decode(text, file)
    builder = _Builder(file, characters, tags)
    try:
        value, root = builder.build()
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, characters, file))
    else:
        if not builder.problems:
            return Document(file, value, root)
    raise ConfigError(builder.problems)


def _decode(text: bytes, file: str) -> str:
    if len(text) > MAX_BYTES:
        message = f"the file is {len(text)} bytes long; the limit is {MAX_BYTES}"
        raise ConfigError(Problem(message, Place(file), "split it into several files"))
    if b"\0" in text:
        raise ConfigError(Problem("this is a binary file, not YAML", Place(file), "name a YAML text file"))
    try:
        characters = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        problem = Problem("the text is not UTF-8", Place(file, line), "save the file as UTF-8")
        raise ConfigError(problem) from None
    found = _UNPRINTABLE.search(characters)
    if found:
        line = characters.count("\n", 0, found.start()) + 1
        column = found.start() - characters.rfind("\n", 0, found.start())
        message = f"the control character {visible(found[0])} is not allowed in YAML"
        raise ConfigError(Problem(message, Place(file, line, column), "remove it"))
    return characters


class _TooMany(Exception):
    """Enough problems were found."""


class _Builder:
    """Turns one document's events into values and spots, noting every problem on the way."""

    def __init__(self, file: str, characters: str, tags: Tags) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._tags = tags
        self._events: Iterator[yaml.Event] = iter(yaml.parse(characters, Loader=_Loader))

    def build(self) -> tuple[object, _Spot | None]:
        value: object = None
        root: _Spot | None = None
        documents = 0
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        message = "a second YAML document begins here (---)"
                        self._note(message, event, "write one document per file")
                        break
                elif isinstance(event, yaml.NodeEvent):
                    value, root = self._node(event, 1, None)
        except _TooMany:
            pass
        return value, root

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.NodeEvent]:
        for event in self._events:
            if isinstance(event, end):
                return
            if isinstance(event, yaml.NodeEvent):
                yield event

    def _note(self, message: str, event: yaml.Event, hint: str) -> None:
        line, column = _position(event)
        self.problems.append(Problem(message, Place(self._file, line, column), hint))
        if len(self.problems) >= _MAX_PROBLEMS:
            raise _TooMany

    def _node(self, event: yaml.NodeEvent, depth: int, key: tuple[int, int] | None) -> tuple[object, _Spot]:
        spot = _Spot(*_position(event), key)
        if depth > MAX_DEPTH:
            self._note(f"nested deeper than {MAX_DEPTH} levels", event, "flatten it")
            raise _TooMany
        value: object = None
        if self._is_alias(event):
            return value, spot
        if isinstance(event, yaml.MappingStartEvent):
            self._check_tag(event, "map")
            value = self._mapping(depth, spot)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq")
            value = self._sequence(depth, spot)
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        return value, spot

    def _is_alias(self, event: yaml.NodeEvent) -> bool:
        """Notes an alias or an anchor; True for an alias, which has no value."""
        name = visible(event.anchor or "")
        if isinstance(event, yaml.AliasEvent):
            self._note(f"aliases (*{name}) are not supported", event, "write the value out")
            return True
        if name:
            self._note(f"anchors (&{name}) are not supported", event, "remove the anchor")
        return False

    def _check_tag(self, event: yaml.CollectionStartEvent, expected: str) -> None:
        if event.tag not in (None, "!", _TAG + expected):
            self._refuse_tag(event, event.tag)

    def _refuse_tag(self, event: yaml.Event, tag: str | None) -> None:
        if tag == "!vault":
            message = "only Ansible can read values that ansible-vault has encrypted"
            self._note(message, event, "in an inventory, pass --inventory-via ansible")
            return
        self._note(f"the tag {_shown_tag(tag)} is not supported", event, "remove the tag")

    def _sequence(self, depth: int, spot: _Spot) -> list[object]:
        items: list[object] = []
        for event in self._until(yaml.SequenceEndEvent):
            item, spot.children[len(items)] = self._node(event, depth + 1, None)
            items.append(item)
        return items

    def _mapping(self, depth: int, spot: _Spot) -> dict[str, object]:
        mapping: dict[str, object] = {}
        nodes = self._until(yaml.MappingEndEvent)
        for event in nodes:
            name = self._key(event, depth)
            value, child = self._node(next(nodes), depth + 1, _position(event))
            if name is None:
                continue
            first = spot.children.get(name)
            if first is not None:
                line = first.key[0] if first.key else first.line
                message = f"the key '{visible(name)}' is already used at line {line}"
                self._note(message, event, "keep one of the two")
                continue
            mapping[name] = value
            spot.children[name] = child
        return mapping

    def _key(self, event: yaml.NodeEvent, depth: int) -> str | None:
        """The key as text, or None after noting why it cannot be one."""
        if isinstance(event, yaml.AliasEvent):
            self._is_alias(event)
            return None
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, depth + 1, None)
            self._note("a list or mapping cannot be a key", event, "quote a value that begins with { or [")
            return None
        self._is_alias(event)
        if event.value == "<<" and not event.style:
            self._note("merge keys (<<) are not supported", event, "write the keys out")
            return None
        value = self._scalar(event)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return event.value
        shown = visible(event.value) or "nothing"
        self._note(f"{shown} cannot be a key: it is not text", event, "put it in quotes")
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        tag, text = event.tag, event.value
        if tag is None:
            return text if event.style else plain(text)
        if tag in ("!", _TAG + "str"):
            return text
        if tag in self._tags:
            return self._tags[tag](text)
        value = plain(text)
        kind = _KINDS.get(tag)
        if kind is None:
            self._refuse_tag(event, tag)
        elif type(value) is not kind:
            message = f"'{visible(text)}' does not fit its tag {_shown_tag(tag)}"
            self._note(message, event, "remove the tag")
        return value


def _shown_tag(tag: str | None) -> str:
    return visible((tag or "").replace(_TAG, "!!", 1))


def plain(text: str) -> object:
    """The value of text that stands without quotes."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _syntax_problem(error: yaml.YAMLError, characters: str, file: str) -> Problem:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem(f"this is not valid YAML: {visible(str(error))}", Place(file))
    mark = error.problem_mark
    place = Place(file, mark.line + 1, mark.column + 1)
    lines = characters.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or line[mark.column : mark.column + 1] == "\t":
        return Problem("a tab stands where YAML wants spaces", place, "indent with spaces")
    char = line[mark.column : mark.column + 1]
    if char and char in "@`%":
        return Problem(f"a value cannot begin with {char}", place, "put it in quotes")
    context = ""
    if error.context:
        started = error.context_mark
        context = f" {error.context}" + (f" that began at line {started.line + 1}" if started else "")
    return Problem(
        f"this is not valid YAML: {error.problem}{context}", place, "check quotes, colons and indentation"
    )


def written(documents: Sequence[Mapping[str, object]]) -> str:
    """Documents of plain values as YAML, in the order of their keys; every text is read back as it is."""
    return str(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100))
