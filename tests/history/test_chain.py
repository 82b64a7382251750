"""The chain of manifests in a store: audits at once make one, and deleting runs does not cut it."""

from __future__ import annotations

import json
import threading

import pytest

from fleetaudit.errors import StoreError
from fleetaudit.evidence.manifest import digest
from fleetaudit.history.place import StorePlace
from fleetaudit.history.reading import find_manifest, find_run, links, proof_of
from fleetaudit.history.recording import Recorder, keep_signature
from fleetaudit.history.schema import RUNS
from fleetaudit.history.store import Store, open_store
from fleetaudit.judgement import report
from fleetaudit.model import Run
from fleetaudit.summary import Gate, Tally
from tests.build import process, socket
from tests.history.keep import POLICY, host

PLAIN = host("web1", [socket(80, (80,))], {80: process()})


def record(store: Store, run_id: str, barrier: threading.Barrier | None = None) -> None:
    """A run whose manifest names the one before it."""
    run = Run(run_id, "2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.000Z", "0.1.0")
    whole = report(iter([PLAIN]), [POLICY], run, Tally(Gate()))
    recorder = Recorder(lambda: store, run)
    for _ in recorder.over(whole.audits):
        pass
    if barrier is not None:
        barrier.wait(60)
    recorder.finish(whole.summary(), {}, lambda previous: json.dumps([run_id, previous]).encode())
    assert recorder.failure is None


def test_runs_that_end_at_once_are_one_chain(place: StorePlace) -> None:
    open_store(place, create=True).close()
    together = threading.Barrier(5)
    names = [f"r{number}" for number in range(5)]
    threads = [
        threading.Thread(target=record, args=(open_store(place, create=False), name, together))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with open_store(place, create=False) as store, store.reading() as connection:
        chain = links(connection)
        manifests = [find_manifest(connection, run) for run, _ in chain]
    assert sorted(run for run, _ in chain) == names
    before: list[str] | None = None
    for (run, sha256), manifest in zip(chain, manifests, strict=True):
        assert manifest is not None
        assert (json.loads(manifest), digest(manifest)) == ([run, before], sha256)
        before = [run, sha256]


def test_a_manifest_comes_back_as_it_was_or_not_at_all(place: StorePlace) -> None:
    for run in ("r1", "r2"):
        record(open_store(place, create=True), run)
    with open_store(place, create=False) as store:
        keep_signature(store, "r2", "signed")
        with store.reading() as connection:
            chain = links(connection)
            manifest, signature = proof_of(connection, find_run(connection, "r2"))
            assert find_manifest(connection, "r3") is None
        assert (digest(manifest), signature) == (chain[1][1], "signed")
        with store.writing() as connection:
            connection.execute(RUNS.update().where(RUNS.c.run_id == "r2").values(manifest=b"damaged"))
            connection.execute(RUNS.update().where(RUNS.c.run_id == "r1").values(manifest=None))
        with store.reading() as connection:
            assert find_manifest(connection, "r2") == b""
            assert find_manifest(connection, "r1") is None
            assert links(connection) == chain
            stored = find_run(connection, "r2")
            with pytest.raises(StoreError, match="the manifest of run r2"):
                proof_of(connection, stored)
