"""JSON Schema for people: every mistake in a document as one plain sentence, with its place and a remedy.

The schemas are package data under `schemas/`, JSON Schema 2020-12. The validator is imported on use:
importing it costs 170 ms, which a command that reads no configuration should not pay.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, TypeAlias

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

_SUFFIX: Final = ".schema.json"
_SHOWN: Final = 60  # characters of a wrong value that a message repeats
_KINDS: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
_YAML_1_1_BOOLS: Final = frozenset({"yes", "no", "on", "off", "y", "n"})

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Mistake:
    """One thing the validator found: which keyword of the schema the value at `path` breaks."""

    keyword: str
    expected: object  # the keyword's value in the schema
    path: Path
    value: object
    schema: Mapping[str, object]
    text: str  # the validator's own words
    branches: tuple[tuple[_Mistake, ...], ...] = ()  # oneOf, anyOf: what each alternative found


def names() -> tuple[str, ...]:
    """The names of the published schemas, sorted."""
    files = resources.files("fleetaudit").joinpath("schemas").iterdir()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX)))


def load(name: str) -> dict[str, object]:
    """The published schema called `name`. Raises ConfigError for a name that does not exist."""
    known = names()
    if name not in known:
        hint = _suggest(name, known)
        raise ConfigError(Problem(f"there is no schema called '{visible(name)}'", hint=hint))
    file = resources.files("fleetaudit").joinpath("schemas").joinpath(name + _SUFFIX)
    schema: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def modeline(name: str) -> str:
    """The first line of a YAML file that tells editors its schema, as `fleetaudit schema` writes it beside.

    That is the comment of yaml-language-server, which VS Code, Neovim and Emacs use.
    """
    return f"# yaml-language-server: $schema={name}{_SUFFIX}"


def problems(document: Document, name: str) -> tuple[Problem, ...]:
    """Every mistake of the document against the schema called `name`, in reading order."""
    if document.value is None:
        return (Problem("the file is empty", document.place(()), f"its form: fleetaudit schema {name}"),)
    found = {
        problem
        for mistake in _validator(name)(document.value)
        for leaf in _leaves(mistake)
        for problem in _problems(leaf, document)
    }
    return tuple(sorted(found, key=_reading_order))


def _reading_order(problem: Problem) -> tuple[int, int, str]:
    place = problem.place
    return (place.line, place.column, problem.message) if place else (0, 0, problem.message)


@functools.cache
def _validator(name: str) -> Callable[[object], Iterator[_Mistake]]:
    """A function from a value to its mistakes: the one place that knows the validator's types."""
    import jsonschema  # noqa: PLC0415  (see the module's docstring)

    validator = jsonschema.Draft202012Validator(load(name))

    def convert(error: jsonschema.ValidationError) -> _Mistake:
        branches: dict[object, list[_Mistake]] = {}
        for inner in error.context:
            branches.setdefault(inner.relative_schema_path[0], []).append(convert(inner))
        return _Mistake(
            keyword=str(error.validator),
            expected=error.validator_value,
            path=tuple(error.absolute_path),
            value=error.instance,
            schema=error.schema if isinstance(error.schema, Mapping) else {},
            text=error.message,
            branches=tuple(tuple(branch) for branch in branches.values()),
        )

    return lambda value: map(convert, validator.iter_errors(value))


def _leaves(mistake: _Mistake) -> Iterator[_Mistake]:
    """The mistakes to tell: of alternatives, those of the one the author most likely meant."""
    meant = [branch for branch in mistake.branches if not _is_other_kind(branch, mistake.path)]
    if mistake.keyword not in ("oneOf", "anyOf") or not meant:
        yield mistake
        return
    best = min(meant, key=lambda branch: (-max(len(inner.path) for inner in branch), len(branch)))
    for inner in best:
        yield from _leaves(inner)


def _is_other_kind(branch: Iterable[_Mistake], path: Path) -> bool:
    """Whether the alternative is about another kind of value altogether."""
    return any(inner.keyword in ("type", "const", "enum") and inner.path == path for inner in branch)


def _problems(mistake: _Mistake, document: Document) -> Iterator[Problem]:
    if mistake.keyword in ("additionalProperties", "unevaluatedProperties") and isinstance(
        mistake.value, Mapping
    ):
        yield from _unknown_keys(mistake, document)
    elif mistake.keyword in ("required", "dependentRequired") and isinstance(mistake.value, Mapping):
        yield from _missing_keys(mistake, document)
    else:
        sentence, hint = _SENTENCES.get(mistake.keyword, _other)(mistake)
        message = f"{_where(mistake.path)}{sentence}"
        yield Problem(message, document.place(mistake.path), hint)


def _unknown_keys(mistake: _Mistake, document: Document) -> Iterator[Problem]:
    known = _mapping(mistake.schema.get("properties"))
    patterns = [re.compile(pattern) for pattern in _mapping(mistake.schema.get("patternProperties"))]
    for key in _mapping(mistake.value):
        if key not in known and not any(pattern.search(key) for pattern in patterns):
            message = f"{_where(mistake.path)}unknown key '{_short(key)}'"
            yield Problem(message, document.place((*mistake.path, key), key=True), _suggest(key, list(known)))


def _missing_keys(mistake: _Mistake, document: Document) -> Iterator[Problem]:
    present = _mapping(mistake.value)
    properties = _mapping(mistake.schema.get("properties"))
    wanted: dict[str, str] = {}
    if isinstance(mistake.expected, Mapping):
        for trigger, needs in mistake.expected.items():
            wanted |= {str(need): f" beside '{trigger}'" for need in needs if trigger in present}
    elif isinstance(mistake.expected, Sequence):
        wanted = {str(need): "" for need in mistake.expected}
    for key, beside in wanted.items():
        if key not in present:
            meaning = str(_mapping(properties.get(key)).get("description", ""))
            hint = f"{key}: {meaning}" if meaning else f"add {key}"
            yield Problem(
                f"{_where(mistake.path)}'{key}' is missing{beside}", document.place(mistake.path), hint
            )


# ---------------------------------------------------------------- sentences: (what is wrong, what to write)

_Sentence: TypeAlias = tuple[str, str]


def _type(mistake: _Mistake) -> _Sentence:
    expected = mistake.expected if isinstance(mistake.expected, list) else [mistake.expected]
    wanted = _listed(_KINDS.get(str(kind), str(kind)) for kind in expected)
    if isinstance(mistake.value, str) and "boolean" in expected and mistake.value.lower() in _YAML_1_1_BOOLS:
        wanted = "true or false: yes, no, on and off are text in YAML 1.2"
    elif expected == ["string"] and not isinstance(mistake.value, list | Mapping):
        wanted = "text, in quotes where it looks like something else"
    return f"{_described(mistake.value)} cannot stand here", f"write {wanted}"


def _enum(mistake: _Mistake) -> _Sentence:
    choices = mistake.expected if isinstance(mistake.expected, list) else []
    name = next((step for step in reversed(mistake.path) if isinstance(step, str)), "")
    what = f"is not a value of {name}" if name else "is not one of the allowed values"
    return f"{_described(mistake.value)} {what}", _suggest(
        mistake.value, [_plain(choice) for choice in choices]
    )


def _const(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} cannot stand here", f"write {_plain(mistake.expected)}"


def _pattern(mistake: _Mistake) -> _Sentence:
    meaning = str(mistake.schema.get("description", ""))
    return (
        f"{_described(mistake.value)} does not have the right form",
        f"{meaning} Form: {mistake.expected}".strip(),
    )


def _too_small(mistake: _Mistake) -> _Sentence:
    if mistake.expected == 1:
        return "nothing is written here", _meaning(mistake, "write at least one")
    return f"{_described(mistake.value)} is too short", f"write at least {mistake.expected}"


def _too_big(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} is too long", f"write at most {mistake.expected}"


def _low(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} is too small", f"the least is {mistake.expected}"


def _high(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} is too big", f"the most is {mistake.expected}"


def _repeated(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} repeats an entry", "write each entry once"


def _alternatives(mistake: _Mistake) -> _Sentence:
    """No alternative is near: list what each would take."""
    leaves = [inner for branch in mistake.branches for inner in branch]
    wanted = dict.fromkeys(_SENTENCES.get(inner.keyword, _other)(inner)[1] for inner in leaves)
    hints = [hint.removeprefix("write ") for hint in wanted if hint]
    return f"{_described(mistake.value)} cannot stand here", f"write {' or '.join(hints)}" if hints else ""


def _other(mistake: _Mistake) -> _Sentence:
    return f"{_described(mistake.value)} cannot stand here: {_short(mistake.text)}", _meaning(mistake, "")


_SENTENCES: Final[Mapping[str, Callable[[_Mistake], _Sentence]]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minLength": _too_small,
    "minItems": _too_small,
    "minProperties": _too_small,
    "maxLength": _too_big,
    "maxItems": _too_big,
    "maxProperties": _too_big,
    "minimum": _low,
    "exclusiveMinimum": _low,
    "maximum": _high,
    "exclusiveMaximum": _high,
    "uniqueItems": _repeated,
    "oneOf": _alternatives,
    "anyOf": _alternatives,
}


def _meaning(mistake: _Mistake, otherwise: str) -> str:
    return str(mistake.schema.get("description", otherwise))


def _where(path: Path) -> str:
    """The path in the file's own terms, ready to stand before a sentence: `rules[2].severity: `."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{_short(step)}" for step in path)
    return f"{steps.removeprefix('.')}: " if steps else ""


def _described(value: object) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return f"'{_short(value)}'" if isinstance(value, str) else f"{_short(_plain(value))}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: str) -> str:
    shown = visible(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _listed(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _suggest(value: object, choices: Sequence[str]) -> str:
    """What to write instead: the nearest choice, and all of them."""
    allowed = f"write one of {', '.join(choices)}" if choices else "remove it: nothing may stand here"
    near = difflib.get_close_matches(value[:100], choices, n=1) if isinstance(value, str) else []
    return f"did you mean {near[0]}? {allowed}" if near else allowed


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
