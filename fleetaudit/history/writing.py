"""Contents, verdicts and findings put into their tables, each different one once; ids are given here."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select

from fleetaudit.errors import StoreError
from fleetaudit.history.schema import CONTENTS, FINDINGS, JUDGEMENTS, RULES, VERDICTS
from fleetaudit.history.store import chunks, put


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was said of a host, by its digest."""

    digest: bytes
    results: tuple[tuple[str, str, str, str], ...]  # policy, rule, severity, verdict
    findings: tuple[
        tuple[int, str, str, str, str], ...
    ]  # place in results, fingerprint, verdict, endpoint, reason


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes by their digest. `data` None: the run before has them in the store."""

    digest: bytes
    data: bytes | None


def digest_of(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def content_of(data: bytes) -> Content:
    """The bytes with their digest."""
    return Content(digest_of(data), data)


def _lost(_digest: bytes) -> bytes:
    raise StoreError("the history lost what it had")


def put_contents(
    connection: Connection, parts: Iterable[Content], again: Callable[[bytes], bytes] = _lost
) -> dict[bytes, int]:
    """Ids of contents, new ones added; `again` makes one that ought to have been there, and is not."""
    bodies: dict[bytes, bytes | None] = {}
    for part in parts:
        bodies[part.digest] = bodies.get(part.digest) or part.data
    known = _known(connection, CONTENTS, "digest", bodies)
    missing = {
        digest: {"body": zlib.compress(bodies[digest] or again(digest))}
        for digest in bodies.keys() - known.keys()
    }
    return known | _add(connection, CONTENTS, "digest", missing)


def put_judgements(connection: Connection, judgements: Mapping[bytes, Judgement]) -> dict[bytes, int]:
    """Ids of judgements by digest; new ones are added, with their verdicts and findings."""
    known = _known(connection, JUDGEMENTS, "digest", judgements)
    added = _add(connection, JUDGEMENTS, "digest", {it: {} for it in judgements.keys() - known.keys()})
    fresh = [(key, judgements[digest]) for digest, key in added.items()]
    rules = _rules(connection, {row[:3] for _, judgement in fresh for row in judgement.results})
    verdicts = [
        {"judgement": key, "rule": rules[row[:3]], "verdict": row[3]}
        for key, judgement in fresh
        for row in judgement.results
    ]
    findings = [
        {
            "judgement": key,
            "number": number,
            "rule": rules[judgement.results[place][:3]],
            "fingerprint": fingerprint,
            "verdict": verdict,
            "endpoint": endpoint,
            "reason": reason,
        }
        for key, judgement in fresh
        for number, (place, fingerprint, verdict, endpoint, reason) in enumerate(judgement.findings)
    ]
    put(connection, VERDICTS, verdicts)
    put(connection, FINDINGS, findings)
    return known | added


def _rules(connection: Connection, wanted: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    if not wanted:
        return {}
    rows = connection.execute(select(RULES.c.policy, RULES.c.rule, RULES.c.severity, RULES.c.id)).all()
    known = {(policy, rule, severity): key for policy, rule, severity, key in rows}
    fresh = dict(enumerate(sorted(wanted - known.keys()), next_id(connection, RULES)))
    put(
        connection,
        RULES,
        [{"id": key, "policy": it[0], "rule": it[1], "severity": it[2]} for key, it in fresh.items()],
    )
    return known | {it: key for key, it in fresh.items()}


def put_ids(
    connection: Connection, table: Table, column: str, wanted: Mapping[Any, Mapping[str, object]]
) -> dict[Any, int]:
    """Ids of rows by what is in a column; new ones are added."""
    known = _known(connection, table, column, wanted)
    missing = {value: wanted[value] for value in wanted.keys() - known.keys()}
    return known | _add(connection, table, column, missing)


def _known(connection: Connection, table: Table, column: str, values: Iterable[Any]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    field = table.c[column]
    for some in chunks(values):
        rows = connection.execute(select(field, table.c.id).where(field.in_(some))).all()
        found |= {bytes(value) if isinstance(value, memoryview) else value: key for value, key in rows}
    return found


def _add(
    connection: Connection, table: Table, column: str, rows: Mapping[Any, Mapping[str, object]]
) -> dict[Any, int]:
    """New rows with ids given here: nobody else is writing."""
    if not rows:
        return {}
    given = {value: key for key, value in enumerate(sorted(rows), next_id(connection, table))}
    put(connection, table, [{"id": key, column: value, **rows[value]} for value, key in given.items()])
    return given


def next_id(connection: Connection, table: Table) -> int:
    """One more than the greatest there is: nobody else is writing."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()) + 1
