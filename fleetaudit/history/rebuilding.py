"""A run as it was judged, out of the store: the outcomes, and a check that judging them gives the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from fleetaudit.errors import ConfigError, OutputError, Problem, StoreError
from fleetaudit.history.lines import outcome_of
from fleetaudit.history.reading import StoredRun, bodies
from fleetaudit.history.recording import judgement_digest
from fleetaudit.history.schema import HOST_RUNS, HOSTS, JUDGEMENTS, RUNS
from fleetaudit.history.store import chunks
from fleetaudit.model import HostAudit, Outcome, Report
from fleetaudit.text import visible

_AT_ONCE: Final = 100  # hosts whose snapshots are in memory together


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What is stored of a run: its hosts by name, and the digest of what was said of each."""

    rows: tuple[Any, ...]
    inputs: bytes

    @property
    def digests(self) -> Mapping[str, bytes]:
        """What each host's audit was known by."""
        return {row.name: bytes(row.digest) for row in self.rows}


def rebuilt(connection: Connection, run: StoredRun) -> Rebuilt:
    """Everything that was judged in a run, and what it was judged by. Raises ConfigError and StoreError."""
    key = connection.execute(select(RUNS.c.inputs).where(RUNS.c.id == run.key)).scalar()
    query = (
        select(
            HOSTS.c.name, HOST_RUNS.c.body, HOST_RUNS.c.told, HOST_RUNS.c.snapshot_sha256, JUDGEMENTS.c.digest
        )
        .join_from(HOST_RUNS, HOSTS, HOSTS.c.id == HOST_RUNS.c.host)
        .join(JUDGEMENTS, JUDGEMENTS.c.id == HOST_RUNS.c.judgement)
        .where(HOST_RUNS.c.run == run.key)
    )
    rows = tuple(sorted(connection.execute(query).all(), key=lambda row: row.name))
    if not run.finished:
        raise ConfigError(Problem(f"run {visible(run.run_id)} was cut short while it was stored"))
    if key is None or any(row.body is None for row in rows):
        message = f"the snapshots of run {visible(run.run_id)} are not kept any more"
        raise ConfigError(Problem(message, hint="`history show` tells what was found"))
    (inputs,) = dict(bodies(connection, {key})).values()
    return Rebuilt(rows, _unpacked(inputs, run))


def outcomes(connection: Connection, run: StoredRun, found: Rebuilt) -> Iterator[Outcome]:
    """The outcomes of the run, by host. Raises StoreError for what is damaged."""
    for some in chunks(found.rows, _AT_ONCE):
        stored = dict(bodies(connection, {row.body for row in some}))
        for row in some:
            try:
                outcome = outcome_of(_unpacked(stored[row.body], run), row.told)
            except (KeyError, ValueError, OutputError) as error:
                raise _damaged(run) from error
            sha256 = bytes(row.snapshot_sha256).hex() if row.snapshot_sha256 else None
            if (outcome.host, outcome.snapshot_sha256) != (row.name, sha256):
                raise _damaged(run)
            yield outcome


def as_before(
    report: Report, run: StoredRun, digests: Mapping[str, bytes], summary: Callable[[], object]
) -> Iterator[HostAudit]:
    """The audits of a report that ends with this `summary` (as JSON).

    Raises StoreError where one is not what was stored, or the run does not end as it did. A later version may
    judge otherwise, or say it in other words: a report of the run would then be another.
    """
    for audit in report.audits:
        if digests.get(audit.outcome.host) != judgement_digest(audit):
            raise _otherwise(run, f"judges {visible(audit.outcome.host)} otherwise")
        yield audit
    if summary() != run.summary:
        raise _otherwise(run, "counts it otherwise")


def _otherwise(run: StoredRun, what: str) -> StoreError:
    return StoreError(
        f"run {visible(run.run_id)} was judged by fleetaudit {visible(run.version)}, and this one {what}: "
        "report it with that version"
    )


def _unpacked(body: bytes, run: StoredRun) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise _damaged(run) from error


def _damaged(run: StoredRun) -> StoreError:
    return StoreError(f"the history is damaged: what is stored of run {visible(run.run_id)}")
