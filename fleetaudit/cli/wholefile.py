"""Files that appear under their name whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible


class WholeFile:
    """A file being written beside its own path, under another name. Every method may raise OSError.

    A path that is there and is no regular file (a device, a pipe) is written to directly: putting a file in
    its place would destroy it. A symbolic link is followed.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve()
        self._temporary: Path | None = None
        if self._path.exists() and not self._path.is_file():
            self._stream = self._path.open("wb")
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        self._temporary = Path(name)
        self._stream = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Add to the file."""
        self._stream.write(data)

    def finish(self) -> None:
        """Put it in its place, with the permissions that the umask gives a new file."""
        self._stream.flush()
        if self._temporary is None:
            return
        os.fsync(self._stream.fileno())
        self._temporary.chmod(0o666 & ~_umask())
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """Close, and leave nothing that was not finished; may follow `finish`."""
        with suppress(OSError):
            self._stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def write_whole(path: str, data: bytes) -> None:
    """Have the file hold this and nothing else. Raises ConfigError, naming it, and leaves what was there."""
    try:
        file = WholeFile(path)
        try:
            file.write(data)
            file.finish()
        finally:
            file.discard()
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
