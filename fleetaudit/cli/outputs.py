"""Writing reports: to files that appear whole or not at all, and to standard output."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.model import Report
from fleetaudit.report import Part, RenderOptions, drive, formats, parts
from fleetaudit.text import visible


@dataclass(frozen=True, slots=True)
class Output:
    """One `-o FORMAT=PATH`; path `-` is standard output."""

    format: str
    path: str


def parse_outputs(values: Sequence[str], *, quiet: bool) -> tuple[Output, ...]:
    """The outputs asked for, plus the text report on standard output unless that is taken or `quiet`.

    Raises ConfigError for an unknown format, two outputs of one path, and a directory that cannot be
    written: before anything runs.
    """
    outputs: list[Output] = []
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path or name not in formats():
            hint = f"write FORMAT=PATH with a format of {', '.join(formats())}, such as json=report.json"
            raise ConfigError(Problem(f"-o {visible(value)} is not an output", hint=hint))
        if any(Path(path) == Path(other.path) for other in outputs):
            raise ConfigError(Problem(f"two outputs go to {visible(path)}", hint="give each its own path"))
        if path != "-":
            require_writable(Path(path))
        outputs.append(Output(name, path))
    if not quiet and all(output.path != "-" for output in outputs):
        outputs.append(Output("text", "-"))
    return tuple(outputs)


def require_writable(path: Path) -> None:
    """Refuse a path that no file can be written to. Raises ConfigError."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(Problem(f"{visible(str(path))} is a directory", hint="name a file"))
    if not folder.is_dir():
        raise ConfigError(Problem(f"{visible(str(folder))} is no directory", hint="create it first"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(Problem(f"{visible(str(folder))} cannot be written"))


def write(report: Report, outputs: Sequence[Output], *, include_pass: bool) -> tuple[ReportError, ...]:
    """Render and write every output in one pass; a file that fails does not stop the others.

    Returns what could not be written. A file appears under its name only when it is whole and on disk.
    """
    options = RenderOptions(include_pass=include_pass, width=_width(), colour=_colour())
    planned = [
        (output, part)
        for output in outputs
        for part in parts(output.format, options)[: 1 if output.path == "-" else None]
    ]
    failures: list[ReportError] = []
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
    return tuple(failures)


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
    """One file being written under another name beside its own."""

    def __init__(self, output: Output, path: str, stream: BinaryIO, temporary: Path | None) -> None:
        self.output = output
        self.path = path
        self.broken = False
        self._stream = stream
        self._temporary = temporary

    def write(self, chunk: bytes) -> None:
        if not self.broken:
            self._stream.write(chunk)

    def abandon(self) -> None:
        """Give this file up; what is at its path stays as it was."""
        self.broken = True

    def finish(self) -> None:
        """Put the file in its place, whole."""
        self._stream.flush()
        if self._temporary is not None:
            os.fsync(self._stream.fileno())
            self._temporary.chmod(0o666 & ~_umask())
            self._temporary.replace(self.path)

    def discard(self) -> None:
        """Leave no temporary file behind, whatever happened."""
        if self._temporary is not None:
            with suppress(OSError):
                self._stream.close()
            self._temporary.unlink(missing_ok=True)


def _target(output: Output, part: Part, stack: ExitStack) -> _Target:
    if output.path == "-":
        return _Target(output, "standard output", sys.stdout.buffer, None)
    path = Path(output.path + part.suffix)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _failure(str(path), error) from error
    target = _Target(output, str(path), os.fdopen(descriptor, "wb"), Path(name))
    stack.callback(target.discard)
    return target


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _width() -> int:
    return max(80, min(shutil.get_terminal_size((80, 24)).columns, 160)) if sys.stdout.isatty() else 80


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """A message for the person who runs this, on standard error."""
    click.echo(text, err=True)
