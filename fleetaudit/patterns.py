"""Host patterns as Ansible writes them: `web:&prod:!db1`, globs, `~regex`.

What Ansible does is kept where it is documented
(https://docs.ansible.com/ansible/latest/inventory_guide/intro_patterns.html): the terms' order does not
matter, first the union, then the `&` terms, then the `!` terms; with `&` or `!` terms alone the union is all
hosts; a regular expression matches from the start of a name. What Ansible would silently read as a pattern
that matches nothing is an error here, for a pattern decides what is audited.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import re2

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible

# https://github.com/ansible/ansible/blob/devel/lib/ansible/inventory/manager.py, PATTERN_WITH_SUBSCRIPT
_SUBSCRIPT: Final = re.compile(r".+\[(?:-?[0-9]+|[0-9]+[:-][0-9]*)\]\Z")
_PIECE: Final = re.compile(r"(?:[^,:\[\]]|\[[^\]]*\])*")
_COMMA_PIECE: Final = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])*")
_EVERYTHING: Final = frozenset({"all", "*"})
_EXAMPLE: Final = "write for example web, web*, ~web[0-9]+ or web:&prod:!db1"


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a pattern. `operator` is "" (these too), "&" (only these) or "!" (not these).

    `literal` says that `text` is one name, of a host or a group, and not a glob or regular expression.
    """

    operator: str
    text: str
    literal: bool
    _fits: Callable[[str], object] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.operator + self.text

    def matches(self, name: str, groups: Collection[str]) -> bool:
        """Whether the term, operator aside, speaks of the host `name`, which is in `groups`."""
        if self.text in _EVERYTHING:
            return True
        return bool(self._fits(name)) or any(self._fits(group) for group in groups)


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A parsed pattern; `text` is how it was written."""

    text: str
    terms: tuple[Term, ...]

    def matches(self, name: str, groups: Collection[str]) -> bool:
        """Whether the host `name`, which is in `groups` (`all` need not be among them), is selected."""
        told = {
            operator: [term.matches(name, groups) for term in self.terms if term.operator == operator]
            for operator in ("", "&", "!")
        }
        return (any(told[""]) or not told[""]) and all(told["&"]) and not any(told["!"])


def parse(text: str) -> HostPattern:
    """The pattern that `text` writes: terms separated by `:` or `,`, blanks around them ignored.

    Raises ConfigError for a pattern that is empty or malformed.
    """
    if not text.strip():
        raise ConfigError(Problem("the host pattern is empty", hint=_EXAMPLE))
    pieces = [piece.strip() for piece in _split(text)]
    if len(pieces) > 1 and not pieces[-1]:
        del pieces[-1]  # `web,` is how a list of one is written
    return HostPattern(text, tuple(_term(piece, text) for piece in pieces))


def _mistake(text: str, what: str, hint: str) -> ConfigError:
    return ConfigError(Problem(f"host pattern '{visible(text)}': {what}", hint=hint))


def _split(text: str) -> list[str]:
    pieces: list[str] = []
    for part in _cut(text, _COMMA_PIECE, text):
        bare = part.strip().lstrip("!&")
        pieces += [part] if _is_ipv6(bare) else _cut(part, _PIECE, text)
    return pieces


def _cut(part: str, piece: re.Pattern[str], text: str) -> list[str]:
    """The part cut at each separator that does not stand in brackets."""
    pieces: list[str] = []
    start = 0
    while True:
        found = piece.match(part, start)
        end = found.end() if found else start
        pieces.append(part[start:end])
        if end == len(part):
            return pieces
        if part[end] in "[]":
            raise _mistake(text, "a bracket is not closed or not opened", "write [ and ] in pairs")
        start = end + 1


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _term(piece: str, text: str) -> Term:
    operator = piece[0] if piece[:1] in ("!", "&") else ""
    name = piece[len(operator) :].strip()
    if not name.removeprefix("~"):
        raise _mistake(text, "a term is empty", "remove the separator or write a name")
    if any(char.isspace() or not char.isprintable() for char in name):
        raise _mistake(
            text, f"'{visible(name)}' holds a blank or a control character", "separate names by : or ,"
        )
    if name[0] == "~":
        return Term(operator, name, False, _regex(name[1:], text))
    if name[0] == "[" and name[-1] == "]" and _is_ipv6(name[1:-1]):
        name = name[1:-1]
    elif not _is_ipv6(name):
        _refuse_odd(name, text)
    if any(char in name for char in "*?["):
        return Term(operator, name, False, re.compile(fnmatch.translate(name)).match)
    return Term(operator, name, True, name.__eq__)


def _refuse_odd(name: str, text: str) -> None:
    if _SUBSCRIPT.match(name):
        message = f"positions in a group ('{visible(name)}') are not supported yet"
        raise _mistake(text, message, "name the hosts, or use a regular expression such as ~web[0-5]")
    if re.search(r"\[[^\]]*:", name):
        message = f"'{visible(name)}': a range is for inventories"
        raise _mistake(text, message, "write a glob such as web[a-f]")
    if name[0] == "@":
        raise _mistake(text, "patterns from a file (@FILE) are not supported yet", "only --limit takes @FILE")
    outside = re.sub(r"\[[^\]]*\]", "", name)
    odd = next((char for char in outside if char in "!&~(){}|^$\\'\"<>;"), "")
    if odd:
        message = f"'{visible(name)}' holds {odd}, which no host or group name has"
        raise _mistake(text, message, "a regular expression begins with ~ and has no : or , outside brackets")


def _regex(regex: str, text: str) -> Callable[[str], object]:
    if regex.count("{") != regex.count("}"):
        raise _mistake(
            text, "the regular expression is cut at a comma", "it may have : and , in brackets only"
        )
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options).match
    except re2.error as error:
        message = f"'{visible(regex)}' is not a regular expression: {visible(_words(error))}"
        hint = "RE2 syntax, no look-around and no back-references; : and , in brackets only"
        raise _mistake(text, message, hint) from None


def _words(error: Exception) -> str:
    words = error.args[0] if error.args else ""
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
