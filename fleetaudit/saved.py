"""Saved snapshot files (JSON Lines): indexed once, read in host order, never held in memory whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import BinaryIO

from fleetaudit.errors import OutputError, Place, Problem, ReportError, SnapshotError
from fleetaudit.model import HostContext, HostStatus, Outcome
from fleetaudit.snapshot import decode_line, outline

_MAX_LINE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    context: HostContext
    status: HostStatus
    told_time: str | None
    place: Place
    source: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcomes in one or more open snapshot files, one per host, by name: read when asked for."""

    files: tuple[BinaryIO, ...]
    entries: tuple[_Entry, ...]

    @property
    def targets(self) -> tuple[tuple[str, HostContext], ...]:
        """The hosts with what their lines say of the inventory, sorted by name."""
        return tuple((entry.host, entry.context) for entry in self.entries)

    @property
    def complete(self) -> bool:
        """Whether every host was asked: the run was not cut short."""
        return all(entry.status is not HostStatus.NOT_ATTEMPTED for entry in self.entries)

    def __iter__(self) -> Iterator[Outcome]:
        """Each outcome, from the files. Raises ReportError when they are not what was indexed any more."""
        for entry in self.entries:
            file = self.files[entry.source]
            file.seek(entry.offset)
            try:
                outcome = decode_line(file.read(entry.length))
            except OutputError as error:
                raise _changed(entry) from error
            if (outcome.host, outcome.status) != (entry.host, entry.status):
                raise _changed(entry)
            yield outcome


def index(files: Sequence[tuple[str, BinaryIO]], *, latest: bool = False) -> Saved:
    """Index seekable files of snapshot lines, validating each line.

    Raises SnapshotError naming file and line for everything that cannot be read, and for two lines of one
    host unless `latest` picks the one collected last.
    """
    problems: list[Problem] = []
    chosen: dict[str, _Entry] = {}
    for source, (name, file) in enumerate(files):
        for entry in _entries(name, file, source, problems):
            other = chosen.get(entry.host)
            if other is None or (latest and _age_key(entry) >= _age_key(other)):
                chosen[entry.host] = entry
            elif not latest:
                message = f"host '{entry.host}' is already at {other.place}"
                problems.append(Problem(message, entry.place, "keep one, or pass --latest"))
    if not chosen and not problems:
        names = ", ".join(name for name, _ in files)
        problems.append(
            Problem(f"{names}: no snapshot in it", hint="write one with: fleetaudit collect --output FILE")
        )
    if problems:
        raise SnapshotError(problems)
    return Saved(tuple(file for _, file in files), tuple(chosen[host] for host in sorted(chosen)))


def _entries(name: str, file: BinaryIO, source: int, problems: list[Problem]) -> Iterator[_Entry]:
    offset = number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        place = Place(name, number)
        if line.strip():
            try:
                outcome, collected_at = outline(line)
            except OutputError as error:
                problems.append(Problem(str(error), place))
            else:
                # The controller's time where it is known: the host's is the host's word.
                told = outcome.received_at or collected_at
                yield _Entry(
                    outcome.host, outcome.context, outcome.status, told, place, source, offset, len(line)
                )
        offset += len(line)


def when(text: str | None) -> datetime | None:
    """An RFC 3339 time (UTC unless it says otherwise), None for what is none."""
    try:
        time = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _changed(entry: _Entry) -> ReportError:
    return ReportError(f"{entry.place}: the file was changed by someone else while it was in use")


def _age_key(entry: _Entry) -> float:
    time = when(entry.told_time)
    return time.timestamp() if time else 0.0
