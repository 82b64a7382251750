"""A run on disk: JSON Lines in the order hosts answered, read back in host order; and what the run is about.

The index (host -> where its last line is) lives in memory, some hundred bytes a host; the lines do not.
While a run is in use its journal is locked (flock(2)), which ends with the process however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from fleetaudit.errors import ReportError
from fleetaudit.wire import SNAPSHOT_SCHEMA

FILE = "journal.jsonl"
RECORD = "run.json"
RECORD_SCHEMA = "fleetaudit.run/1"
# Lines between two fsyncs: what a power failure may cost.
_BATCH = 64


class _Host(msgspec.Struct):
    name: str


class _Line(msgspec.Struct):
    host: _Host
    schema: str = ""


class RunRecord(msgspec.Struct, frozen=True):
    """What a run is about, kept beside its lines so that another process can go on with it.

    `targets` maps each host to a digest of what policies may know of it from the inventory.
    """

    id: str
    started_at: str
    version: str
    targets: Mapping[str, str]
    schema: str = RECORD_SCHEMA


class Journal:
    """One run's lines. Not for use by several threads; every failure is a ReportError with path and cause."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = 0
        self._unsynced = 0
        self._index: dict[str, tuple[int, int]] = {}
        self._answered: set[str] = set()

    @classmethod
    def create(cls, directory: Path, run_id: str) -> Journal:
        """Begin a run below `directory`; refuses a run that is there already."""
        path = _path(directory, run_id)
        with _reported(path):
            # mkdir's mode is for the last part only, so private parents are made one by one.
            for part in (*reversed(directory.parents), directory):
                part.mkdir(mode=0o700, exist_ok=True)
            path.parent.mkdir(mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            journal = cls(path, os.open(path, flags, 0o600))
            journal._lock()
            return journal

    @classmethod
    def open(cls, directory: Path, run_id: str, *, load: bool = True) -> Journal:
        """Go on with a run that no other process is using. A last line not written whole is dropped.

        Without `load` it is opened to be removed: what its lines say is not looked at.
        """
        path = _path(directory, run_id)
        with _reported(path):
            journal = cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
            try:
                journal._lock()
                if load:
                    journal._load()
            except BaseException:
                os.close(journal._descriptor)
                raise
            return journal

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts that have a line."""
        return frozenset(self._index)

    @property
    def answered(self) -> frozenset[str]:
        """Hosts whose line is a snapshot."""
        return frozenset(self._answered)

    def write_record(self, record: RunRecord) -> None:
        """Say what the run is about; on the disk, whole, when this returns."""
        path = self._path.with_name(RECORD)
        spare = path.with_suffix(".new")
        with _reported(path):
            descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_whole(descriptor, msgspec.json.encode(record), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            spare.replace(path)
            _sync_directory(path.parent)
            _sync_directory(path.parent.parent)

    def read_record(self) -> RunRecord:
        """What the run is about."""
        path = self._path.with_name(RECORD)
        with _reported(path):
            data = path.read_bytes()
        try:
            record = msgspec.json.decode(data, type=RunRecord)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ReportError(f"{path}: not the record of a run") from error
        if record.schema != RECORD_SCHEMA:
            raise ReportError(
                f"{path}: the run was begun by a version of fleetaudit that wrote another format"
            )
        return record

    def append(self, line: bytes, host: str, *, answered: bool = True) -> None:
        """Add a host's line, without its newline. A later line of the same host replaces the earlier.

        `answered` says that the line is a snapshot.
        """
        if b"\n" in line:
            raise ValueError("a journal line holds no newline")
        with _reported(self._path):
            try:
                _write_whole(self._descriptor, line + b"\n", self._end)
            except OSError:
                os.ftruncate(self._descriptor, self._end)  # leave no half line behind
                raise
            self._note(host, len(line), answered=answered)
            self._end += len(line) + 1
            self._unsynced += 1
            if self._unsynced >= _BATCH:
                self.sync()

    def sync(self) -> None:
        """Put everything on the disk."""
        with _reported(self._path):
            os.fsync(self._descriptor)
        self._unsynced = 0

    def lines_in_host_order(self) -> Iterator[bytes]:
        """Each host's line, without newline, sorted by host name; one in memory at a time."""
        for host in sorted(self._index):
            offset, length = self._index[host]
            with _reported(self._path):
                line = os.pread(self._descriptor, length, offset)
            if len(line) != length:
                raise ReportError(f"{self._path}: cut short by someone else while it was in use")
            yield line

    def close(self) -> None:
        """Put everything on the disk and let go. Calling it twice is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with _reported(self._path):
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def remove(self) -> None:
        """Close, and delete the run from the disk."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with _reported(self._path):
            for name in (RECORD, FILE):  # without its journal, what is left is no run
                self._path.with_name(name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._path.parent.rmdir()

    def _load(self) -> None:
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = msgspec.json.decode(line, type=_Line)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    raise ReportError(f"{self._path}:{number}: not a line of a journal") from error
                answered = entry.schema == SNAPSHOT_SCHEMA
                self._note(entry.host.name, len(line) - 1, answered=answered)
                self._end += len(line)
        os.ftruncate(self._descriptor, self._end)

    def _note(self, host: str, length: int, *, answered: bool) -> None:
        self._index[host] = (self._end, length)
        (self._answered.add if answered else self._answered.discard)(host)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReportError(f"the run is in use by another process: {self._path}") from error
        if os.fstat(self._descriptor).st_nlink == 0:
            raise ReportError(f"the run has ended meanwhile: {self._path}")


def prune(directory: Path, before: float) -> None:
    """Delete the runs below `directory` that nobody has written to since `before` (seconds since 1970).

    One that another process is using stays, and so does what cannot be deleted: it is in nobody's way.
    """
    with contextlib.suppress(OSError):
        for run in [entry.name for entry in os.scandir(directory)]:
            with contextlib.suppress(ReportError, OSError):
                if _path(directory, run).stat().st_mtime < before:
                    Journal.open(directory, run, load=False).remove()


def _path(directory: Path, run_id: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", run_id):
        raise ReportError(f"not a run id: {run_id!r}")
    return directory / run_id / FILE


def _write_whole(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data = data[written:]
        offset += written


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(f"journal of the run {path}: {error.strerror or error}") from error


def _sync_directory(path: Path) -> None:
    """A new name is on the disk only once its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
