"""The error tree. Foreign exceptions are mapped to it at one border per library.

FleetauditError
├── ConfigError             something the user wrote is wrong: exit code 2, nothing run
│   ├── InventoryError
│   ├── PolicyError
│   └── SnapshotError       a saved snapshot file that cannot be judged
├── HostError               one host's failure: a value in the report, never the end of the run
│   ├── ConnectError        unreachable
│   ├── AuthError           auth_failed
│   ├── HostKeyError        host_key_failed
│   ├── BecomeError         become_failed
│   ├── InterpreterError    no_interpreter
│   ├── DeadlineError       timeout
│   └── OutputError         bad_output
├── ReportError             a report could not be written
└── StoreError              the history could not be read or written
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something was written: a file and, where known, a 1-based line and column (0: unknown)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers])


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the user's input: where, what is wrong, and what to write instead.

    `code` names the lint rule that found it; what is plainly wrong has none.
    """

    message: str
    place: Place | None = None
    hint: str = ""
    code: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        where += f"{self.code}: " if self.code else ""
        remedy = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{remedy}"


class FleetauditError(Exception):
    """Base of every error fleetaudit raises on purpose."""


class ConfigError(FleetauditError):
    """The user's input is wrong; `problems` holds every mistake found, in reading order."""

    def __init__(self, problems: Iterable[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InventoryError(ConfigError):
    """An inventory, or a host pattern over it, is wrong."""


class PolicyError(ConfigError):
    """A policy is wrong."""


class SnapshotError(ConfigError):
    """A saved snapshot file cannot be read."""


class HostError(FleetauditError):
    """One host could not be audited; `status` is its HostStatus value in the report."""

    status: ClassVar[str] = "error"


class ConnectError(HostError):
    """No connection, or the connection was lost."""

    status = "unreachable"


class AuthError(HostError):
    """The host refused every key and password."""

    status = "auth_failed"


class HostKeyError(HostError):
    """The host's key is unknown or differs from the recorded one."""

    status = "host_key_failed"


class BecomeError(HostError):
    """sudo, doas or su refused."""

    status = "become_failed"


class InterpreterError(HostError):
    """The host has no Python that can run the agent."""

    status = "no_interpreter"


class DeadlineError(HostError):
    """The host did not finish within its deadline."""

    status = "timeout"


class OutputError(HostError):
    """What the host sent is not one whole, valid snapshot."""

    status = "bad_output"


class ReportError(FleetauditError):
    """A report could not be written."""


class NoticeError(FleetauditError):
    """A notice could not be sent."""


class StoreError(FleetauditError):
    """The history could not be read or written."""
