"""Connections that the user keeps open for ssh to share (ControlPath): whether one may be trusted.

ssh takes whatever listens there for its own master and checks neither the owner nor a host key. A fake one
would answer for the host, and be sent the become password.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleetaudit.conversation import Say, Stream
from fleetaudit.errors import OutputError

_UNCHECKED = ("no", "off", "false")
_MOST_SAID = 256 * 1024


class Listening:
    """Says one thing to a program and takes a bounded answer."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._left = _MOST_SAID

    def start(self) -> Say:
        """All there is to say."""
        return Say(self._data, eof=True)

    def heard(self, stream: Stream, data: bytes) -> Say:
        """Nothing more. Raises OutputError when it is too much."""
        self._left -= len(data)
        if self._left < 0:
            raise OutputError(f"ssh says more of its configuration than {_MOST_SAID} bytes on {stream.value}")
        return Say()


def are_configured(files: Iterable[str]) -> bool:
    """Whether any of these ssh_config files, with all that they include, can name a shared connection."""
    for file in files:
        with contextlib.suppress(OSError):
            if b"controlpath" in Path(file).read_bytes().lower():
                return True
    return False


def settings(said: bytes) -> dict[str, str]:
    """What `ssh -G` says, by keyword in lower case."""
    lines = said.decode("utf-8", "replace").splitlines()
    return {keyword: value for keyword, _, value in (line.partition(" ") for line in lines)}


def may_be_shared(found: Mapping[str, str], *, unchecked: bool) -> bool:
    """Whether the user alone can have opened what is there, and had the host key checked, unless `unchecked`.

    `found` is what the user's own configuration says of the host.
    """
    path = found.get("controlpath", "none")
    if path == "none" or (found.get("stricthostkeychecking") in _UNCHECKED and not unchecked):
        return False
    try:
        master, folder = os.lstat(path), Path(path).parent.stat()
    except OSError:
        return False
    own = stat.S_ISSOCK(master.st_mode) and master.st_uid == os.geteuid()
    return own and folder.st_uid in (0, os.geteuid()) and not folder.st_mode & 0o022
