"""Writing reports: to files that appear whole or not at all, and to standard output."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.model import Report
from fleetaudit.report import RENDERERS, Part, RenderOptions, drive, formats, parts
from fleetaudit.report.base import Past
from fleetaudit.text import visible


@dataclass(frozen=True, slots=True)
class Output:
    """One `-o FORMAT=PATH`; path `-` is standard output."""

    format: str
    path: str


def parse_outputs(
    values: Sequence[str], *, quiet: bool, reserved: Sequence[str | None] = ()
) -> tuple[Output, ...]:
    """The outputs asked for, plus the text report on standard output unless that is taken or `quiet`.

    Raises ConfigError for an unknown format, two outputs of one path, and a directory that cannot be
    written: before anything runs. `reserved` are paths that something else is written to.
    """
    outputs: list[Output] = []
    taken = require_free(reserved)
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path or name not in formats():
            hint = f"write FORMAT=PATH with a format of {', '.join(formats())}, such as json=report.json"
            raise ConfigError(Problem(f"-o {visible(value)} is not an output", hint=hint))
        for file in _files(name, path):
            _take(file, taken)
        if path != "-":
            require_writable(Path(path))
        parts(name, RenderOptions())  # a format whose extra is not installed is refused now
        outputs.append(Output(name, path))
    if not quiet and all(output.path != "-" for output in outputs):
        outputs.append(Output("text", "-"))
    if sys.stdout is None and any(output.path == "-" for output in outputs):
        raise ConfigError(Problem("standard output is closed", hint="pass -q, or -o FORMAT=PATH"))
    return tuple(outputs)


def require_free(paths: Sequence[str | None]) -> set[Path]:
    """The files that these paths (None and `-` are none) stand for: each writable, no two the same.

    Raises ConfigError.
    """
    taken: set[Path] = set()
    for path in paths:
        if path and path != "-":
            require_writable(Path(path))
            _take(Path(path).resolve(), taken)
    return taken


def _take(file: Path, taken: set[Path]) -> None:
    if file in taken:
        raise ConfigError(Problem(f"two outputs go to {visible(str(file))}", hint="give each its own path"))
    taken.add(file)


def _files(name: str, path: str) -> tuple[Path, ...]:
    """Every file that an output of this format writes, sidecars too."""
    if path == "-":
        return (Path("-"),)
    suffixes = ("", *RENDERERS[name].sidecars)
    return tuple(Path(path + suffix).resolve() for suffix in suffixes)


def require_writable(path: Path) -> None:
    """Refuse a path that no file can be written to. Raises ConfigError."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(Problem(f"{visible(str(path))} is a directory", hint="name a file"))
    if not folder.is_dir():
        raise ConfigError(Problem(f"{visible(str(folder))} is no directory", hint="create it first"))
    special = _is_special(path)
    if not os.access(path if special else folder, os.W_OK):
        raise ConfigError(Problem(f"{visible(str(path if special else folder))} cannot be written"))


def streams(output: Output) -> bool:
    """Whether what is written to the output is seen at once, and cannot be taken back."""
    return output.path == "-" or _is_special(Path(output.path))


def _is_special(path: Path) -> bool:
    """A device or a pipe: written to, not replaced, and no place for a sidecar."""
    return path.exists() and not path.is_file()


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of a report that is whole and on disk."""

    format: str
    path: str
    sha256: str
    size: int
    include_pass: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the outputs."""

    failures: tuple[ReportError, ...]
    files: tuple[WrittenFile, ...]


def write(
    report: Report, outputs: Sequence[Output], *, include_pass: bool, past: Past | None = None
) -> Written:
    """Render and write every output in one pass; a file that fails does not stop the others.

    `past` is for formats that say what changed. A file appears under its name only when it is whole and on
    disk.
    """
    options = RenderOptions(include_pass=include_pass, width=width(), colour=colour(), past=past)
    planned = [
        (output, part)
        for output in outputs
        for part in parts(output.format, options)[: 1 if streams(output) else None]
    ]
    failures: list[ReportError] = []
    written: list[WrittenFile] = []
    with ExitStack() as stack:
        files = [_target(output, part, stack) for output, part in planned]
        _pump(report, [part for _, part in planned], files, failures)
        broken = {file.output for file in files if file.broken}
        for file in files:
            if file.output in broken:
                continue  # a sidecar never stands without its report
            try:
                file.finish()
            except BrokenPipeError:
                _forget_standard_output()
            except OSError as error:
                failures.append(_failure(file.path, error))
            else:
                written += file.written(include_pass=include_pass)
    return Written(tuple(failures), tuple(written))


def _pump(
    report: Report, renderers: Sequence[Part], files: Sequence[_Target], failures: list[ReportError]
) -> None:
    for place, chunk in drive(report, [part.renderer for part in renderers]):
        file = files[place]
        if isinstance(chunk, ReportError):
            failures.append(ReportError(f"{visible(file.path)}: {chunk}"))
            file.abandon()
            continue
        try:
            file.write(chunk)
        except BrokenPipeError:
            file.abandon()  # the reader of standard output has seen enough; the files are still written
            _forget_standard_output()
        except OSError as error:
            failures.append(_failure(file.path, error))
            file.abandon()


def _forget_standard_output() -> None:
    """Python flushes standard output once more at exit, and would complain about the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(path: str, error: Exception) -> ReportError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ReportError(f"{visible(path)}: {reason}")


class _Target:
    """Where one part of an output goes: a whole file, or standard output."""

    def __init__(self, output: Output, path: str, file: WholeFile | None) -> None:
        self.output = output
        self.path = path
        self.broken = False
        self._file = file
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        if not self.broken:
            (self._file or sys.stdout.buffer).write(chunk)
            self._digest.update(chunk)
            self._size += len(chunk)

    def written(self, *, include_pass: bool) -> list[WrittenFile]:
        """The file, if it is one that stays."""
        if self._file is None or streams(Output(self.output.format, self.path)):
            return []
        digest = self._digest.hexdigest()
        return [WrittenFile(self.output.format, self.path, digest, self._size, include_pass)]

    def abandon(self) -> None:
        """Give this file up; what is at its path stays as it was."""
        self.broken = True

    def finish(self) -> None:
        """Put the file in its place, whole."""
        if self._file:
            self._file.finish()
        else:
            sys.stdout.buffer.flush()


def _target(output: Output, part: Part, stack: ExitStack) -> _Target:
    if output.path == "-":
        return _Target(output, "standard output", None)
    path = output.path + part.suffix
    try:
        file = WholeFile(path)
    except OSError as error:
        raise _failure(path, error) from error
    stack.callback(file.discard)
    return _Target(output, path, file)


def width() -> int:
    """Columns of the terminal on standard output, within reason; 80 without one."""
    return max(80, min(shutil.get_terminal_size((80, 24)).columns, 160)) if _terminal() else 80


def colour() -> bool:
    """Whether standard output is a terminal that wants colour."""
    return _terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
