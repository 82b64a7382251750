"""A run as it passes, put into a store in batches; what fails here never stops the run."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from fleetaudit.derive import derive
from fleetaudit.errors import StoreError
from fleetaudit.history.lines import outcome_of, told_part
from fleetaudit.history.normal import lasting_part, listener_words
from fleetaudit.history.schema import (
    CONTENTS,
    HOST_RUNS,
    HOSTS,
    LINKS,
    RUNS,
)
from fleetaudit.history.store import Store, put
from fleetaudit.history.times import told
from fleetaudit.history.writing import (
    Content,
    Judgement,
    content_of,
    digest_of,
    next_id,
    put_contents,
    put_ids,
    put_judgements,
)
from fleetaudit.model import HostAudit, Result, Run, Summary, Verdict

BATCH: Final = 500  # hosts in one transaction
_PID = re.compile(r"pid \d+, | ?\(pid \d+\)|,? ?\bpid \d+")


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of one host's audit."""

    host: str
    status: str
    detail: str
    looked_at: str
    snapshot_sha256: bytes | None
    lasting: Content | None
    body: Content | None
    told: str
    judgement: Judgement


class Recorder:
    """Puts the audits of one run into a store as they pass.

    `inputs` is what judged the run, as bytes; with `inventory_given` what is said of a host is not what its
    line says. The first failure ends the recording and is kept in `failure`; audits pass all the same. A run
    that is not finished stays in the store as one that was cut short.
    """

    def __init__(
        self,
        open_: Callable[[], Store],
        run: Run,
        *,
        inputs: bytes | None = None,
        inventory_given: bool = False,
    ) -> None:
        self.failure: StoreError | None = None
        self._open = open_
        self._store: Store | None = None
        self._run = run
        self._inputs = inputs
        self._inventory_given = inventory_given
        self._key = 0
        self._before: Mapping[bytes, bytes] = {}
        self._batch: list[_Look] = []

    def over(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """The same audits, recorded."""
        self._attempt(self._begin)
        for audit in audits:
            if self.failure is None:
                self._batch.append(
                    _look(audit, self._run, self._before, inventory_given=self._inventory_given)
                )
                if len(self._batch) >= BATCH:
                    self._attempt(self._flush)
            yield audit

    def finish(
        self,
        summary: Summary,
        record: Mapping[str, object],
        manifest: Callable[[tuple[str, str] | None], bytes] | None = None,
    ) -> None:
        """Record what is left, and that this was all; `record` is what is said of the run, as JSON.

        `manifest` is made here, of the id and the manifest's digest of the run before: nobody else can come
        between. It may not wait.
        """
        if self.failure is None:
            self._attempt(lambda: self._end(summary, record, manifest))
        if self._store is not None:
            self._store.close()

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StoreError as error:
            self.failure = error
            self._batch.clear()

    def _begin(self) -> None:
        self._store = self._open()
        run = self._run
        with self._store.writing() as connection:
            self._key = next_id(connection, RUNS)
            row = {
                "id": self._key,
                "run_id": self._free_id(connection),
                "started_at": run.started_at,
                "ended_at": run.finished_at,
                "version": run.version,
                "finished": False,
                "complete": run.complete,
                "exit_code": None,
                "record": _packed({}),
                "inputs": None,
                "manifest": None,
                "signature": None,
            }
            if self._inputs is not None:
                (row["inputs"],) = put_contents(connection, [content_of(self._inputs)]).values()
            if not self._inventory_given:
                self._before = _lasting_of_bodies(connection, run.version)
            put(connection, RUNS, [row])

    def _free_id(self, connection: Connection) -> str:
        """A run that is gone on with, or whose store failed the first time, takes the place of its past."""
        past = select(RUNS.c.id, RUNS.c.finished, RUNS.c.complete).where(RUNS.c.run_id == self._run.id)
        for key, finished, complete in connection.execute(past).all():
            if finished and complete:
                raise StoreError(f"the history has a run {self._run.id} already")
            connection.execute(HOST_RUNS.delete().where(HOST_RUNS.c.run == key))
            connection.execute(RUNS.delete().where(RUNS.c.id == key))
        return self._run.id

    def _flush(self) -> None:
        if self._batch and self._store is not None:
            with self._store.writing() as connection:
                self._write(connection)
            self._batch.clear()

    def _end(
        self,
        summary: Summary,
        record: Mapping[str, object],
        manifest: Callable[[tuple[str, str] | None], bytes] | None,
    ) -> None:
        if self._store is None:
            return
        with self._store.writing() as connection:
            self._write(connection)
            ended: dict[str, Any] = {"finished": True, "exit_code": int(summary.exit_code)}
            ended["record"] = _packed(record)
            if manifest is not None:
                made = manifest(last_link(connection))
                ended["manifest"] = zlib.compress(made)
                link = {"run_id": self._run.id, "sha256": hashlib.sha256(made).hexdigest()}
                put(connection, LINKS, [{"id": next_id(connection, LINKS), **link}])
            if connection.execute(update(RUNS).where(RUNS.c.id == self._key).values(ended)).rowcount != 1:
                raise StoreError(f"run {self._run.id} was deleted from the history while it was recorded")
        self._batch.clear()

    def _write(self, connection: Connection) -> None:
        looks = self._batch
        hosts = put_ids(connection, HOSTS, "name", {look.host: {} for look in looks})
        parts = (part for look in looks for part in (look.lasting, look.body) if part is not None)
        contents = put_contents(connection, parts, lambda digest: _lasting_again(looks, digest))
        judgements = put_judgements(connection, {look.judgement.digest: look.judgement for look in looks})
        rows = [
            {
                "host": hosts[look.host],
                "run": self._key,
                "status": look.status,
                "detail": look.detail,
                "looked_at": look.looked_at,
                "snapshot_sha256": look.snapshot_sha256,
                "lasting": None if look.lasting is None else contents[look.lasting.digest],
                "body": None if look.body is None else contents[look.body.digest],
                "told": look.told,
                "judgement": judgements[look.judgement.digest],
            }
            for look in looks
        ]
        put(connection, HOST_RUNS, rows)


def _look(audit: HostAudit, run: Run, before: Mapping[bytes, bytes], *, inventory_given: bool) -> _Look:
    outcome, snapshot = audit.outcome, audit.outcome.snapshot
    body, told_of = told_part(outcome, inventory_given=inventory_given)
    content = None if body is None else content_of(body)
    same = before.get(content.digest) if content and snapshot else None
    collected_at = snapshot.collected_at if snapshot else None
    sha256 = outcome.snapshot_sha256
    return _Look(
        host=outcome.host,
        status=outcome.status.value,
        detail=_clean(outcome.detail),
        looked_at=told(outcome.received_at) or told(collected_at) or run.started_at,
        snapshot_sha256=bytes.fromhex(sha256) if sha256 else None,
        lasting=Content(same, None) if same else content_of(lasting_part(snapshot)) if snapshot else None,
        body=content,
        told=told_of,
        judgement=_judgement(audit.results, reached=snapshot is not None),
    )


def _lasting_of_bodies(connection: Connection, version: str) -> Mapping[bytes, bytes]:
    """Digest of what lasts, by that of the body, in the last run of this version: the one implies the other.

    Working it out is a third of what keeping an unchanged host costs.
    """
    last = select(RUNS.c.id).where(RUNS.c.finished, RUNS.c.version == version)
    key = connection.execute(last.order_by(RUNS.c.id.desc()).limit(1)).scalar()
    if key is None:
        return {}
    lasting, body = CONTENTS.alias(), CONTENTS.alias()
    query = (
        select(body.c.digest, lasting.c.digest)
        .join_from(HOST_RUNS, body, body.c.id == HOST_RUNS.c.body)
        .join(lasting, lasting.c.id == HOST_RUNS.c.lasting)
        .where(HOST_RUNS.c.run == key, HOST_RUNS.c.told.not_like('%"inventory"%'))
    )
    return {bytes(one): bytes(other) for one, other in connection.execute(query)}


def _lasting_again(looks: Iterable[_Look], digest: bytes) -> bytes:
    """What lasts, worked out after all: the run that had it was deleted meanwhile."""
    look = next(it for it in looks if it.lasting and it.lasting.digest == digest)
    snapshot = (
        derive(outcome_of(look.body.data, look.told)).snapshot if look.body and look.body.data else None
    )
    if snapshot is None:
        raise StoreError(f"what was seen of {look.host} is lost: the run before was deleted meanwhile")
    return lasting_part(snapshot)


def last_link(connection: Connection) -> tuple[str, str] | None:
    """(run, digest of its manifest) of the last run that has one; None for none."""
    row = connection.execute(
        select(LINKS.c.run_id, LINKS.c.sha256).order_by(LINKS.c.id.desc()).limit(1)
    ).first()
    return None if row is None else (row.run_id, row.sha256)


def keep_signature(store: Store, run_id: str, signature: str) -> None:
    """Keep the signature of a run's manifest. Raises StoreError."""
    with store.writing() as connection:
        connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(signature=signature))


def judgement_digest(audit: HostAudit) -> bytes:
    """What the verdicts and findings of a host's audit are known by: equal ones have equal digests."""
    return _judgement(audit.results, reached=audit.outcome.snapshot is not None).digest


def _judgement(results: Sequence[Result], *, reached: bool) -> Judgement:
    """Findings that only say what the verdict, or the host's status, says already are left out."""
    rows = tuple((it.policy, it.rule, it.severity.value, it.verdict.value) for it in results)
    findings = tuple(
        (
            place,
            finding.fingerprint,
            finding.verdict.value,
            _clean(listener_words(finding.listener)) if finding.listener else "",
            _clean(_PID.sub("", finding.reason)),
        )
        for place, result in enumerate(results)
        for finding in result.findings
        if reached and finding.verdict not in (Verdict.NOT_APPLICABLE, Verdict.PASS)
    )
    return Judgement(digest_of(msgspec.json.encode((rows, findings))), rows, findings)


def _packed(record: Mapping[str, object]) -> bytes:
    return zlib.compress(json.dumps(record, sort_keys=True).encode())


def _clean(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\\u0000")
