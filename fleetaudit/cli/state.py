"""Where runs live on disk: the state directory, whose turn it is there, and a run begun or gone on with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleetaudit import __version__
from fleetaudit.cli.console import say
from fleetaudit.cli.options import Keeping
from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.collection import Collected, context_digest
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.journal import FILE, Journal, RunRecord, prune
from fleetaudit.judgement import moment, new_run_id, stamp, utc_now
from fleetaudit.model import Host, HostStatus
from fleetaudit.text import visible

_RUNS = "runs"
_LOCK = "lock"
_NAMED = 5  # hosts or runs that a message names


@dataclass(slots=True)
class Recording:
    """A run under way and its journal, which is kept for `--resume` if it is `worth_keeping`."""

    run_id: str
    started: datetime
    targets: tuple[Host, ...]
    journal: Journal
    retry_file: str | None = None
    not_asked: int = 0
    ended_well: bool = False

    @property
    def upcoming(self) -> tuple[Host, ...]:
        """The targets that have not answered yet."""
        answered = self.journal.answered
        return tuple(host for host in self.targets if host.name not in answered)

    def keep(self, collected: Collected) -> None:
        """Put a host's line on record."""
        self.not_asked += collected.status is HostStatus.NOT_ATTEMPTED
        self.journal.append(collected.line, collected.host, answered=collected.status is HostStatus.OK)

    @property
    def worth_keeping(self) -> bool:
        """Whether somebody may want to go on with it."""
        return not self.ended_well and bool(self.journal.hosts)

    def write_retry_file(self) -> bool:
        """Name the targets without a snapshot, one a line, none if all answered. False if that failed."""
        if self.retry_file is None:
            return True
        try:
            file = WholeFile(self.retry_file)
            try:
                for host in self.upcoming:
                    file.write(host.name.encode("utf-8", "surrogateescape") + b"\n")
                file.finish()
            finally:
                file.discard()
        except OSError as error:
            say(f"error: {visible(self.retry_file)}: {error.strerror or error}")
            return False
        return True


@contextlib.contextmanager
def recording(
    targets: tuple[Host, ...], keeping: Keeping, *, exclusive: bool, quiet: bool
) -> Iterator[Recording]:
    """The run on disk: a new one, or the one that `--resume` names. It stays if it is `worth_keeping`.

    `exclusive` runs of one state directory never overlap. Raises ConfigError when another one is under way,
    and when there is nothing to go on with.
    """
    with contextlib.ExitStack() as stack:
        begin = _begin if keeping.resume is None else _go_on
        run = begin(targets, keeping, stack, exclusive=exclusive)
        if not quiet:
            say(f"run {run.run_id}: {len(run.upcoming)} of {len(targets)} hosts to ask")
        try:
            yield run
        finally:
            if run.worth_keeping:
                say(f"what was collected is kept in {run.journal.path}; go on with --resume {run.run_id}")
                run.journal.close()
            else:
                run.journal.remove()


def state_directory(keeping: Keeping) -> Path:
    """`--state`, else fleetaudit's own in the user's state directory (XDG Base Directory Specification)."""
    if keeping.state is not None:
        return Path(keeping.state)
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "fleetaudit"


@contextlib.contextmanager
def kept_run(run_id: str, state: str | None) -> Iterator[Journal]:
    """The lines of a run that was kept, to look at. Raises ConfigError when there is none of that name."""
    runs = state_directory(Keeping(state, resume=None, retry_file=None, keep_runs=0)) / _RUNS
    try:
        journal = Journal.open(runs, run_id)
    except ReportError as error:
        if (runs / run_id).exists():
            raise ConfigError(Problem(str(error))) from error
        message = f"'{visible(run_id)}' is neither a file nor a run kept in {visible(str(runs))}"
        raise ConfigError(Problem(message, hint=_known(runs))) from error
    try:
        yield journal
    finally:
        journal.close()


def _begin(
    targets: tuple[Host, ...], keeping: Keeping, stack: contextlib.ExitStack, *, exclusive: bool
) -> Recording:
    started = utc_now()
    state = state_directory(keeping)
    try:
        if exclusive:
            stack.enter_context(_turn(state))
        prune(state / _RUNS, (started - timedelta(days=keeping.keep_runs)).timestamp())
        return _new(targets, keeping, started, state)
    except ReportError as error:
        if keeping.state is not None:
            raise ConfigError(Problem(str(error), hint="name another directory with --state")) from error
        say(f"warning: {error}; the run is kept in a temporary directory instead")
    spare = Path(tempfile.mkdtemp(prefix="fleetaudit-"))

    def clear() -> None:
        if not run.worth_keeping:
            shutil.rmtree(spare, ignore_errors=True)

    run = _new(targets, keeping, started, spare)
    stack.callback(clear)
    return run


def _new(targets: tuple[Host, ...], keeping: Keeping, started: datetime, state: Path) -> Recording:
    run_id = new_run_id(started)
    journal = Journal.create(state / _RUNS, run_id)
    try:
        journal.write_record(RunRecord(run_id, stamp(started), __version__, _digests(targets)))
    except ReportError:
        with contextlib.suppress(ReportError):
            journal.remove()
        raise
    return Recording(run_id, started, targets, journal, keeping.retry_file)


def _go_on(
    targets: tuple[Host, ...], keeping: Keeping, stack: contextlib.ExitStack, *, exclusive: bool
) -> Recording:
    run_id, state = keeping.resume or "", state_directory(keeping)
    shown = f"--resume {visible(run_id)}"
    try:
        if exclusive:
            stack.enter_context(_turn(state))
        journal = Journal.open(state / _RUNS, run_id)
    except ReportError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            message = f"{shown}: no such run in {visible(str(state / _RUNS))}"
            raise ConfigError(Problem(message, hint=_known(state / _RUNS))) from error
        raise ConfigError(Problem(f"{shown}: {error}")) from error
    try:
        record = journal.read_record()
        _require_same(record.targets, journal, targets, shown)
        return Recording(run_id, moment(record.started_at), targets, journal, keeping.retry_file)
    except (ReportError, ConfigError) as error:
        journal.close()
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(Problem(f"{shown}: {error}", hint="begin a new run")) from error


def _known(runs: Path) -> str:
    try:
        found = sorted((path.name for path in runs.iterdir() if (path / FILE).exists()), reverse=True)
    except OSError:
        found = []
    return f"runs to go on with: {_some(found)}" if found else "there is no run to go on with"


def _digests(targets: tuple[Host, ...]) -> dict[str, str]:
    return {host.name: context_digest(host.context) for host in targets}


def _require_same(before: Mapping[str, str], journal: Journal, targets: tuple[Host, ...], shown: str) -> None:
    """Refuse other targets than the run began with: its report would mix two questions."""
    now = _digests(targets)
    differences = {
        "not among the targets now": sorted((before.keys() | journal.hosts) - now.keys()),
        "not among the targets of that run": sorted(now.keys() - before.keys()),
        "of other groups, variables or boundary than in that run": sorted(
            name for name in now.keys() & before.keys() if now[name] != before[name]
        ),
    }
    problems = [f"{what}: {_some(names)}" for what, names in differences.items() if names]
    if problems:
        hint = "use the inventory and pattern that the run began with, or begin a new run"
        raise ConfigError(Problem(f"{shown}: {'; '.join(problems)}", hint=hint))


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join([*map(visible, names[:_NAMED]), *([f"{rest} more"] if rest > 0 else [])])


@contextlib.contextmanager
def _turn(state: Path) -> Iterator[None]:
    """Hold the state directory alone. The lock (flock(2)) ends with the process, however it dies."""
    path = state / _LOCK
    try:
        for part in (*reversed(state.parents), state):
            part.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ReportError(f"state directory {visible(str(state))}: {error.strerror or error}") from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = visible(os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip())
            message = (
                f"another run is under way in {visible(str(state))}: {holder or 'it does not say which'}"
            )
            hint = "wait for it, or give this run a directory of its own with --state DIRECTORY"
            raise ConfigError(Problem(message, hint=hint)) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only nobody is told who has it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}, since {stamp(utc_now())}\n".encode(), 0)
        yield
