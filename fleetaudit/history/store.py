"""A store that is open: connections, one writer at a time, and every failure as a StoreError."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from fleetaudit.errors import StoreError
from fleetaudit.history.place import StorePlace
from fleetaudit.text import visible

HEAD: Final = "0002"
VERSION_TABLE: Final = "fleetaudit_schema"
PATIENCE: Final = 30.0  # seconds that a writer waits for another one
_LOCK: Final = 0x666C656574  # "fleet": the number of our advisory lock
_WRITING: Final = "writing"  # execution option: SQLite then takes its write lock at once
_SYMPTOMS: Final[Mapping[str, str]] = {
    "database is locked": "another process has been writing to it for too long; try again",
    "lock timeout": "another process has been writing to it for too long; try again",
    "not a database": "that is no history; move it away, or name another file",
    "malformed": "the file is damaged; restore it from a backup, or move it away",
    "disk is full": "the disk is full",
    "disk I/O error": "the disk is full or failing",
    "unable to open": "is there such a directory, and may you write there?",
    "readonly": "you may not write there",
}
Row = Mapping[str, object]


class Store:
    """Opened by `open_store`. A transaction is all or nothing, and nothing is open between two."""

    def __init__(self, place: StorePlace, engine: Engine) -> None:
        self.place = place
        self._engine = engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One view of the store. Raises StoreError."""
        with self._reported(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction; no two processes write at a time, so ids can be given here. Raises StoreError."""
        with self._reported(), self._engine.connect() as plain:
            connection = plain.execution_options(**{_WRITING: True})
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SET LOCAL lock_timeout = {int(PATIENCE * 1000)}"))
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                yield connection

    def shrink(self) -> None:
        """Give the file's free pages back to the disk; PostgreSQL does so by itself. Raises StoreError."""
        if self.place.path is not None:
            with self._reported(), self._engine.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                driver.execute("PRAGMA incremental_vacuum").fetchall()
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """The border of the database libraries."""
        driver = self._engine.dialect.loaded_dbapi.Error
        try:
            yield
        except (SQLAlchemyError, driver, OSError) as error:
            raise _explained(self.place, error) from error


def open_store(place: StorePlace, *, create: bool, patience: float = PATIENCE) -> Store:
    """Open a store, and bring it to this version's schema. Raises StoreError; also when there is none yet,
    unless `create`.
    """
    if place.path is not None:
        _provide(place, create=create)
    store = Store(place, _engine(place, patience))
    try:
        _migrate(store)
    except BaseException:
        store.close()
        raise
    return store


def put(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Add rows in bulk; all have the same columns."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(insert(table), list(rows))
        return
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    cursor: Any = connection.connection.cursor()  # psycopg's own: SQLAlchemy has no word for COPY
    with cursor, cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])


def chunks(values: Iterable[Any], size: int = 500) -> Iterator[list[Any]]:
    """The values in lists that a statement can hold."""
    listed = list(values)
    return (listed[start : start + size] for start in range(0, len(listed), size))


def _provide(place: StorePlace, *, create: bool) -> None:
    """A file that only its user can read, before SQLite makes one that everybody can."""
    path = place.path
    assert path is not None  # noqa: S101  (the caller asked)
    try:
        if not create:
            if not path.exists():
                raise StoreError(f"there is no history at {place.shown} (audit --store writes one)")
            return
        for part in (*reversed(path.parent.parents), path.parent):
            part.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"history {place.shown}: {error.strerror or error}") from error


def _engine(place: StorePlace, patience: float) -> Engine:
    if place.path is None:
        try:
            return create_engine(place.url, poolclass=NullPool, connect_args={"connect_timeout": 10})
        except SQLAlchemyError as error:
            raise _explained(place, error) from error
    engine = create_engine(f"sqlite:///{place.path}", poolclass=NullPool, connect_args={"timeout": patience})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            _make_wal(connection, time.monotonic() + patience)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(_WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _make_wal(connection: sqlite3.Connection, end: float) -> None:
    """Readers and the one writer do not wait for each other then. SQLite does not wait here by itself."""
    while True:
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of effect in an empty file
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _migrate(store: Store) -> None:
    with store.reading() as connection:
        found = _version(connection, store.place)
    if found == HEAD:
        return
    from fleetaudit.history.migrating import upgrade  # noqa: PLC0415  (Alembic, rarely needed)

    with store.writing() as connection:
        if _version(connection, store.place) != HEAD:  # nobody was quicker
            upgrade(connection)


def _version(connection: Connection, place: StorePlace) -> str | None:
    """The schema's version; None for an empty store. Raises StoreError for what is not ours or newer."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        if tables:
            raise StoreError(f"history {place.shown}: that database is something else's; name another")
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if found is not None and str(found) > HEAD:
        raise StoreError(
            f"history {place.shown} was written by a newer fleetaudit (schema {visible(str(found))}; "
            f"this one reads up to {HEAD}): update fleetaudit, or name another store"
        )
    return None if found is None else str(found)


def _explained(place: StorePlace, error: BaseException) -> StoreError:
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    remedy = next((remedy for symptom, remedy in _SYMPTOMS.items() if symptom in said), "")
    return StoreError(f"history {place.shown}: {visible(said)}" + (f" ({remedy})" if remedy else ""))
