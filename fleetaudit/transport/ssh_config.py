"""ssh_config files: what they say of a host, by the rules of ssh_config(5).

paramiko's reader is not used: it passes over `Include`, takes an unknown `Match` criterion for one that
holds, and replaces the tokens of a doubled `%%`.
"""

from __future__ import annotations

import difflib
import getpass
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible
from fleetaudit.transport.ssh_keywords import SSH_KEYWORDS

# What is read, and the tokens each may have.
_ALL = frozenset("%dhikLlnpru")
KEYWORDS: Final = {
    "hostname": frozenset("%h"),
    "user": frozenset(),
    "port": frozenset(),
    "identityfile": _ALL,
    "identitiesonly": frozenset(),
    "identityagent": _ALL,
    "certificatefile": _ALL,
    "proxyjump": frozenset("%hnpr"),
    "proxycommand": frozenset("%hnpr"),
    "hostkeyalias": frozenset(),
    "addressfamily": frozenset(),
    "bindaddress": frozenset(),
    "connecttimeout": frozenset(),
}
_VALUES: Final = {
    "port": re.compile(r"[0-9]{1,5}"),
    "identitiesonly": re.compile(r"yes|no|true|false", re.IGNORECASE),
    "addressfamily": re.compile(r"any|inet|inet6", re.IGNORECASE),
    "connecttimeout": re.compile(r"none|(?:[0-9]+[smhdw]?)+", re.IGNORECASE),
}
# These change who is reached in ways that are not supported; passing them over would be silently wrong.
_REFUSED: Final = {"canonicalizehostname": ("yes", "always"), "proxyusefdpass": ("yes",)}
_WITH_PATTERNS: Final = ("host", "originalhost", "user", "localuser")
_DEEPEST = 16
_LINE = re.compile(r"[ \t]*(?P<keyword>[^\s=#]+)(?:[ \t]*=[ \t]*|[ \t]+|\Z)(?P<rest>.*)")
_WORD = re.compile(r'"(?P<double>(?:\\.|[^"\\])*)"|\'(?P<single>(?:\\.|[^\'\\])*)\'|(?P<plain>[^\s"\']+)|\s+')


@dataclass(frozen=True, slots=True)
class Criterion:
    """One condition of a block; `hosts` is that of a Host line, whose patterns stand apart."""

    kind: str
    patterns: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """A keyword that is read, in lower case, and its value."""

    keyword: str
    value: str


@dataclass(slots=True)
class Block:
    """Settings, and blocks of included files, under conditions that all must hold."""

    criteria: tuple[Criterion, ...] = ()
    items: list[Setting | Block] = field(default_factory=list)


Found: TypeAlias = dict[str, list[str]]


class SshConfig:
    """One file with all it includes. Raises ConfigError for what cannot be understood."""

    def __init__(self, file: str) -> None:
        self._blocks = list(_read(Path(file).expanduser(), 0, None, []))
        self._local_user = getpass.getuser()
        self._final = any(_mentions_final(block) for block in self._blocks)

    def lookup(self, name: str, user: str | None = None) -> Found:
        """The values for a host as ssh would be given it: the first of each, every file.

        `user` is one that is stated elsewhere, and wins. Tokens are not replaced, but in `hostname`.
        """
        found: Found = {} if user is None else {"user": [user]}
        self._apply(self._blocks, found, name, name, final=False)
        host = _host_name(found, name)
        if self._final:
            self._apply(self._blocks, found, host, name, final=True)
        found["hostname"] = [_host_name(found, name).lower()]
        return found

    def _apply(self, blocks: list[Block], found: Found, host: str, original: str, *, final: bool) -> None:
        for block in blocks:
            if all(self._holds(one, found, host, original, final) for one in block.criteria):
                for item in block.items:
                    if isinstance(item, Block):
                        self._apply([item], found, host, original, final=final)
                    else:
                        _take(found, item)

    def _holds(self, one: Criterion, found: Found, host: str, original: str, final: bool) -> bool:
        match one.kind:
            case "hosts":
                return matches(one.patterns, host)
            case "all":
                holds = True
            case "final" | "canonical":
                holds = final
            case "host":
                holds = matches(one.patterns, (_host_name(found, host)).lower(), lower=True)
            case "originalhost":
                holds = matches(one.patterns, original.lower(), lower=True)
            case "user":
                holds = matches(one.patterns, found.get("user", [self._local_user])[0])
            case _:
                holds = matches(one.patterns, self._local_user)
        return holds != one.negated


def matches(patterns: tuple[str, ...], text: str, *, lower: bool = False) -> bool:
    """Whether one of the patterns (`*`, `?`) covers the text; a negated one (`!`) that does excludes it."""
    found = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        expression = re.escape(bare.lower() if lower else bare).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, text, re.DOTALL):
            if bare != pattern:
                return False
            found = True
    return found


def _host_name(found: Found, name: str) -> str:
    """HostName, in which %h is the name that was asked for."""
    if "hostname" not in found:
        return name
    return re.sub(r"%(.)", lambda token: name if token[1] == "h" else "%", found["hostname"][0])


def _take(found: Found, setting: Setting) -> None:
    if setting.keyword in ("identityfile", "certificatefile"):
        files = found.setdefault(setting.keyword, [])
        if setting.value not in files:
            files.append(setting.value)
        return
    if setting.keyword in ("proxyjump", "proxycommand") and found.keys() & {"proxyjump", "proxycommand"}:
        return  # whichever of the two comes first
    found.setdefault(setting.keyword, [setting.value])


def _mentions_final(block: Block) -> bool:
    return any(one.kind == "final" for one in block.criteria) or any(
        isinstance(item, Block) and _mentions_final(item) for item in block.items
    )


# ---------------------------------------------------------------- reading


def _read(path: Path, depth: int, included: Place | None, ignored: list[str]) -> Iterator[Block]:
    """The blocks of a file. `ignored` are the patterns of IgnoreUnknown, which hold from where they stand."""
    if depth > _DEEPEST:
        message = f"Include goes more than {_DEEPEST} files deep"
        raise ConfigError(Problem(message, included, "is it a circle?"))
    try:
        with path.open("rb") as stream:
            _refuse_writable(path, os.fstat(stream.fileno()))
            text = stream.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        message = f"cannot read {visible(str(path))}: {error.strerror}"
        raise ConfigError(Problem(message, included)) from error
    block = Block()
    for number, line in enumerate(text.split("\n"), 1):
        place = Place(visible(str(path)), number)
        found = _LINE.fullmatch(line.rstrip())
        if found is None or found["keyword"].startswith("#"):
            continue
        keyword, rest = found["keyword"].strip('"').lower(), found["rest"]
        if keyword in ("host", "match"):
            yield block
            words = _words(rest, place)
            block = Block(_hosts(words, place) if keyword == "host" else _criteria(words, place))
        elif keyword == "include":
            for file in _included(_words(rest, place)):
                block.items += _read(Path(file), depth + 1, place, ignored)
        elif keyword == "ignoreunknown":
            ignored += next(iter(_words(rest, place)), "").lower().split(",")
        elif keyword not in SSH_KEYWORDS and not matches(tuple(ignored), keyword):
            raise _mistyped(keyword, place)
        else:
            block.items += _setting(keyword, rest, place)
    yield block


def _refuse_writable(path: Path, status: os.stat_result) -> None:
    """Who can write it decides what is run here, and who is reached."""
    if not stat.S_ISREG(status.st_mode):
        return
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        hint = "chmod go-w it, and own it"
        raise ConfigError(Problem("others can write this file", Place(visible(str(path))), hint))


def _words(text: str, place: Place) -> list[str]:
    """Words as OpenSSH splits them: quotes hold them together, `#` at the start of one begins a comment."""
    words: list[str] = []
    joined = False
    position = 0
    while position < len(text):
        found = _WORD.match(text, position)
        if found is None:
            raise ConfigError(Problem("a quote is not closed", place))
        position = found.end()
        piece = next((group for group in found.groups() if group is not None), None)
        if piece is None:
            joined = False
            continue
        if found["plain"] is None:
            piece = re.sub(r"""\\(["'\\])""", r"\1", piece)
        elif piece.startswith("#") and not joined:
            break
        if joined:
            words[-1] += piece
        else:
            words.append(piece)
        joined = True
    return words


def _hosts(words: list[str], place: Place) -> tuple[Criterion, ...]:
    if not words:
        raise ConfigError(Problem("Host without a pattern", place))
    return (Criterion("hosts", tuple(words)),)


def _criteria(words: list[str], place: Place) -> tuple[Criterion, ...]:
    criteria: list[Criterion] = []
    rest = iter(words)
    for word in rest:
        kind, equals, value = word.lower().removeprefix("!"), "", ""
        if "=" in word:
            kind, equals, value = kind.partition("=")[0], "=", word.partition("=")[2]
        negated = word.startswith("!")
        if kind in ("all", "final", "canonical") and not equals:
            criteria.append(Criterion(kind, negated=negated))
        elif kind in _WITH_PATTERNS:
            patterns = value if equals else next(rest, "")
            if not patterns:
                raise ConfigError(Problem(f"Match {kind} needs a pattern", place))
            criteria.append(Criterion(kind, tuple(patterns.split(",")), negated))
        else:
            why = "is not run here" if kind == "exec" else "is not known"
            known = ", ".join((*_WITH_PATTERNS, "all", "final", "canonical"))
            hint = f"known: {known}; or another file by --ssh-config FILE|none"
            raise ConfigError(Problem(f"Match {visible(kind)} {why}", place, hint))
    others = [one.kind for one in criteria if one.kind not in ("final", "canonical")]
    if not criteria or ("all" in others and others != ["all"]):
        raise ConfigError(Problem("Match needs criteria, and 'all' stands alone", place))
    return tuple(criteria)


def _included(words: list[str]) -> Iterator[str]:
    for word in words:
        path = Path(word).expanduser()
        pattern = path if path.is_absolute() else Path("~/.ssh", word).expanduser()
        yield from sorted(str(file) for file in Path("/").glob(str(pattern.relative_to("/"))))


def _mistyped(keyword: str, place: Place) -> ConfigError:
    """As with ssh: what was meant may have been who is reached, and by which way."""
    near = difflib.get_close_matches(keyword, sorted(SSH_KEYWORDS | {"host", "match", "include"}), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    hint += "IgnoreUnknown passes over what another ssh knows"
    return ConfigError(Problem(f"no keyword is called '{visible(keyword)}'", place, hint))


def _setting(keyword: str, rest: str, place: Place) -> Iterator[Setting]:
    value = rest if keyword == "proxycommand" else next(iter(_words(rest, place)), "")
    if value.lower() in _REFUSED.get(keyword, ()):
        hint = "give another file by --ssh-config FILE|none"
        raise ConfigError(Problem(f"{keyword} {value} is not supported", place, hint))
    if keyword not in KEYWORDS:
        return
    wanted = _VALUES.get(keyword)
    if not value or (wanted is not None and not wanted.fullmatch(value)):
        raise ConfigError(Problem(f"{keyword} cannot be '{visible(value)}'", place))
    if keyword == "port" and not 1 <= int(value) <= 65535:
        raise ConfigError(Problem(f"{value} is not a port", place, "1 to 65535"))
    for token in re.findall(r"%(.?)", value):
        if KEYWORDS[keyword] and token not in KEYWORDS[keyword]:
            known = " ".join(f"%{one}" for one in sorted(KEYWORDS[keyword]))
            raise ConfigError(Problem(f"{keyword} has no token %{visible(token)}", place, f"known: {known}"))
    yield Setting(keyword, value)
