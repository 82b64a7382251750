"""fleetaudit as a Python library: `audit`, `collect` and `evaluate`, which `import fleetaudit` gives.

The command line is made of the same parts. Nothing here prints, logs, handles signals or ends the process;
what happens meanwhile is told to an `Observer`, what is wrong is raised as one of `fleetaudit.errors`, and
what one host does is a value: a host that was not reached is in the result, never missing.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from fleetaudit.collection import Collection
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, Problem, ReportError, SnapshotError
from fleetaudit.events import Observer
from fleetaudit.inputs import contexts_of, open_snapshots, read_policies
from fleetaudit.journal import Journal
from fleetaudit.judgement import adjusted, describe_run, new_run_id, report, require_targets, utc_now
from fleetaudit.model import (
    Boundary,
    Host,
    HostAudit,
    HostContext,
    HostStatus,
    Outcome,
    Report,
    Run,
    Severity,
    Summary,
)
from fleetaudit.policy.choosing import choose
from fleetaudit.policy.model import Policy
from fleetaudit.report import RenderOptions, drive, parts
from fleetaudit.saved import index
from fleetaudit.session import Options, Targets, asking, find, is_number, listed
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import Gate, Tally
from fleetaudit.text import visible
from fleetaudit.transport import Transport
from fleetaudit.where import parse

__all__ = ["AuditReport", "Observer", "Options", "Outcomes", "audit", "collect", "evaluate"]

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]
InventoryLike: TypeAlias = Paths | Iterable[Host]
SnapshotsLike: TypeAlias = Paths | Iterable[Outcome]


class AuditReport:
    """Judged hosts, sorted by name: iterate over it, as often as you like, and ask for its `summary`.

    Each pass reads and judges one host at a time, so memory does not grow with the fleet. What the hosts said
    is kept in an open file until the report is closed (it is a context manager) or forgotten.
    """

    def __init__(
        self,
        run: Run,
        outcomes: Callable[[], Iterable[Outcome]],
        policies: tuple[Policy, ...],
        gate: Gate,
        close: Callable[[], object],
    ) -> None:
        self.run = run
        self._outcomes = outcomes
        self._policies = policies
        self._gate = gate
        self._summary: Summary | None = None
        self._closing = weakref.finalize(self, close)

    def __iter__(self) -> Iterator[HostAudit]:
        """Every targeted host with its results, sorted by name. Raises ReportError once closed."""
        return iter(self.report().audits)

    @property
    def summary(self) -> Summary:
        """Counts over all hosts, and the exit code of the command line; the first time, a pass of its own.

        `exit_code` 0 is the only one that means compliant: 3 is a run in which something is not known.
        """
        if self._summary is None:
            whole = self.report()
            for _ in whole.audits:
                pass
            self._summary = whole.summary()
        return self._summary

    def report(self) -> Report:
        """A value for a renderer: one pass, and the summary of what has passed. Raises ReportError."""
        self._require_open()
        whole = report(self._outcomes(), self._policies, self.run, Tally(self._gate))
        return replace(whole, audits=self._while_open(whole.audits))

    def render(self, format: str, *, include_pass: bool = False) -> Iterator[bytes]:
        """A document as the command line's `-o FORMAT=PATH` writes it, in pieces.

        Raises ConfigError for a format that does not exist, ReportError for one that fails.
        """
        main = parts(format, RenderOptions(include_pass=include_pass))[0]
        return _rendered(drive(self.report(), [main.renderer]))

    def close(self) -> None:
        """Let go of what the hosts said. Calling it twice is fine."""
        self._closing()

    def _while_open(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """A generator, which holds this report: one that nobody else holds stays open while it is read."""
        self._require_open()
        for audit in audits:
            yield audit
            self._require_open()

    def _require_open(self) -> None:
        if not self._closing.alive:
            raise ReportError("the report was closed")

    def __enter__(self) -> AuditReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Outcomes(Iterator[Outcome]):
    """What became of each host of `targets`, in the order in which they end; one outcome for each.

    Hosts are asked from the first `next` on. Exhausting it or closing it (it is a context manager) ends
    every thread and connection. After `stop`, what remains follows soon, as `not_attempted`.
    """

    def __init__(
        self,
        targets: tuple[Host, ...],
        options: Options,
        observer: Observer | None,
        transports: Mapping[str, Transport] | None,
    ) -> None:
        self.targets = targets
        self._resources = ExitStack()
        asked = asking(targets, options, observer=observer, transports=transports)
        self._collection: Collection = self._resources.enter_context(asked)
        # A generator: forgotten in the middle of a loop, it is closed, and ends the threads.
        self._flow = self._run(self._resources, self._collection)

    @staticmethod
    def _run(resources: ExitStack, collection: Collection) -> Generator[Outcome, None, None]:
        with resources, collection:
            for collected in collection:
                yield derive(collected.outcome)

    def __next__(self) -> Outcome:
        """The next host that is done. Raises ConfigError, the first time, for what cannot work at all."""
        return next(self._flow)

    def stop(self) -> None:
        """End early, from any thread; go on iterating to learn of every host."""
        self._collection.stop()

    def close(self) -> None:
        """Ask no further, and end all that is under way. Calling it twice is fine."""
        self._flow.close()
        self._resources.close()

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def collect(
    inventory: InventoryLike,
    *,
    pattern: str = "all",
    limit: str | None = None,
    options: Options | None = None,
    observer: Observer | None = None,
    transports: Mapping[str, Transport] | None = None,
) -> Outcomes:
    """Ask every host that `pattern` selects who listens there: an iterator of `Outcome`, as they end.

    `inventory` is what `-i` takes (a path, `"host1,host2,"`, `"NAME:WHAT"`), several of these, or `Host`
    objects; `limit` narrows further. `transports` are open transports by name, such as a `MemoryTransport`,
    closed when the collection ends. A host that cannot be asked yields an outcome with a status and no
    snapshot.

    Raises InventoryError and ConfigError at once; ConfigError also from the first `next`, for transports.
    """
    options = options or Options()
    return Outcomes(_targets(inventory, pattern, limit, options).hosts, options, observer, transports)


def audit(
    inventory: InventoryLike,
    policies: Paths,
    *,
    pattern: str = "all",
    limit: str | None = None,
    options: Options | None = None,
    fail_on: Severity | str = Severity.LOW,
    require_coverage: float = 100.0,
    allow_unjudged: bool = False,
    where: Iterable[str] = (),
    tags: Iterable[str] = (),
    skip_tags: Iterable[str] = (),
    observer: Observer | None = None,
    transports: Mapping[str, Transport] | None = None,
) -> AuditReport:
    """Ask every host that `pattern` selects who listens there, and judge the policies over all of them.

    Arguments are those of `collect`, and `policies`: files, or directories of `*.yaml`. `fail_on`,
    `require_coverage` (percent of the targets) and `allow_unjudged` decide what the summary's exit code is.
    `where` leaves out hosts that say otherwise of themselves: "os.id=debian". Judged are
    the rules with one of `tags`, if any is given, and none of `skip_tags`.
    What the hosts say is kept in a temporary file without a name. An exception meanwhile, such as
    KeyboardInterrupt, ends every thread and leaves nothing behind.

    Raises InventoryError, PolicyError and ConfigError before any host is asked, ReportError when the
    temporary file cannot be written.
    """
    options = options or Options()
    conditions = _paths(where, "where")
    gate = _gate(fail_on, require_coverage, allow_unjudged, conditions)
    only, skip = _paths(tags, "tags"), _paths(skip_tags, "skip_tags")
    judges = choose(read_policies(_paths(policies, "policies")), only, skip)
    goal = _targets(inventory, pattern, limit, options)
    counted = require_targets(judges, [(host.name, host.context) for host in goal.hosts])
    started = utc_now()
    complete = True
    with ExitStack() as stack:
        journal = _nameless_journal()
        stack.callback(journal.close)
        asked = asking(goal.hosts, options, observer=observer, transports=transports)
        with asked as collection, collection:
            for collected in collection:
                complete = complete and collected.status is not HostStatus.NOT_ATTEMPTED
                answered = collected.status is HostStatus.OK
                journal.append(collected.line, collected.host, answered=answered)
        recorded = options.recorded() | {
            "pattern": pattern,
            "limit": limit,
            "fail_on": gate.fail_on.value,
            "require_coverage": require_coverage,
            "allow_unjudged": allow_unjudged,
            "where": conditions,
            "tags": only,
            "skip_tags": skip,
        }
        run = describe_run(new_run_id(started), started, counted, goal.sources, recorded, complete=complete)
        close = stack.pop_all().close
    return AuditReport(run, lambda: map(decode_line, journal.lines_in_host_order()), judges, gate, close)


def evaluate(
    snapshots: SnapshotsLike,
    policies: Paths,
    *,
    inventory: Paths = (),
    latest: bool = False,
    max_age: timedelta | None = None,
    now: datetime | None = None,
    fail_on: Severity | str = Severity.LOW,
    require_coverage: float = 100.0,
    allow_unjudged: bool = False,
    where: Iterable[str] = (),
    tags: Iterable[str] = (),
    skip_tags: Iterable[str] = (),
) -> AuditReport:
    """Judge policies over snapshots taken before: the same report as the audit that took them.

    `snapshots` are paths of JSON Lines files, which are read one host at a time, or `Outcome` values, as
    `collect` yields them, which are held in memory. (A `Snapshot` alone does not say of which groups and
    boundary its host is.) `inventory` replaces what was saved of groups and variables. Of two snapshots of
    one host in files, `latest` takes the later. What is older than `max_age` at `now` (a time with its zone)
    is unknown. The rest is as for `audit`.

    Raises SnapshotError, PolicyError, InventoryError and ConfigError.
    """
    conditions = _paths(where, "where")
    gate = _gate(fail_on, require_coverage, allow_unjudged, conditions)
    only, skip = _paths(tags, "tags"), _paths(skip_tags, "skip_tags")
    judges = choose(read_policies(_paths(policies, "policies")), only, skip)
    started = utc_now()
    judged_at = now or started
    if judged_at.tzinfo is None:
        raise ConfigError(Problem("now: the time has no zone", hint="such as datetime.now(timezone.utc)"))
    contexts, sources = contexts_of(_paths(inventory, "inventory"))
    with ExitStack() as stack:
        targets, complete, read = _readable(snapshots, contexts, stack, latest=latest)
        hosts = [(host, contexts.get(host, context)) for host, context in targets]
        counted = require_targets(judges, hosts)
        recorded = {
            "fail_on": gate.fail_on.value,
            "require_coverage": require_coverage,
            "allow_unjudged": allow_unjudged,
            "where": conditions,
            "tags": only,
            "skip_tags": skip,
            "latest": latest,
            "max_age": None if max_age is None else max_age.total_seconds() / 3600,
            "now": None if now is None else now.isoformat(),
        }
        run = describe_run(new_run_id(started), started, counted, sources, recorded, complete=complete)
        close = stack.pop_all().close
    return AuditReport(run, lambda: adjusted(read(), contexts, max_age, judged_at), judges, gate, close)


# ---------------------------------------------------------------- arguments


def _targets(inventory: InventoryLike, pattern: str, limit: str | None, options: Options) -> Targets:
    given = _several(inventory, "inventory")
    hosts = [item for item in given if isinstance(item, Host)]
    if not hosts:
        return find(_paths(given, "inventory"), pattern, limit, options)
    if len(hosts) != len(given):
        raise ConfigError(Problem("inventory: hosts and sources together", hint="pass one of the two"))
    return listed(hosts, pattern, limit)


def _readable(
    snapshots: SnapshotsLike, contexts: Mapping[str, HostContext], stack: ExitStack, *, latest: bool
) -> tuple[Iterable[tuple[str, HostContext]], bool, Callable[[], Iterable[Outcome]]]:
    """The hosts, sorted, whether all were asked, and how to read them: as often as asked, one at a time."""
    given = _several(snapshots, "snapshots")
    values = [item for item in given if isinstance(item, Outcome)]
    if not values:
        paths = [f"./{path}" if path == "-" else path for path in _paths(given, "snapshots")]
        saved = index(open_snapshots(paths, stack), latest=latest)
        return saved.targets, saved.complete, lambda: saved
    if len(values) != len(given):
        raise ConfigError(Problem("snapshots: outcomes and something else", hint="pass one of the two"))
    values.sort(key=lambda outcome: outcome.host)
    problems = [
        Problem(f"two outcomes are of host '{visible(one.host)}'", hint="keep one of them")
        for one, other in pairwise(values)
        if one.host == other.host
    ]
    problems += [
        Problem(
            f"host '{visible(item.host)}' was seen as a container, whose surroundings were left out",
            hint="collect it anew to judge it as a host",
        )
        for item in values
        if item.context.boundary is Boundary.CONTAINER
        and contexts.get(item.host, item.context).boundary is Boundary.HOST
    ]
    if problems:
        raise SnapshotError(problems)
    complete = all(item.status is not HostStatus.NOT_ATTEMPTED for item in values)
    return [(item.host, item.context) for item in values], complete, lambda: values


def _several(given: PathLike | Iterable[object], what: str) -> list[object]:
    if isinstance(given, str | os.PathLike):
        return [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ConfigError(Problem(f"{what}: {type(given).__name__} is not a path", hint="pass a path"))
    return list(given)


def _paths(given: PathLike | Iterable[object], what: str) -> tuple[str, ...]:
    paths = []
    for item in _several(given, what):
        if not isinstance(item, str | os.PathLike):
            raise ConfigError(Problem(f"{what}: {type(item).__name__} is not a path", hint="pass a path"))
        paths.append(os.fspath(item))
    return tuple(paths)


def _gate(
    fail_on: Severity | str, require_coverage: float, allow_unjudged: bool, where: Sequence[str]
) -> Gate:
    try:
        severity = Severity(fail_on)
    except ValueError:
        choices = ", ".join(item.value for item in Severity)
        raise ConfigError(Problem(f"fail_on: {fail_on!r} is no severity", hint=f"one of {choices}")) from None
    if not is_number(require_coverage) or not 0 <= require_coverage <= 100:
        raise ConfigError(Problem(f"require_coverage: {require_coverage!r} is not from 0 to 100"))
    return Gate(severity, require_coverage, allow_unjudged, parse(where))


def _rendered(chunks: Iterable[tuple[int, bytes | ReportError]]) -> Iterator[bytes]:
    for _, chunk in chunks:
        if isinstance(chunk, ReportError):
            raise chunk
        yield chunk


def _nameless_journal() -> Journal:
    """A journal whose file has lost its name before anything is in it: it ends with the process, however."""
    try:
        with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
            return Journal.create(Path(folder), "run")
    except OSError as error:
        raise ReportError(f"temporary directory: {error.strerror or error}") from error
