"""The value forms: literal, glob, ~regex, range, CIDR, list, {not: …} and {{ variable }}.

A compiled test judges *candidates*: every value a field has for one subject (a listener on `::` without
v6only is also on 0.0.0.0). `UNKNOWN` among them makes the answer unknown unless another one matches.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

import re2

from fleetaudit.model import UNKNOWN
from fleetaudit.policy.truth import Truth, negate

Candidates: TypeAlias = Iterable[object]
Path: TypeAlias = tuple[str | int, ...]

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)\Z")
_GLOB = re.compile(r"[*?\[]")
_MAX_PATTERN = 2000
_REMEMBERED, _REMEMBERED_LENGTH = 512, 256


class Kind(Enum):
    """What a field's values are, which decides the forms it takes."""

    TEXT = "text"
    NUMBER = "number"
    PORT = "port"
    FLAG = "flag"
    ADDRESS = "address"


class ValueMistake(Exception):
    """A value that cannot be compiled: where in the policy, what is wrong, what to write instead."""

    def __init__(self, path: Path, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path, self.message, self.hint = path, message, hint


class MissingVariable(Exception):
    """A policy names an inventory variable that this host does not have, or has empty."""


@dataclass(frozen=True, slots=True)
class Bindings:
    """Inventory variables for `{{ name }}`. `variables=None` only checks: templates match nothing."""

    variables: Mapping[str, object] | None = None

    def value(self, name: str) -> object:
        """The variable's value. Raises MissingVariable when it is absent, empty or no plain value."""
        variables = self.variables or {}
        if name not in variables:
            raise MissingVariable(f"inventory variable '{name}' is not set for this host")
        value = variables[name]
        plain = value if isinstance(value, tuple) else (value,)
        if not plain or any(item in ("", None) or not isinstance(item, str | int | float) for item in plain):
            raise MissingVariable(f"inventory variable '{name}' is empty or not a plain value or list")
        return value

    def scalar(self, name: str) -> str:
        """The variable's value as text, where a list would make no sense."""
        value = self.value(name)
        if isinstance(value, tuple):
            raise MissingVariable(f"inventory variable '{name}' is a list; only a whole value can be a list")
        return str(value)


# A compiled value: `match` judges candidates, `negated` says whether a `not` is anywhere in it.
Test: TypeAlias = "Is | AnyOf | Not"


@dataclass(frozen=True, slots=True)
class Is:
    """One literal, glob, regex, range or network, or several literals, which `exact` then are."""

    holds: Callable[[object], bool]
    text: str
    negated: bool = False
    exact: frozenset[str | int] = frozenset()

    def match(self, candidates: Candidates) -> Truth:
        """Whether some candidate matches; an unknown one may."""
        found: Truth = False
        for item in candidates:
            if item is UNKNOWN:
                found = None
            elif self.holds(item):
                return True
        return found


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A list: any of its tests."""

    tests: tuple[Test, ...]
    text: str
    negated: bool

    def match(self, candidates: Candidates) -> Truth:
        """Whether some test matches."""
        values = tuple(candidates)
        found: Truth = False
        for test in self.tests:
            truth = test.match(values)
            if truth:
                return True
            if truth is None:
                found = None
        return found


@dataclass(frozen=True, slots=True)
class Not:
    """`{not: …}`: no candidate matches. Matches a value known to be none."""

    test: Test
    text: str
    negated: bool = True

    def match(self, candidates: Candidates) -> Truth:
        """Whether no candidate matches."""
        return negate(self.test.match(candidates))


def compile_value(
    spec: object, kind: Kind, path: Path, bindings: Bindings, choices: Sequence[str] = ()
) -> Test:
    """The test for one value. Raises ValueMistake, or MissingVariable when bindings lack a variable."""
    if isinstance(spec, Mapping):
        inner = compile_value(spec.get("not"), kind, (*path, "not"), bindings, choices)
        return Not(inner, f"not {inner.text}")
    if isinstance(spec, list | tuple):
        tests = tuple(
            compile_value(item, kind, (*path, place), bindings, choices) for place, item in enumerate(spec)
        )
        text = " or ".join(test.text for test in tests)
        literals = [test.exact for test in tests if isinstance(test, Is) and test.exact]
        if len(literals) == len(tests) > 0:
            return _one_of(frozenset().union(*literals), text)
        return AnyOf(tests, text, any(test.negated for test in tests))
    if spec is None:
        return Is(lambda value: value is None, "none")
    if isinstance(spec, str) and "{{" in spec:
        return _template(spec, kind, path, bindings, choices)
    return _literal(spec, kind, path, choices)


def literals(test: Test) -> frozenset[str | int]:
    """Every literal in a test, at whichever depth, below `not` too."""
    if isinstance(test, Not):
        return literals(test.test)
    if isinstance(test, AnyOf):
        return frozenset().union(*map(literals, test.tests))
    return test.exact


def is_templated(spec: object) -> bool:
    """Whether an inventory variable occurs anywhere in a policy value."""
    if isinstance(spec, Mapping):
        return any(is_templated(item) for item in spec.values())
    if isinstance(spec, list | tuple):
        return any(is_templated(item) for item in spec)
    return isinstance(spec, str) and "{{" in spec


def _literal(spec: object, kind: Kind, path: Path, choices: Sequence[str]) -> Test:
    if kind is Kind.FLAG:
        if not isinstance(spec, bool):
            raise ValueMistake(path, f"{spec!r} is neither true nor false", "write true or false")
        return Is(lambda value: value is spec, str(spec).lower())
    if isinstance(spec, bool) or not isinstance(spec, int | str):
        raise ValueMistake(path, f"{spec!r} cannot be matched here", "write a string or a whole number")
    if spec == "":
        raise ValueMistake(path, "an empty string matches nothing", "write null for 'known to be none'")
    if kind in (Kind.NUMBER, Kind.PORT):
        return _number(str(spec), kind, path)
    if kind is Kind.ADDRESS:
        return _address(str(spec), path)
    return _text(str(spec), path, choices)


def _number(spec: str, kind: Kind, path: Path) -> Test:
    span = _RANGE.match(spec)
    low, high = (int(span[1]), int(span[2])) if span else _bounds(spec, path)
    if low > high:
        raise ValueMistake(path, f"the range {spec} is empty", f"write {high}-{low}")
    if kind is Kind.PORT and high > 65535:
        raise ValueMistake(path, f"{high} is not a port", "ports are 0 to 65535")
    if low == high:
        return _one_of(frozenset({low}), spec)
    return Is(lambda value: isinstance(value, int) and low <= value <= high, spec)


def _one_of(literals: frozenset[str | int], text: str) -> Is:
    return Is(literals.__contains__, text, exact=literals)


def _bounds(spec: str, path: Path) -> tuple[int, int]:
    if not spec.isascii() or not spec.isdigit():
        raise ValueMistake(path, f"'{spec}' is not a number", "write a number or a range like 8000-8999")
    return int(spec), int(spec)


def _address(spec: str, path: Path) -> Test:
    if spec.startswith("~") or _GLOB.search(spec):
        return _text(spec, path, ())
    try:
        network = ipaddress.ip_network(spec)
    except ValueError as error:
        if "host bits" in str(error):
            clean = ipaddress.ip_network(spec, strict=False)
            raise ValueMistake(path, f"{spec} has host bits set", f"write {clean}") from None
        raise ValueMistake(
            path, f"'{spec}' is not an address", "write an IP address, a CIDR, a glob or a ~regex"
        ) from None
    return Is(_remembered(lambda value: _within(value, network)), spec)


def _within(value: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(value.split("%", maxsplit=1)[0]) in network
    except ValueError:
        return False


def _text(spec: str, path: Path, choices: Sequence[str]) -> Test:
    if len(spec) > _MAX_PATTERN:
        raise ValueMistake(path, f"the pattern is longer than {_MAX_PATTERN} characters", "shorten it")
    if spec == "~":
        raise ValueMistake(path, "an empty regular expression matches everything", "write what to search for")
    if spec.startswith("~"):
        return _search(spec[1:], spec, path)
    if _GLOB.search(spec):
        return _fullmatch(glob_to_regex(spec), spec, path)
    if choices and spec not in choices:
        close = difflib.get_close_matches(spec, choices, n=1)
        hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(choices)}"
        raise ValueMistake(path, f"'{spec}' is not known here", hint)
    return _one_of(frozenset({spec}), spec)


def _pattern(regex: str, path: Path) -> re2.Pattern:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueMistake(
            path,
            f"the regular expression is wrong: {reason}",
            "RE2 syntax: no look-around, no back-references",
        ) from None


def _search(regex: str, text: str, path: Path) -> Test:
    pattern = _pattern(regex, path)
    return Is(_remembered(lambda value: pattern.search(value) is not None), text)


def _fullmatch(regex: str, text: str, path: Path) -> Test:
    pattern = _pattern(regex, path)
    return Is(_remembered(lambda value: pattern.fullmatch(value) is not None), text)


def _remembered(holds: Callable[[str], bool]) -> Callable[[object], bool]:
    """The test, done once for each value: the hosts of a fleet have few different ones.

    Bounded in how many values it keeps and in their length, since hosts choose them.
    """
    known = lru_cache(_REMEMBERED)(holds)

    def ask(value: object) -> bool:
        if not isinstance(value, str):
            return False
        return known(value) if len(value) <= _REMEMBERED_LENGTH else holds(value)

    return ask


def glob_to_regex(glob: str) -> str:
    """A glob as a linear-time regular expression: `*` crosses `/`, `?` is one character, `[a-z]`, `[!a]`."""
    pieces: list[str] = []
    place = 0
    while place < len(glob):
        char = glob[place]
        close = glob.find("]", place + 2) if char == "[" else -1
        if char == "*":
            pieces.append(".*")
        elif char == "?":
            pieces.append(".")
        elif close > 0:
            body = glob[place + 1 : close].replace("\\", r"\\").replace("[", r"\[")
            negated = body.removeprefix("!")
            pieces.append(f"[{'^' if negated != body else ''}{_no_caret(negated)}]")
            place = close
        else:
            pieces.append(re2.escape(char))
        place += 1
    return f"(?s:{''.join(pieces)})"


def _no_caret(characters: str) -> str:
    """In a glob only `!` negates; a leading ^ is itself."""
    return f"\\{characters}" if characters.startswith("^") else characters


# ---------------------------------------------------------------- inventory variables, as data


def _template(spec: str, kind: Kind, path: Path, bindings: Bindings, choices: Sequence[str]) -> Test:
    rest = _TEMPLATE.sub("", spec)
    if "{{" in rest or "}}" in rest:
        raise ValueMistake(path, f"'{spec}' is not understood", "write {{ variable }}: a name, no expression")
    if bindings.variables is None:
        return Is(lambda _value: False, spec)
    whole = _TEMPLATE.fullmatch(spec.strip())
    if whole:
        value = bindings.value(whole[1])
        items = value if isinstance(value, tuple) else (value,)
        tests = tuple(_exactly(str(item), kind, path, choices) for item in items)
        return AnyOf(tests, " or ".join(test.text for test in tests), negated=False)
    filled = _TEMPLATE.sub(lambda found: bindings.scalar(found[1]), spec)
    if kind is not Kind.TEXT:
        return _exactly(filled, kind, path, choices)
    if spec.startswith("~"):
        regex = _TEMPLATE.sub(lambda found: re2.escape(bindings.scalar(found[1])), spec[1:])
        return _search(regex, filled, path)
    return _fullmatch(_glob_with_variables(spec, bindings), filled, path)


def _exactly(value: str, kind: Kind, path: Path, choices: Sequence[str]) -> Test:
    """A variable's value as a literal: what it holds is data, never a pattern."""
    if kind is Kind.ADDRESS and (value.startswith("~") or _GLOB.search(value)):
        raise ValueMistake(
            path, f"the variable's value '{value}' is not an address", "set it to an address or CIDR"
        )
    if kind is Kind.TEXT and not choices:
        return _one_of(frozenset({value}), value)
    if choices and value not in choices:
        raise ValueMistake(
            path, f"the variable's value '{value}' is not known here", f"one of {', '.join(choices)}"
        )
    return _literal(value, kind, path, choices)


def _glob_with_variables(spec: str, bindings: Bindings) -> str:
    pieces = _TEMPLATE.split(spec)  # literal, name, literal, name, …
    return "".join(
        re2.escape(bindings.scalar(piece)) if place % 2 else glob_to_regex(piece)
        for place, piece in enumerate(pieces)
    )
