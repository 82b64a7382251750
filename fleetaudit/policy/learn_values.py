"""Paths and units of hosts as values of a policy: versions become wildcards, all else means itself."""

from __future__ import annotations

import re
from typing import Final

import re2

from fleetaudit.policy.lint.entries import WRITABLE

_SPECIAL: Final = re.compile(r"[*?\[]|\{\{|\A~")
_LONGEST: Final = 500
_PATH: Final = re.compile(r"(?:/[^/]+)+")
# 15, 1.24.0, 1.8.0_292 as a word of its own: /usr/lib/postgresql/15/bin, java-17-openjdk.
_WORD: Final = re.compile(r"(?<![A-Za-z0-9._])\d+(?:\.\d+)*(?:_\d+)?(?![A-Za-z0-9_])")
# python3.11, jdk1.8.0_292, php8.2-fpm: the first number stays.
_MINOR: Final = re.compile(r"(?<=[A-Za-z-])(\d+)\.\d+(?:\.\d+)*(?:_\d+)?(?![A-Za-z0-9_])")
_UNIT_NUMBER: Final = re.compile(r"(?<=[-@])\d+(?:\.\d+)*(?=[-.])")
_UNIT_ID: Final = re.compile(r"(?<=-)(?:[0-9a-f]{12,}|[ru][0-9a-f]+)(?=\.)")


def unfit_path(path: str) -> str:
    """Why no policy should trust a program at this path; empty when it may."""
    if len(path) > _LONGEST or not _PATH.fullmatch(path) or not _encodable(path):
        return "its path is none that a policy can name"
    if path.endswith(" (deleted)") or any(part in (".", "..") for part in path.split("/")):
        return "its path is none that a policy can name"
    if path.startswith(WRITABLE):
        return "users can write where its program is"
    return ""


def program(path: str) -> str:
    """The value that names the program, in whatever version: /usr/lib/postgresql/*/bin/postgres."""
    if _SPECIAL.search(path):
        return exactly(path)
    _, first, *rest = path.split("/")
    if not rest:
        return path
    *folders, name = rest
    general = [_MINOR.sub(r"\1.*", _WORD.sub("*", folder)) for folder in folders]
    return "/".join(["", first, *general, _MINOR.sub(r"\1.*", name)])


def unit(name: str) -> str:
    """The value that names the unit, whichever instance it is; empty for what is no unit's name."""
    if "." not in name or len(name) > _LONGEST or not _encodable(name):
        return ""
    if _SPECIAL.search(name):
        return exactly(name)
    if name.startswith("user@"):
        return name  # the number says whose
    return _UNIT_ID.sub("*", _UNIT_NUMBER.sub("*", name))


def account(name: str) -> str:
    """The value that names the user; empty for what no policy can name."""
    if not name or len(name) > _LONGEST or not _encodable(name):
        return ""
    return exactly(name) if _SPECIAL.search(name) else name


def exactly(text: str) -> str:
    """The value that matches this text alone, whatever characters it has."""
    return f"~^{re2.escape(text)}$" if _SPECIAL.search(text) else text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
