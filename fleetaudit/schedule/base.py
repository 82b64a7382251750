"""What every scheduler is told, and the files that come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Job:
    """An audit to be run again and again.

    `command` is run in `directory` as `user` (None: whoever installs it); `when` is the scheduler's own
    expression, None for its default. `state` is where runs live while they last, None for a directory
    that the scheduler makes; `writes` are the other directories that the audit writes into. All paths are
    absolute. `image` is the container to run it in, for schedulers that need one.
    """

    name: str
    command: tuple[str, ...]
    directory: str
    user: str | None = None
    when: str | None = None
    state: str | None = None
    writes: tuple[str, ...] = ()
    image: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleFile:
    """A file to install: where it belongs, and what is in it."""

    path: str
    text: str


class Scheduler(Protocol):
    """One way to run a job again and again."""

    def files(self, job: Job) -> tuple[ScheduleFile, ...]:
        """What to install. Raises ConfigError for a job that this scheduler cannot run as it is written."""
        ...
