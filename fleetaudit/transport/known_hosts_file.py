"""known_hosts files as text: their lines, the names these are for, and new ones.

Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Where OpenSSH passes over a line that it cannot read, this
is a mistake of the user: the line was meant to trust a host, or to refuse one.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible

REVOKED: Final = "@revoked"
AUTHORITY: Final = "@cert-authority"
_HASHED: Final = "|1|"
_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key in SSH's own encoding; `kind` is its type name, such as ssh-ed25519."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` shows: SHA256 and unpadded base64."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: `names` are a hash, or patterns in which `*`, `?` and `!` mean what they do in ssh."""

    place: Place
    marker: str
    names: str
    key: HostKey

    @property
    def hashed(self) -> bool:
        """Whether the name is written as a hash."""
        return self.names.startswith(_HASHED)

    def covers(self, name: str) -> bool:
        """Whether the line is about this name, which is in lower case."""
        if self.hashed:
            salt, digest = hash_parts(self.names)
            return hmac.digest(salt, name.encode(), "sha1") == digest
        return matches(self.names, name)


def read(file: str) -> tuple[Entry, ...]:
    """The lines of a file, none if there is no such file. Raises ConfigError with every bad line."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(Problem(f"cannot read known hosts: {error.strerror}", Place(file))) from error
    entries: list[Entry] = []
    problems: list[Problem] = []
    for place, fields in _lines(file, text):
        try:
            entries.append(_entry(place, fields))
        except ValueError as error:
            hint = "[marker] names, key type and key in base64; correct or remove the line"
            problems.append(Problem(f"cannot read this line of known hosts: {error}", place, hint))
    if len(problems) > _MOST_PROBLEMS:
        more = f"{len(problems) - _MOST_PROBLEMS} more lines cannot be read"
        problems[_MOST_PROBLEMS:] = [Problem(more, Place(file), "is this a known_hosts file?")]
    if problems:
        raise ConfigError(problems)
    return tuple(entries)


def write_line(name: str, key: HostKey, *, hashed: bool) -> str:
    """A line for one name; hashed as `ssh-keygen -H` does, so that the file does not tell whom we know."""
    if hashed:
        salt = os.urandom(20)
        digest = hmac.digest(salt, name.encode(), "sha1")
        name = f"{_HASHED}{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    return f"{name} {key.kind} {base64.b64encode(key.blob).decode()}\n"


def append(path: Path, line: str) -> None:
    """Add one line in one write, under the lock that another fleetaudit would take. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (("\n" if torn else "") + line).encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def matches(patterns: str, name: str) -> bool:
    """Whether a comma-separated pattern list covers the name; one negated match excludes it."""
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        expression = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name, re.DOTALL):
            if negated:
                return False
            found = True
    return found


def _lines(file: str, text: str) -> Iterator[tuple[Place, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        fields = re.split(r"[ \t]+", line.strip(" \t\r"), maxsplit=4)
        if fields[0] and not fields[0].startswith("#"):
            yield Place(file, number), fields


def _entry(place: Place, fields: list[str]) -> Entry:
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker not in ("", REVOKED, AUTHORITY):
        raise ValueError(f"there is no marker {visible(marker)}")
    if len(fields) < 3:
        raise ValueError("something is missing")
    names, kind, encoded = fields[:3]
    if kind.isdecimal():
        raise ValueError("it is of SSH version 1")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError("the key is not base64") from None
    length = int.from_bytes(blob[:4], "big")
    if len(blob) < 4 or blob[4 : 4 + length] != kind.encode(errors="surrogateescape"):
        raise ValueError("the key is not of the type that stands before it")
    if names.startswith("|"):
        hash_parts(names)
    return Entry(place, marker, names, HostKey(kind, blob))


def hash_parts(names: str) -> tuple[bytes, bytes]:
    """Salt and HMAC of a hashed name. Raises ValueError for one that `ssh-keygen -H` would not write."""
    try:
        empty, version, salt, digest = names.split("|")
        parts = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except ValueError:
        raise ValueError("the name is not hashed as ssh-keygen -H does") from None
    if empty or version != "1" or len(parts[1]) != 20:
        raise ValueError("the name is not hashed as ssh-keygen -H does")
    return parts
