"""Entries of owner lists that say more, or less, than their author meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleetaudit.errors import Problem
from fleetaudit.policy.lint.base import TRUSTING, Entry, Leaf, Subject, entries, leaves, matchers
from fleetaudit.policy.lint.containment import entry_covers

_CLAIMS = frozenset({"comm", "argv", "user_unit"})
# Fields that many programs share: they say who, or how, but not what runs.
_SHARED = frozenset({"user", "uid", "group", "shell", "self", "exe_deleted", "inherited", "pid"})
_EVERYTHING = frozenset({"*", "**", "/*", "~.", "~.*", "~.+", "~^", "~^/", "~^.*$", "~^.+$"})
WRITABLE = ("/tmp/", "/var/tmp/", "/dev/shm/", "/home/", "/run/user/")  # noqa: S108  (named, not used)
SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox"})


def claim_only(subject: Subject) -> Iterator[Problem]:
    """`comm`, `argv` and `user_unit` are what a process says of itself: alone they approve anybody."""
    for entry in _trusting(subject):
        if entry.fields.keys() <= _CLAIMS:
            words = " and ".join(sorted(entry.fields))
            yield subject.problem(
                "claim-only",
                f"{words}: the process's own words, which prove nothing",
                entry.path,
                "add exe, unit or user to the entry",
            )


def wide_allow(subject: Subject) -> Iterator[Problem]:
    """An allow or require entry that does not say which program, such as `{user: root}`."""
    for entry in _trusting(subject):
        if entry.fields.keys() <= _CLAIMS or "kernel" in entry.fields:
            continue
        telling = [name for name, value in entry.fields.items() if name not in _SHARED and not _open(value)]
        if not telling:
            said = ", ".join(sorted(entry.fields))
            yield subject.problem(
                "wide-allow",
                f"the entry ({said}) does not say which program: whatever such a user runs may own it",
                entry.path,
                "name the program by exe, or its unit or container",
            )


def _open(value: object) -> bool:
    """Whether a value matches nearly everything."""
    if isinstance(value, Mapping):
        return True
    if isinstance(value, list | tuple):
        return any(map(_open, value))
    return value in _EVERYTHING


def any_directory(subject: Subject) -> Iterator[Problem]:
    """An allow or require entry whose path begins with a wildcard: /tmp/nginx matches `*/nginx` too."""
    for entry in _trusting(subject):
        for leaf in leaves((*entry.path, "exe"), entry.fields.get("exe")):
            text = leaf.value
            if leaf.is_text and not leaf.negated and str(text).startswith("*") and text not in _EVERYTHING:
                yield subject.problem(
                    "any-directory",
                    f"'{text}' allows a program of that name in any directory, /tmp included",
                    leaf.path,
                    "begin with the directory: /usr/sbin/nginx, /opt/*/bin/app",
                )


def writable_path(subject: Subject) -> Iterator[Problem]:
    """An allow or require entry for a program where any user can put one."""
    for entry in _trusting(subject):
        for leaf in leaves((*entry.path, "exe"), entry.fields.get("exe")):
            text = str(leaf.value).removeprefix("~").removeprefix("^")
            found = next((folder for folder in WRITABLE if text.startswith(folder)), None)
            if leaf.is_text and not leaf.negated and found:
                yield subject.problem(
                    "writable-path",
                    f"users can write below {found}: whoever can replace '{leaf.value}' is approved",
                    leaf.path,
                    "install the program where only root writes",
                )


def allows_shell(subject: Subject) -> Iterator[Problem]:
    """A shell that may own a listener, without a reason beside it."""
    for entry in _trusting(subject):
        if entry.assertion != "allow_owners" or entry.notes.get("reason"):
            continue
        shells = [leaf for leaf in leaves((*entry.path, "exe"), entry.fields.get("exe")) if _is_shell(leaf)]
        if shells or entry.fields.get("shell") is True:
            path = shells[0].path if shells else (*entry.path, "shell")
            yield subject.problem(
                "allows-shell",
                "a shell may own this listener, which is how a leaked socket looks",
                path,
                "remove the entry, or say why with reason",
            )


def _is_shell(leaf: Leaf) -> bool:
    return leaf.is_text and not leaf.negated and str(leaf.value).rsplit("/", 1)[-1] in SHELLS


def pid_changes(subject: Subject) -> Iterator[Problem]:
    """A process id other than 1 in an entry: it is another one after the next restart."""
    for rule in subject.rules:
        for entry in matchers(rule):
            for leaf in leaves((*entry.path, "pid"), entry.fields.get("pid")):
                if isinstance(leaf.value, int | str) and str(leaf.value).isdigit() and int(leaf.value) > 1:
                    yield subject.problem(
                        "pid-changes",
                        f"process {leaf.value} has another number after its next start",
                        leaf.path,
                        "name the program by exe, unit or user",
                    )


def negated_ancestor(subject: Subject) -> Iterator[Problem]:
    """`not` inside `ancestor`: some ancestor nearly always differs."""
    for rule in subject.rules:
        for entry in matchers(rule):
            if entry.assertion != "ancestor":
                continue
            for field, value in entry.fields.items():
                if any(leaf.negated for leaf in leaves((), value)):
                    yield subject.problem(
                        "negated-ancestor",
                        "`not` inside `ancestor`: that some ancestor differs is nearly always true",
                        (*entry.path, field),
                        f"write no_ancestor: {{{field}: …}} to say that none matches",
                    )


def covered_entry(subject: Subject) -> Iterator[Problem]:
    """An entry that equals another one of its list, or that another one covers: it decides nothing."""
    for rule in subject.rules:
        for name in (*TRUSTING, "deny_owners"):
            listed = list(entries(rule, name))
            for place, entry in enumerate(listed):
                # Each require entry must hold by itself: only the same one twice is idle there.
                other = next((item for item in listed if _makes_idle(item, entry, listed, name)), None)
                if other is not None:
                    equal = other.fields == entry.fields
                    where = subject.document.place(other.path)
                    yield subject.problem(
                        "covered-entry",
                        f"entry {place + 1} of {name} {'repeats' if equal else 'is covered by'} "
                        f"the one at line {where.line}",
                        entry.path,
                        "remove one of the two",
                    )


def _makes_idle(other: Entry, entry: Entry, listed: list[Entry], name: str) -> bool:
    if other is entry:
        return False
    if other.fields == entry.fields:
        return listed.index(other) < listed.index(entry)
    return name != "require_owners" and entry_covers(other.fields, entry.fields)


def _trusting(subject: Subject) -> Iterator[Entry]:
    for rule in subject.rules:
        yield from entries(rule, *TRUSTING)
