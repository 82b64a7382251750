"""What the history is asked: which runs there were, what one found, who listened where at what time."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from fleetaudit.errors import ConfigError, Problem, StoreError
from fleetaudit.history.normal import Normal, read_normal
from fleetaudit.history.schema import CONTENTS, FINDINGS, HOST_RUNS, HOSTS, LINKS, RULES, RUNS
from fleetaudit.history.store import chunks
from fleetaudit.text import visible

_NAMED = 5


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run in the history. One that is not `finished` was cut short while it was stored."""

    key: int
    run_id: str
    started_at: str
    ended_at: str
    version: str
    finished: bool
    complete: bool
    exit_code: int | None
    record: Mapping[str, Any]

    @property
    def summary(self) -> Mapping[str, Any]:
        """Counts, as in a report; empty for a run that was cut short."""
        found = self.record.get("summary")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class StoredHost:
    """One host in one run; `lasting` and `body` are ids of contents."""

    name: str
    status: str
    detail: str
    looked_at: str
    lasting: int | None
    body: int | None
    judgement: int | None


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """One finding of one host in one run."""

    host: str
    policy: str
    rule: str
    severity: str
    verdict: str
    endpoint: str
    reason: str
    fingerprint: str


_RUN = (
    RUNS.c.id,
    RUNS.c.run_id,
    RUNS.c.started_at,
    RUNS.c.ended_at,
    RUNS.c.version,
    RUNS.c.finished,
    RUNS.c.complete,
    RUNS.c.exit_code,
    RUNS.c.record,
)
_LATEST = (RUNS.c.started_at.desc(), RUNS.c.id.desc())


def runs(connection: Connection, last: int | None = None, *, whole: bool = False) -> list[StoredRun]:
    """The runs, latest first; at most `last`, with `whole` only those that were not cut short."""
    query = select(*_RUN).where(RUNS.c.finished) if whole else select(*_RUN)
    return [_run(row) for row in connection.execute(query.order_by(*_LATEST).limit(last))]


def runs_before(connection: Connection, run: StoredRun | None, last: int) -> list[StoredRun]:
    """The `last` whole runs that were kept before this one (None: all are), earliest first."""
    query = select(*_RUN).where(RUNS.c.finished)
    if run is not None:
        query = query.where(RUNS.c.id < run.key)
    rows = connection.execute(query.order_by(RUNS.c.id.desc()).limit(last)).all()
    return [_run(row) for row in reversed(rows)]


def find_run(connection: Connection, name: str) -> StoredRun:
    """The run of this id, of an id that begins so, or `latest` or `latest~N` of those that were finished.

    Raises ConfigError.
    """
    word, _, back = name.partition("~")
    if word == "latest" and ((back.isascii() and back.isdigit() and len(back) < 7) or not back):
        finished = select(*_RUN).where(RUNS.c.finished).order_by(*_LATEST).offset(int(back or 0)).limit(1)
        found = connection.execute(finished).all()
    else:
        found = connection.execute(_begins(select(*_RUN), name).order_by(*_LATEST).limit(_NAMED)).all()
        found = [row for row in found if row.run_id == name] or list(found)
    if len(found) == 1:
        return _run(found[0])
    shown = visible(name)
    if found:
        names = ", ".join(visible(row.run_id) for row in found)
        raise ConfigError(Problem(f"several runs begin with '{shown}': {names}", hint="write more of it"))
    raise ConfigError(Problem(f"no run '{shown}' in the history", hint=_offer(connection)))


def proof_of(connection: Connection, run: StoredRun) -> tuple[bytes, str | None]:
    """The manifest of a run and its signature, if it has one.

    Raises ConfigError when there is no manifest, StoreError when it is not the one that was chained.
    """
    row = connection.execute(select(RUNS.c.manifest, RUNS.c.signature).where(RUNS.c.id == run.key)).one()
    manifest = _unpacked(row.manifest)
    if manifest is None:
        raise ConfigError(Problem(f"run {visible(run.run_id)} has no manifest", hint="later runs have one"))
    query = select(LINKS.c.sha256).where(LINKS.c.run_id == run.run_id)
    if hashlib.sha256(manifest).hexdigest() not in connection.execute(query).scalars().all():
        raise StoreError(f"the history is damaged: the manifest of run {visible(run.run_id)}")
    return manifest, row.signature


def find_manifest(connection: Connection, run_id: str) -> bytes | None:
    """The manifest of the run of this id as it is stored, checked against nothing; None: it is not kept."""
    query = select(RUNS.c.manifest).where(RUNS.c.run_id == run_id)
    return _unpacked(connection.execute(query).scalar())


def links(connection: Connection) -> list[tuple[str, str]]:
    """(run, digest of its manifest) of every run that had one, in the order in which they ended."""
    rows = connection.execute(select(LINKS.c.run_id, LINKS.c.sha256).order_by(LINKS.c.id))
    return [(run, sha256) for run, sha256 in rows]


def _unpacked(manifest: bytes | None) -> bytes | None:
    """Empty for one that is damaged."""
    try:
        return None if manifest is None else zlib.decompress(manifest)
    except zlib.error:
        return b""


def hosts_of(connection: Connection, run: StoredRun) -> list[StoredHost]:
    """The hosts of a run, by name."""
    rows = connection.execute(_HOSTS.where(HOST_RUNS.c.run == run.key))
    return sorted((StoredHost(*row) for row in rows), key=lambda host: host.name)


def findings_of(connection: Connection, run: StoredRun) -> Iterator[StoredFinding]:
    """The findings of a run in the order host, policy, rule."""
    query = (
        select(
            HOSTS.c.name,
            RULES.c.policy,
            RULES.c.rule,
            RULES.c.severity,
            FINDINGS.c.verdict,
            FINDINGS.c.endpoint,
            FINDINGS.c.reason,
            FINDINGS.c.fingerprint,
        )
        .join_from(HOST_RUNS, HOSTS, HOSTS.c.id == HOST_RUNS.c.host)
        .join(FINDINGS, FINDINGS.c.judgement == HOST_RUNS.c.judgement)
        .join(RULES, RULES.c.id == FINDINGS.c.rule)
        .where(HOST_RUNS.c.run == run.key)
    )
    found = [StoredFinding(*row) for row in connection.execute(query)]
    yield from sorted(found, key=lambda it: (it.host, it.policy, it.rule, it.endpoint, it.reason))


def normals(connection: Connection, keys: set[int]) -> dict[int, Normal]:
    """What lasts of snapshots, by id of content. Raises StoreError for damaged content."""
    return {key: _decoded(read_normal, body, key) for key, body in bodies(connection, keys)}


def bodies(connection: Connection, keys: set[int]) -> Iterator[tuple[int, bytes]]:
    """Contents as they are stored, packed, by id."""
    for some in chunks(sorted(keys)):
        query = select(CONTENTS.c.id, CONTENTS.c.body).where(CONTENTS.c.id.in_(some))
        yield from ((key, bytes(body)) for key, body in connection.execute(query))


_HOSTS: Select[Any] = select(
    HOSTS.c.name,
    HOST_RUNS.c.status,
    HOST_RUNS.c.detail,
    HOST_RUNS.c.looked_at,
    HOST_RUNS.c.lasting,
    HOST_RUNS.c.body,
    HOST_RUNS.c.judgement,
).join_from(HOST_RUNS, HOSTS, HOSTS.c.id == HOST_RUNS.c.host)


def _begins(query: Select[Any], name: str) -> Select[Any]:
    return query.where(func.substr(RUNS.c.run_id, 1, len(name)) == name)


def _offer(connection: Connection) -> str:
    names = [run.run_id for run in runs(connection, _NAMED)]
    return f"the latest: {', '.join(map(visible, names))}" if names else "it is empty: audit --store"


def _run(row: Sequence[Any]) -> StoredRun:
    try:
        record = json.loads(zlib.decompress(row[-1]))
    except (zlib.error, ValueError) as error:
        raise StoreError(f"the history is damaged: the record of run {visible(row[1])}") from error
    values: tuple[Any, ...] = (*row[:-1], record)
    return StoredRun(*values)


def _decoded(read: Any, body: bytes, key: int) -> Any:
    try:
        return read(zlib.decompress(body))
    except (zlib.error, ValueError) as error:
        raise StoreError(f"the history is damaged: content {key} cannot be read") from error
