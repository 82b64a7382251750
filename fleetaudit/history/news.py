"""What a run in the history says that the runs before it did not: per host, since it was last seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from fleetaudit.history.reading import StoredRun
from fleetaudit.history.schema import FINDINGS, HOST_RUNS, HOSTS, RULES, RUNS, VERDICTS
from fleetaudit.history.store import chunks
from fleetaudit.notify.base import Item, Kind

_OPEN = frozenset({"unknown", "error"})


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of a host: the verdict of each rule, and its violations by fingerprint."""

    verdicts: Mapping[tuple[str, str], tuple[str, str]]  # (policy, rule) -> (severity, verdict)
    findings: Mapping[str, Item]


_NOTHING = _Said({}, {})


def news(connection: Connection, run: StoredRun) -> tuple[Item, ...]:
    """What is new in a run, by host and gravity.

    Compared is each host with the last whole run before that reached it, so what failed before a host was
    away for some time is not new when it is back. A host never seen before is new altogether.
    """
    now = {row.name: row for row in connection.execute(_looks(HOST_RUNS.c.run == run.key))}
    last = _before(connection, run, reached=False)
    seen = _before(connection, run, reached=True)
    said = _said(connection, {row.judgement for table in (now, seen) for row in table.values()})
    found: list[Item] = []
    for name in sorted(now):
        row, before, reached = now[name], last.get(name), seen.get(name)
        found += _of_host(row, before)
        if row.lasting is None or (reached is not None and reached.judgement == row.judgement):
            continue
        then = said.get(reached.judgement, _NOTHING) if reached is not None else _NOTHING
        found += _of_rules(name, said.get(row.judgement, _NOTHING), then)
    return tuple(found)


def _of_host(now: Row[Any], before: Row[Any] | None) -> Iterator[Item]:
    away = before is not None and before.lasting is None
    if now.lasting is None and not away:
        yield Item(Kind.HOST_LOST, now.name, reason=f"{now.status}: {now.detail}".removesuffix(": "))
    elif now.lasting is not None and away:
        yield Item(Kind.HOST_BACK, now.name, reason=now.status)


def _of_rules(host: str, now: _Said, then: _Said) -> Iterator[Item]:
    for fingerprint in sorted(now.findings.keys() - then.findings.keys()):
        yield now.findings[fingerprint].on(host)
    for fingerprint in sorted(then.findings.keys() - now.findings.keys()):
        item = then.findings[fingerprint]
        known = now.verdicts.get((item.policy, item.rule))
        if known is not None and known[1] not in _OPEN:
            yield item.on(host, Kind.RESOLVED)
    for (policy, rule), (severity, verdict) in sorted(now.verdicts.items()):
        before = then.verdicts.get((policy, rule))
        if verdict in _OPEN and (before is None or before[1] not in _OPEN):
            yield Item(Kind.UNDECIDED, host, policy, rule, severity, reason=verdict)


def _looks(*conditions: Any) -> Any:
    return (
        select(
            HOSTS.c.name,
            HOST_RUNS.c.status,
            HOST_RUNS.c.detail,
            HOST_RUNS.c.lasting,
            HOST_RUNS.c.judgement,
        )
        .join_from(HOST_RUNS, HOSTS, HOSTS.c.id == HOST_RUNS.c.host)
        .where(*conditions)
    )


def _before(connection: Connection, run: StoredRun, *, reached: bool) -> dict[str, Row[Any]]:
    """Each host's last look in a whole run that was kept before this one."""
    whole = select(RUNS.c.id).where(RUNS.c.finished, RUNS.c.id < run.key)
    query = select(HOST_RUNS.c.host, func.max(HOST_RUNS.c.run).label("run")).where(HOST_RUNS.c.run.in_(whole))
    if reached:
        query = query.where(HOST_RUNS.c.lasting.is_not(None))
    last = query.group_by(HOST_RUNS.c.host).subquery()
    looks = _looks().join(last, (last.c.host == HOST_RUNS.c.host) & (last.c.run == HOST_RUNS.c.run))
    return {row.name: row for row in connection.execute(looks)}


def _said(connection: Connection, judgements: Iterable[int]) -> dict[int, _Said]:
    verdicts: dict[int, dict[tuple[str, str], tuple[str, str]]] = defaultdict(dict)
    findings: dict[int, dict[str, Item]] = defaultdict(dict)
    rule = (RULES.c.policy, RULES.c.rule, RULES.c.severity)
    for some in chunks(sorted(judgements)):
        query = select(VERDICTS.c.judgement, *rule, VERDICTS.c.verdict)
        query = query.join_from(VERDICTS, RULES, RULES.c.id == VERDICTS.c.rule)
        for row in connection.execute(query.where(VERDICTS.c.judgement.in_(some))):
            verdicts[row.judgement][row.policy, row.rule] = (row.severity, row.verdict)
        failing = select(
            FINDINGS.c.judgement, *rule, FINDINGS.c.fingerprint, FINDINGS.c.endpoint, FINDINGS.c.reason
        ).join_from(FINDINGS, RULES, RULES.c.id == FINDINGS.c.rule)
        failing = failing.where(FINDINGS.c.judgement.in_(some), FINDINGS.c.verdict == "fail")
        for it in connection.execute(failing):
            item = Item(Kind.VIOLATION, "", it.policy, it.rule, it.severity, it.endpoint, it.reason)
            findings[it.judgement][it.fingerprint] = item
    return {key: _Said(verdicts[key], findings[key]) for key in verdicts}
