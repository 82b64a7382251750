"""Old runs deleted, and what only they needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, delete, func, select, update

from fleetaudit.history.reading import StoredRun, runs
from fleetaudit.history.schema import CONTENTS, FINDINGS, HOST_RUNS, HOSTS, JUDGEMENTS, RUNS, VERDICTS
from fleetaudit.history.store import Store, chunks
from fleetaudit.history.times import written

_STILL_WRITTEN = timedelta(days=1)  # a younger run that is not finished may be one under way


def doomed(
    connection: Connection, now: datetime, *, keep: int | None, older_than: timedelta | None
) -> list[StoredRun]:
    """The runs to delete: neither among the latest `keep` whole ones nor younger than `older_than`.

    A run that was cut short goes after a day, whatever is kept.
    """
    found = runs(connection)
    whole = [run for run in found if run.finished]
    kept = {run.key for run in whole[: keep or 0]}
    limit = written(now - older_than) if older_than is not None else None
    old = [run for run in whole if run.key not in kept and (limit is None or run.started_at < limit)]
    torn = written(now - _STILL_WRITTEN)
    return old + [run for run in found if not run.finished and run.started_at < torn]


def prune(store: Store, keys: Sequence[int]) -> None:
    """Delete these runs, all or none, and give the room back. Raises StoreError."""
    with store.writing() as connection:
        for some in chunks(keys, 100):
            connection.execute(delete(HOST_RUNS).where(HOST_RUNS.c.run.in_(some)))
            connection.execute(delete(RUNS).where(RUNS.c.id.in_(some)))
        used = select(HOST_RUNS.c.judgement).where(HOST_RUNS.c.judgement.is_not(None))
        for table in (VERDICTS, FINDINGS):
            connection.execute(delete(table).where(table.c.judgement.not_in(used)))
        _forget(connection, JUDGEMENTS, "judgement")
        _forget_contents(connection)
        _forget(connection, HOSTS, "host")
    store.shrink()


def with_snapshots(connection: Connection, before: datetime) -> int:
    """How many runs that began before that still have their snapshots."""
    query = select(func.count()).select_from(RUNS).where(RUNS.c.started_at < written(before))
    return int(connection.execute(query.where(RUNS.c.inputs.is_not(None))).scalar_one())


def forget_snapshots(store: Store, before: datetime) -> None:
    """Forget the snapshots of the runs that began before that; what was found in them stays.

    Such a run cannot be reported again. Raises StoreError.
    """
    old = select(RUNS.c.id).where(RUNS.c.started_at < written(before))
    with store.writing() as connection:
        connection.execute(update(HOST_RUNS).where(HOST_RUNS.c.run.in_(old)).values(body=None, told="{}"))
        connection.execute(update(RUNS).where(RUNS.c.id.in_(old)).values(inputs=None))
        _forget_contents(connection)
    store.shrink()


def _forget_contents(connection: Connection) -> None:
    columns = (HOST_RUNS.c.lasting, HOST_RUNS.c.body, RUNS.c.inputs)
    used = (CONTENTS.c.id.not_in(select(column).where(column.is_not(None))) for column in columns)
    connection.execute(delete(CONTENTS).where(*used))


def _forget(connection: Connection, table: Table, column: str) -> None:
    """Delete the rows that no host's row names."""
    used = select(HOST_RUNS.c[column]).where(HOST_RUNS.c[column].is_not(None))
    connection.execute(delete(table).where(table.c.id.not_in(used)))
