"""Values that can never match, or that match what nobody meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fleetaudit.errors import Problem
from fleetaudit.policy.lint.base import TRUSTING, Entry, Leaf, Subject, entries, leaves, matchers, selector
from fleetaudit.policy.model import Rule
from fleetaudit.policy.values import Path

_COMM_LENGTH = 15  # TASK_COMM_LEN less its end: linux/sched.h
_PATHS = ("exe", "exe_in_container")
_IDENTITY = (*_PATHS, "unit", "user", "group", "container")
_NO_PATH = re.compile(r"~\^[A-Za-z0-9_]")  # a regex that wants the path to begin with a letter
_PLAIN_REGEX = re.compile(r"~(?:[^\\.^$*+?()\[\]{}|]|\\[./_-]|\.)+\Z")


def never_matches(subject: Subject) -> Iterator[Problem]:
    """A value that no process can have: in a deny entry, that is a rule that always passes."""
    for rule in subject.rules:
        for entry in matchers(rule):
            for field, value in entry.fields.items():
                for leaf in leaves((*entry.path, field), value):
                    found = _impossible(field, leaf)
                    if found:
                        yield subject.problem("never-matches", found[0], leaf.path, found[1])


def _impossible(field: str, leaf: Leaf) -> tuple[str, str] | None:
    if not leaf.is_text:
        return None
    text = str(leaf.value)
    if field in _PATHS:
        return _impossible_path(text, literal=leaf.is_literal)
    if field == "comm" and leaf.is_literal and len(text.encode()) > _COMM_LENGTH:
        cut = text.encode()[:_COMM_LENGTH].decode("utf-8", "ignore")
        return f"'{text}': the kernel keeps {_COMM_LENGTH} bytes of a command's name", f"write {cut}"
    if field in ("unit", "user_unit") and leaf.is_literal and "." not in text:
        return f"'{text}' is no unit's name: those end in their type", f"write {text}.service"
    return None


def _impossible_path(text: str, *, literal: bool) -> tuple[str, str] | None:
    if text.endswith((" (deleted)", r" \(deleted\)", r" \(deleted\)$")):
        return (
            "a deleted executable is stored without ' (deleted)'",
            "write exe_deleted: true beside the path",
        )
    if not text.startswith(("/", "*", "?", "[", "~")) or _NO_PATH.match(text):
        name = text.lstrip("~^")
        return f"'{text}' never equals a path, which begins with /", f"write the whole path, or */{name}"
    if literal and ("//" in text or "/./" in text or "/../" in text or text.endswith("/")):
        return f"'{text}' is not as /proc writes a path", "write it without //, /./, /../ or a / at the end"
    return None


def unanchored(subject: Subject) -> Iterator[Problem]:
    """A regex that finds its words anywhere: `~/usr/sbin/nginx` also matches /tmp/usr/sbin/nginx-evil."""
    for rule in subject.rules:
        for entry in entries(rule, *TRUSTING):
            for field in _IDENTITY:
                for leaf in leaves((*entry.path, field), entry.fields.get(field)):
                    if _is_regex(leaf) and not leaf.negated and not _anchored(str(leaf.value)):
                        yield subject.problem(
                            "unanchored-regex",
                            f"'{leaf.value}' matches wherever it is found inside the {field}",
                            leaf.path,
                            f"write {_suggested(str(leaf.value))}",
                        )


def _is_regex(leaf: Leaf) -> bool:
    return leaf.is_text and str(leaf.value).startswith("~")


def _anchored(text: str) -> bool:
    return text.startswith(("~^", r"~\A")) and text.endswith(("$", r"\z"))


def _suggested(text: str) -> str:
    if _PLAIN_REGEX.match(text):
        plain = text[1:].replace("\\", "")
        return f"{plain} (a literal), or ~^{text[1:]}$"
    return f"~^{text[1:].removeprefix('^').removesuffix('$')}$"


def not_in_list(subject: Subject) -> Iterator[Problem]:
    """`{not: …}` as one of several alternatives: `[a, {not: b}]` is everything but b."""
    for rule in subject.rules:
        for path, value in _values(rule):
            yield from _negations(subject, path, value)


def _values(rule: Rule) -> Iterator[tuple[Path, object]]:
    for entry in matchers(rule):
        yield from _fields(entry)
    for name, value in selector(rule).items():
        if name != "owner":
            yield (*rule.path, "listeners", name), value


def _fields(entry: Entry) -> Iterator[tuple[Path, object]]:
    for name, value in entry.fields.items():
        if name not in ("ancestor", "no_ancestor", "parent"):
            yield (*entry.path, name), value


def _negations(subject: Subject, path: Path, value: object) -> Iterator[Problem]:
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            if isinstance(item, Mapping) and len(value) > 1:
                yield subject.problem(
                    "not-in-list",
                    "a list is any of its values: one that is a `not` lets nearly everything in",
                    (*path, place),
                    "write {not: [a, b]} for neither a nor b",
                )
    elif isinstance(value, Mapping) and isinstance(value.get("not"), Mapping):
        yield subject.problem("not-in-list", "`not` of a `not` is the value itself", path, "write the value")
