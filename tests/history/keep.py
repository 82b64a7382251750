"""Runs put into a store as `audit --store` does it, and databases to put them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import pytest

from fleetaudit.history import recording
from fleetaudit.history.place import StorePlace
from fleetaudit.history.recording import Recorder
from fleetaudit.history.store import Store
from fleetaudit.judgement import report
from fleetaudit.model import Outcome, Run
from fleetaudit.report.record import run_record, summary_record
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import Gate, Tally
from tests.build import Wire, policy, snapshot

POLICY = policy("- id: shells\n  severity: critical\n  deny_owners: [{shell: true}]")


def host(name: str, sockets: Sequence[Wire], processes: Mapping[int, Wire], **fields: Any) -> Outcome:
    """One host's snapshot."""
    wire = snapshot(sockets, processes, **fields)
    wire["host"] = {"name": name, "hostname": name, "boot_id": "b"}
    return decode_line(json.dumps(wire).encode())


def failed(name: str, detail: str = "no route") -> Outcome:
    """A host that did not answer."""
    line = {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": name},
        "status": "unreachable",
        "detail": detail,
    }
    return decode_line(json.dumps(line).encode())


def keep(
    store: Store,
    run_id: str,
    outcomes: Iterable[Outcome],
    *,
    started: str = "2026-11-22T10:00:00.000Z",
    finish: bool = True,
    batch: int = 500,
    between: Callable[[int], None] = lambda _number: None,
) -> Recorder:
    """Judge the outcomes and record the run; `between` is called before each host but the first."""

    def paced() -> Iterator[Outcome]:
        for number, outcome in enumerate(outcomes):
            if number:
                between(number)
            yield outcome

    run = Run(run_id, started, started, "0.1.0")
    whole = report(paced(), [POLICY], run, Tally(Gate()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "BATCH", batch)
        recorder = Recorder(lambda: store, run)
        for _ in recorder.over(whole.audits):
            pass
    if finish:
        summary = whole.summary()
        recorder.finish(summary, {"run": run_record(run), "summary": summary_record(summary)})
    else:
        recorder._flush()
    return recorder


def database(folder: str) -> StorePlace:
    """A new database."""
    import psycopg

    name = f"d{uuid4().hex[:12]}"
    with psycopg.connect(host=folder, user="fleet", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return StorePlace(url=f"postgresql+psycopg://fleet@/{name}?host={folder}")
