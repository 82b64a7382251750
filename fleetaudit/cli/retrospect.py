"""What the history says of the time before a run, for reports that say what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from fleetaudit.cli.console import say
from fleetaudit.cli.outputs import Output
from fleetaudit.errors import StoreError
from fleetaudit.history.place import StorePlace
from fleetaudit.history.reading import StoredRun, findings_of, hosts_of, runs_before
from fleetaudit.history.store import open_store
from fleetaudit.report import RENDERERS
from fleetaudit.report.base import Past, TrendPoint, Violation

_RUNS: Final = 30
_COUNTED: Final = ("pass", "fail", "waived", "unknown", "error")


def past_now(place: StorePlace, outputs: Sequence[Output]) -> Past | None:
    """The past of a run that is not kept yet. A store that does not answer is said, and is no past."""
    if not asked_for(outputs):
        return None
    try:
        with open_store(place, create=False) as store, store.reading() as connection:
            return past(connection, None)
    except StoreError as error:
        say(f"warning: {error}; the reports do not say what changed")
        return None


def asked_for(outputs: Sequence[Output]) -> bool:
    """Whether one of the formats says what changed."""
    return any(RENDERERS[output.format].says_changes for output in outputs)


def past(connection: Connection, run: StoredRun | None) -> Past | None:
    """What was kept before this run (None: before the one to come); None when that is nothing."""
    before = runs_before(connection, run, _RUNS)
    if not before:
        return None
    last = before[-1]
    return Past(
        run_id=last.run_id,
        started_at=last.started_at,
        hosts=frozenset(host.name for host in hosts_of(connection, last) if host.lasting is not None),
        violations={
            it.fingerprint: Violation(it.host, it.policy, it.rule, it.severity, it.endpoint)
            for it in findings_of(connection, last)
            if it.verdict == "fail"
        },
        trend=tuple(map(_point, before)),
    )


def _point(run: StoredRun) -> TrendPoint:
    found = run.summary.get("results")
    counts = found if isinstance(found, dict) else {}
    return TrendPoint(
        run.run_id, run.started_at, int(counts.get("pass", 0)), sum(int(counts.get(it, 0)) for it in _COUNTED)
    )
