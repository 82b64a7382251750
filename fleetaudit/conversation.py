"""A conversation with one command: what it is told and what it answered. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Stream(Enum):
    """Which of the command's outputs a chunk came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Say:
    """Bytes to write on the command's stdin now; `eof` closes it afterwards."""

    data: bytes = b""
    eof: bool = False


class Conversation(Protocol):
    """Decides what goes to the command's stdin, from what it has said so far. Pure: no I/O of its own.

    Any method may raise a `HostError`; the transport then hangs up and lets it through.
    """

    def start(self) -> Say:
        """What to send at once, before the command has said anything."""

    def heard(self, stream: Stream, data: bytes) -> Say:
        """What to send after this chunk of output. Also bounds how much output is taken."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How the command ended. `exit_status` is -1 when the link was lost before it was known."""

    exit_status: int
    stdout: bytes
    stderr: bytes
