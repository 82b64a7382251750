"""One host's or one rule's past: who listened there, since when a rule fails, how counts went."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, OutputError, Problem, StoreError
from fleetaudit.history.lines import outcome_of
from fleetaudit.history.normal import (
    Endpoint,
    Held,
    Holder,
    Normal,
    Volatile,
    endpoint_words,
    normal_and_volatile,
)
from fleetaudit.history.reading import StoredRun, bodies, normals, runs
from fleetaudit.history.schema import FINDINGS, HOST_RUNS, HOSTS, RULES, RUNS, VERDICTS
from fleetaudit.text import visible


@dataclass(frozen=True, slots=True)
class Look:
    """One time that a host was asked; `lasting` is None when it did not answer."""

    run_id: str
    looked_at: str
    status: str
    detail: str
    lasting: int | None
    body: int | None
    told: str


@dataclass(frozen=True, slots=True)
class Listening:
    """One endpoint as it was: who held it, and as which processes."""

    endpoint: Endpoint
    holders: tuple[Holder, ...]
    held: tuple[tuple[Holder, Held], ...]

    @property
    def words(self) -> str:
        """The endpoint for a person."""
        return endpoint_words(self.endpoint)


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one rule in one run, and its open findings (fingerprint, endpoint, reason)."""

    run_id: str
    started_at: str
    verdict: str
    findings: tuple[tuple[str, str, str], ...]


def looks(connection: Connection, host: str) -> list[Look]:
    """Every time that the host was asked, earliest first. Raises ConfigError for a host never heard of."""
    query = (
        select(
            RUNS.c.run_id,
            HOST_RUNS.c.looked_at,
            HOST_RUNS.c.status,
            HOST_RUNS.c.detail,
            HOST_RUNS.c.lasting,
            HOST_RUNS.c.body,
            HOST_RUNS.c.told,
        )
        .join_from(HOST_RUNS, RUNS, RUNS.c.id == HOST_RUNS.c.run)
        .where(HOST_RUNS.c.host == _host_key(connection, host))
        .order_by(HOST_RUNS.c.looked_at, RUNS.c.id)
    )
    return [Look(*row) for row in connection.execute(query)]


def listening(connection: Connection, look: Look, port: int | None) -> tuple[Listening, ...]:
    """The endpoints of a look; with `port` those of this number, one that the kernel chose too."""
    if look.lasting is None:
        return ()
    normal, volatile = _parts(connection, look, look.lasting)
    found = []
    for place, endpoint in enumerate(normal.endpoints):
        sockets = volatile.endpoints[place] if volatile else None
        ports = (
            {endpoint.port} | {str(number) for _, number in sockets.sockets} if sockets else {endpoint.port}
        )
        if port is None or str(port) in ports:
            holders = tuple(normal.holders[it] for it in endpoint.holders)
            held = tuple((normal.holders[it.holder], it) for it in sockets.held) if sockets else ()
            found.append(Listening(endpoint, holders, held))
    return tuple(found)


def _parts(connection: Connection, look: Look, lasting: int) -> tuple[Normal, Volatile | None]:
    """What was stored of the host; with its snapshot, if that is kept, also as which processes."""
    if look.body is None:
        return normals(connection, {lasting})[lasting], None
    (body,) = dict(bodies(connection, {look.body})).values()
    try:
        snapshot = derive(outcome_of(zlib.decompress(body), look.told)).snapshot
    except (zlib.error, ValueError, OutputError) as error:
        raise StoreError(f"the history is damaged: content {look.body} cannot be read") from error
    if snapshot is None:
        raise StoreError(f"the history is damaged: content {look.body} is no snapshot")
    return normal_and_volatile(snapshot)


def judged(connection: Connection, rule: str, host: str) -> list[Judged]:
    """The rule (`RULE` or `POLICY/RULE`) on the host, run by run, earliest first; whole runs only.

    Raises ConfigError for a host or rule never heard of, and for a rule that several policies have.
    """
    key = _host_key(connection, host)
    keys = _rule_keys(connection, rule)
    query = (
        select(RUNS.c.run_id, RUNS.c.started_at, VERDICTS.c.verdict, HOST_RUNS.c.judgement, VERDICTS.c.rule)
        .join_from(HOST_RUNS, RUNS, RUNS.c.id == HOST_RUNS.c.run)
        .join(VERDICTS, VERDICTS.c.judgement == HOST_RUNS.c.judgement)
        .where(HOST_RUNS.c.host == key, VERDICTS.c.rule.in_(keys), RUNS.c.finished)
        .order_by(RUNS.c.started_at, RUNS.c.id)
    )
    rows = connection.execute(query).all()
    findings = _findings(connection, {(row.judgement, row.rule) for row in rows})
    return [
        Judged(row.run_id, row.started_at, row.verdict, findings.get((row.judgement, row.rule), ()))
        for row in rows
    ]


def verdict_counts(
    connection: Connection, rule: str, last: int
) -> Iterator[tuple[StoredRun, dict[str, int]]]:
    """How many hosts had which verdict of a rule, run by run, earliest first of the `last` whole ones.

    Raises ConfigError.
    """
    keys = _rule_keys(connection, rule)
    for run in finished(connection, last):
        query = (
            select(VERDICTS.c.verdict, func.count())
            .join_from(HOST_RUNS, VERDICTS, VERDICTS.c.judgement == HOST_RUNS.c.judgement)
            .where(HOST_RUNS.c.run == run.key, VERDICTS.c.rule.in_(keys))
            .group_by(VERDICTS.c.verdict)
        )
        yield run, {row[0]: row[1] for row in connection.execute(query)}


def finished(connection: Connection, last: int) -> list[StoredRun]:
    """The `last` runs that are whole, earliest first."""
    return runs(connection, last, whole=True)[::-1]


def _findings(
    connection: Connection, wanted: set[tuple[int, int]]
) -> dict[tuple[int, int], tuple[tuple[str, str, str], ...]]:
    found: dict[tuple[int, int], tuple[tuple[str, str, str], ...]] = {}
    for judgement, rule in wanted:
        query = (
            select(FINDINGS.c.fingerprint, FINDINGS.c.endpoint, FINDINGS.c.reason)
            .where(FINDINGS.c.judgement == judgement, FINDINGS.c.rule == rule)
            .order_by(FINDINGS.c.number)
        )
        found[(judgement, rule)] = tuple((it[0], it[1], it[2]) for it in connection.execute(query))
    return found


def _host_key(connection: Connection, host: str) -> int:
    key = connection.execute(select(HOSTS.c.id).where(HOSTS.c.name == host)).scalar()
    if key is None:
        raise ConfigError(Problem(f"no run in the history asked a host '{visible(host)}'"))
    return int(key)


def _rule_keys(connection: Connection, rule: str) -> list[int]:
    """A rule whose severity changed has several."""
    policy, _, name = rule.rpartition("/")
    query: Select[Any] = select(RULES.c.id, RULES.c.policy).where(RULES.c.rule == name)
    found = connection.execute(query.where(RULES.c.policy == policy) if policy else query).all()
    policies = sorted({row.policy for row in found})
    if not found:
        raise ConfigError(Problem(f"no run in the history judged a rule '{visible(rule)}'"))
    if len(policies) > 1:
        names = " or ".join(visible(f"{it}/{name}") for it in policies)
        raise ConfigError(Problem(f"rule '{visible(rule)}' is in several policies", hint=f"write {names}"))
    return [row.id for row in found]
