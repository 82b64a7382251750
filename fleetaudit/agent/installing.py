"""Putting the pinned agent in its place on this machine: nobody but root may have had a hand in it."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from fleetaudit.errors import ConfigError, Place, Problem

_MODE = 0o755


def install(content: bytes, path: str) -> None:
    """Write the executable, whole or not at all, making the folders that are missing.

    Raises ConfigError where the file there now, or any folder above it, is not root's alone: who may write to
    one of them decides what root runs. Raises OSError.
    """
    target = Path(path)
    for folder in reversed(target.parents):
        if not os.path.lexists(folder):
            folder.mkdir()
            folder.chmod(_MODE)  # whatever the umask says
        _check(folder, stat.S_IFDIR, "no folder")
    if os.path.lexists(target):
        _check(target, stat.S_IFREG, "no regular file")
    _write(content, target)


def _check(path: Path, kind: int, otherwise: str) -> None:
    found = path.lstat()
    if stat.S_IFMT(found.st_mode) != kind:
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else otherwise
        raise _refused(path, f"is {what}", "name a path without links")
    if found.st_uid != 0:
        raise _refused(path, f"belongs to uid {found.st_uid}", "chown it to root, or install elsewhere")
    # With an access control list the group's bits are the most that it gives anybody: acl(5).
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(path, "can be written to by others", "chmod go-w, or install elsewhere")


def _refused(path: Path, what: str, hint: str) -> ConfigError:
    return ConfigError(
        Problem(f"it {what}: not root alone would decide what root runs", Place(str(path)), hint)
    )


def _write(content: bytes, target: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(file.fileno(), 0, 0)
            os.fchmod(file.fileno(), _MODE)
            os.fsync(file.fileno())
        Path(name).replace(target)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
