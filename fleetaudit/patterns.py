"""Host patterns as Ansible writes them: `web:&prod:!db1`, globs, `~regex`, `web[0:5]`, `@FILE`.

What Ansible does is kept where it is documented
(https://docs.ansible.com/ansible/latest/inventory_guide/intro_patterns.html): the terms' order does not
matter, first the union, then the `&` terms, then the `!` terms; with `&` or `!` terms alone the union is all
hosts; a regular expression matches from the start of a name; positions are inclusive. As that page says, and
unlike what Ansible does, `a*` does not mean the built-in group `all`. What Ansible would silently read as a
pattern that matches nothing is an error here, for a pattern decides what is audited.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import re2

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible

# https://github.com/ansible/ansible/blob/devel/lib/ansible/inventory/manager.py, PATTERN_WITH_SUBSCRIPT
_SUBSCRIPT: Final = re.compile(
    r"(?P<name>.+)\[(?:(?P<one>-?[0-9]{1,9})|(?P<first>[0-9]{1,9})(?P<sign>[:-])(?P<last>[0-9]{0,9}))\]\Z"
)
_PIECE: Final = re.compile(r"(?:[^,:\[\]]|\[[^\]]*\])*")
_COMMA_PIECE: Final = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])*")
_EVERYTHING: Final = frozenset({"all", "*"})
_EXAMPLE: Final = "write for example web, web*, ~web[0-9]+ or web:&prod:!db1"


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a pattern. `operator` is "" (these too), "&" (only these) or "!" (not these).

    `literal` says that `name` is one name, of a host or a group, and not a glob or regular expression.
    `positions` are a slice of the hosts that it fits; `placed` says which hosts these are. `members` are what
    the file of a term `@FILE` says, one a line, each with its `place`.
    """

    operator: str
    text: str
    name: str
    literal: bool
    _fits: Callable[[str], object] = field(repr=False, compare=False)
    positions: tuple[int, int | None] | None = None
    members: tuple[Term, ...] = ()
    place: Place | None = None
    _hosts: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.operator + self.text

    def matches(self, name: str, groups: Collection[str]) -> bool:
        """Whether the term, operator aside, speaks of the host `name`, which is in `groups`."""
        if self.members:
            return any(member.matches(name, groups) for member in self.members)
        if self.positions is not None:
            return name in self._hosts
        if self.name in _EVERYTHING:
            return True
        return self.fits(name) or any(self._fits(group) for group in groups)

    def fits(self, name: str) -> bool:
        """Whether the term, operator and positions aside, is about the host or the group of this name."""
        return bool(self._fits(name)) and (name != "all" or self.name in _EVERYTHING)

    def placed(self, among: Sequence[str]) -> Term:
        """The term with its positions found among these hosts. Raises ConfigError where there are none."""
        found = among[slice(*self.positions or (0, None))]
        if not found:
            message = f"'{visible(self.name)}' has {len(among)} hosts, none of them there"
            raise _mistake(self.text, message, "positions count from 0, both ends included")
        return replace(self, _hosts=frozenset(found))


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

    def named(self) -> Iterator[Term]:
        """Every term that is about hosts or groups, those of files among them."""
        for term in self.terms:
            yield from term.members or (term,)

    def placed(self, among: Callable[[Term], Sequence[str]]) -> HostPattern:
        """The pattern with all positions found; `among` lists the hosts that a term fits, in order.

        Raises ConfigError for positions where no host is.
        """

        def placed(term: Term) -> Term:
            if term.members:
                return replace(term, members=tuple(map(placed, term.members)))
            return term if term.positions is None else term.placed(among(term))

        return replace(self, terms=tuple(map(placed, self.terms)))


def parse(text: str, read: Callable[[str], bytes] | None = None) -> HostPattern:
    """The pattern that `text` writes: terms separated by `:` or `,`, blanks around them ignored.

    With `read`, which gets the content of a file, it is for one inventory, and may have positions and terms
    `@FILE`; without, it is one of a policy, which must not mean other hosts as soon as one is added.
    Raises ConfigError for a pattern that is empty or malformed.
    """
    if not text.strip():
        raise ConfigError(Problem("the host pattern is empty", hint=_EXAMPLE))
    pieces = [piece.strip() for piece in _split(text)]
    if len(pieces) > 1 and not pieces[-1]:
        del pieces[-1]  # `web,` is how a list of one is written
    return HostPattern(text, tuple(_term(piece, text, read) for piece in pieces))


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


def _term(piece: str, text: str, read: Callable[[str], bytes] | None) -> Term:
    operator = piece[0] if piece[:1] in ("!", "&") else ""
    name = piece[len(operator) :].strip()
    if not name.removeprefix("~"):
        raise _mistake(text, "a term is empty", "remove the separator or write a name")
    if any(char.isspace() or not char.isprintable() for char in name):
        raise _mistake(
            text, f"'{visible(name)}' holds a blank or a control character", "separate names by : or ,"
        )
    if name[0] == "~":
        return Term(operator, name, name, False, _regex(name[1:], text))
    if name[0] == "@":
        return _from_file(operator, name, text, read)
    whole, positions = name, None
    if name[0] == "[" and name[-1] == "]" and _is_ipv6(name[1:-1]):
        name = name[1:-1]
    elif not _is_ipv6(name):
        name, positions = _positions(name, text, allowed=read is not None)
        _refuse_odd(name, text)
    if any(char in name for char in "*?["):
        fits = re.compile(fnmatch.translate(name)).match
        return Term(operator, whole, name, False, fits, positions)
    return Term(operator, whole, name, True, name.__eq__, positions)


def _positions(name: str, text: str, *, allowed: bool) -> tuple[str, tuple[int, int | None] | None]:
    found = _SUBSCRIPT.fullmatch(name)
    if found is None:
        return name, None
    if not allowed:
        message = f"positions in a group ('{visible(name)}') depend on the order in an inventory"
        raise _mistake(text, message, "name the hosts, or use a regular expression such as ~web[0-5]")
    if found["sign"] == "-":
        hint = f"write [{found['first']}:{found['last']}] for positions, or a regular expression (~web[0-5])"
        raise _mistake(text, f"'{visible(name)}' may be positions or a glob", hint)
    first = int(found["one"] or found["first"])
    if found["one"]:
        return found["name"], (first, first + 1 or None)
    return found["name"], (first, int(found["last"]) + 1 if found["last"] else None)


def _from_file(operator: str, name: str, text: str, read: Callable[[str], bytes] | None) -> Term:
    if read is None:
        raise _mistake(text, "a pattern here cannot come from a file (@FILE)", "only PATTERN and --limit can")
    file = name[1:]
    if not file:
        raise _mistake(text, "@ names no file", "write @FILE")
    members = []
    for number, line in enumerate(read(file).decode("utf-8", "surrogateescape").splitlines(), 1):
        place = Place(visible(file), number)
        if not line.strip():
            continue
        if line.strip()[0] in "@!&":
            hint = "name hosts or groups, one a line"
            raise ConfigError(Problem(f"'{visible(line.strip())}' is no name", place, hint))
        try:
            members.append(replace(_term(line.strip(), line.strip(), read), place=place))
        except ConfigError as error:
            raise ConfigError(Problem(item.message, place, item.hint) for item in error.problems) from None
    if not members:
        message = "no host is named in it"
        raise ConfigError(Problem(message, Place(visible(file)), "every host had answered"))
    return Term(operator, name, name, False, bool, members=tuple(members))


def _refuse_odd(name: str, text: str) -> None:
    if re.search(r"\[[^\]]*:", name):
        message = f"'{visible(name)}': a range is for inventories"
        raise _mistake(text, message, "write a glob such as web[a-f]")
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
