"""fleetaudit as a Python library: `audit`, `collect` and `evaluate`, which `import fleetaudit` gives.

The command line is made of the same parts. Nothing here prints, logs, handles signals or ends the process;
what happens meanwhile is told to an `Observer`, what is wrong is raised as one of `fleetaudit.errors`, and
what one host does is a value: a host that was not reached is in the result, never missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from fleetaudit.arguments import PathLike, Paths, paths, several
from fleetaudit.errors import ConfigError, Problem, ReportError, SnapshotError
from fleetaudit.events import Observer
from fleetaudit.inputs import contexts_of, open_snapshots
from fleetaudit.journal import Journal
from fleetaudit.judgement import adjusted, describe_run, new_run_id, require_targets, utc_now
from fleetaudit.judges import appoint
from fleetaudit.model import Boundary, Host, HostContext, HostStatus, Outcome, Severity
from fleetaudit.results import AuditReport, Outcomes
from fleetaudit.saved import index
from fleetaudit.session import Options, Targets, asking, find, listed
from fleetaudit.snapshot import decode_line
from fleetaudit.text import visible
from fleetaudit.transport import Transport

__all__ = ["AuditReport", "Observer", "Options", "Outcomes", "audit", "collect", "evaluate"]

InventoryLike: TypeAlias = Paths | Iterable[Host]
SnapshotsLike: TypeAlias = Paths | Iterable[Outcome]


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
    waivers: Paths = (),
    strict_waivers: bool = False,
    baseline: PathLike | None = None,
    new_only: bool = False,
    observer: Observer | None = None,
    transports: Mapping[str, Transport] | None = None,
) -> AuditReport:
    """Ask every host that `pattern` selects who listens there, and judge the policies over all of them.

    Arguments are those of `collect`, and `policies`: files, or directories of `*.yaml`. `fail_on`,
    `require_coverage` (percent of the targets) and `allow_unjudged` decide what the summary's exit code is.
    `where` leaves out hosts that say otherwise of themselves: "os.id=debian". Judged are
    the rules with one of `tags`, if any is given, and none of `skip_tags`. `waivers` are files of accepted
    violations; with `strict_waivers` those that want attention fail the run. `baseline` is a report in JSON
    or a file of snapshots, by which violations are marked as new or not; with `new_only` old ones do not fail
    the run.
    What the hosts say is kept in a temporary file without a name. An exception meanwhile, such as
    KeyboardInterrupt, ends every thread and leaves nothing behind.

    Raises InventoryError, PolicyError and ConfigError before any host is asked, ReportError when the
    temporary file cannot be written.
    """
    options = options or Options()
    started = utc_now()
    judges = appoint(
        paths(policies, "policies"),
        started,
        fail_on=fail_on,
        require_coverage=require_coverage,
        allow_unjudged=allow_unjudged,
        where=paths(where, "where"),
        tags=paths(tags, "tags"),
        skip_tags=paths(skip_tags, "skip_tags"),
        waivers=paths(waivers, "waivers"),
        strict_waivers=strict_waivers,
    )
    goal = _targets(inventory, pattern, limit, options)
    known = {host.name: host.context for host in goal.hosts}
    judges = judges.against(_path(baseline), known, new_only=new_only)
    counted = require_targets(judges.policies, [(host.name, host.context) for host in goal.hosts])
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
        recorded = options.recorded() | {"pattern": pattern, "limit": limit, **judges.recorded}
        run = describe_run(
            new_run_id(started),
            started,
            counted,
            goal.sources,
            recorded,
            waivers=judges.waiver_files,
            complete=complete,
        )
        close = stack.pop_all().close
    return AuditReport(run, lambda: map(decode_line, journal.lines_in_host_order()), judges, close)


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
    waivers: Paths = (),
    strict_waivers: bool = False,
    baseline: PathLike | None = None,
    new_only: bool = False,
) -> AuditReport:
    """Judge policies over snapshots taken before: the same report as the audit that took them.

    `snapshots` are paths of JSON Lines files, which are read one host at a time, or `Outcome` values, as
    `collect` yields them, which are held in memory. (A `Snapshot` alone does not say of which groups and
    boundary its host is.) `inventory` replaces what was saved of groups and variables. Of two snapshots of
    one host in files, `latest` takes the later. What is older than `max_age` at `now` (a time with its zone)
    is unknown. The rest is as for `audit`.

    Raises SnapshotError, PolicyError, InventoryError and ConfigError.
    """
    started = utc_now()
    judges = appoint(
        paths(policies, "policies"),
        now or started,
        fail_on=fail_on,
        require_coverage=require_coverage,
        allow_unjudged=allow_unjudged,
        where=paths(where, "where"),
        tags=paths(tags, "tags"),
        skip_tags=paths(skip_tags, "skip_tags"),
        waivers=paths(waivers, "waivers"),
        strict_waivers=strict_waivers,
    )
    contexts, sources = contexts_of(paths(inventory, "inventory"))
    judges = judges.against(_path(baseline), contexts, new_only=new_only)
    with ExitStack() as stack:
        targets, complete, read = _readable(snapshots, contexts, stack, latest=latest)
        hosts = [(host, contexts.get(host, context)) for host, context in targets]
        counted = require_targets(judges.policies, hosts)
        recorded = {
            **judges.recorded,
            "latest": latest,
            "max_age": None if max_age is None else max_age.total_seconds() / 3600,
            "now": None if now is None else now.isoformat(),
        }
        run = describe_run(
            new_run_id(started),
            started,
            counted,
            sources,
            recorded,
            waivers=judges.waiver_files,
            complete=complete,
        )
        close = stack.pop_all().close
    return AuditReport(run, lambda: adjusted(read(), contexts, max_age, judges.now), judges, close)


# ---------------------------------------------------------------- arguments


def _path(baseline: PathLike | None) -> str | None:
    return None if baseline is None else paths(baseline, "baseline")[0]


def _targets(inventory: InventoryLike, pattern: str, limit: str | None, options: Options) -> Targets:
    given = several(inventory, "inventory")
    hosts = [item for item in given if isinstance(item, Host)]
    if not hosts:
        return find(paths(given, "inventory"), pattern, limit, options)
    if len(hosts) != len(given):
        raise ConfigError(Problem("inventory: hosts and sources together", hint="pass one of the two"))
    return listed(hosts, pattern, limit)


def _readable(
    snapshots: SnapshotsLike, contexts: Mapping[str, HostContext], stack: ExitStack, *, latest: bool
) -> tuple[Iterable[tuple[str, HostContext]], bool, Callable[[], Iterable[Outcome]]]:
    """The hosts, sorted, whether all were asked, and how to read them: as often as asked, one at a time."""
    given = several(snapshots, "snapshots")
    values = [item for item in given if isinstance(item, Outcome)]
    if not values:
        files = [f"./{path}" if path == "-" else path for path in paths(given, "snapshots")]
        saved = index(open_snapshots(files, stack), latest=latest)
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


def _nameless_journal() -> Journal:
    """A journal whose file has lost its name before anything is in it: it ends with the process, however."""
    try:
        with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
            return Journal.create(Path(folder), "run")
    except OSError as error:
        raise ReportError(f"temporary directory: {error.strerror or error}") from error
