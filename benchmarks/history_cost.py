"""What keeping runs costs: CPU time and disk of a run in the history, beside the audit itself.

    python -m benchmarks.history_cost [--hosts 10000] [--store postgresql://USER@HOST/DATABASE]

The clock runs in the recorder alone (process time, so a server's own is not in it); hosts are made and judged
while it stands. The file is measured after its journal has been written back, a database by what it says
of itself.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import text

from benchmarks import policy_world
from benchmarks.results import processor
from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.history.comparing import compare
from fleetaudit.history.place import store_place
from fleetaudit.history.reading import find_run
from fleetaudit.history.recording import Recorder
from fleetaudit.history.store import Store, open_store
from fleetaudit.judgement import report
from fleetaudit.model import HostAudit, Run
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import Gate, Tally

ROOT: Final = Path(__file__).resolve().parents[1]
CPU_LIMIT: Final = 10.0  # seconds for 10,000 hosts, most of them unchanged
DISK_LIMIT: Final = 10.0  # MB for the same
GARBAGE_AFTER: Final = 20_000  # objects, as the command sets it
CHANGED: Final = 20  # one host in so many has another owner


@dataclass(frozen=True, slots=True)
class Kept:
    """One run kept: CPU seconds of the recorder, growth of the store in MB; `judged` as a limit says."""

    name: str
    hosts: int
    cpu: float
    disk: float
    judged: bool = False


class Clock:
    """CPU seconds of this process, without what happens while a source is asked for its next audit."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = time.process_time()

    def stop(self) -> None:
        if self._since is not None:
            self.spent += time.process_time() - self._since
        self._since = None

    def around(self, source: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """The audits; the clock stands while each is made and freed, which no audit goes without."""
        audits = iter(source)
        alive: deque[HostAudit | None] = deque(maxlen=3)  # who iterates holds on to one or two
        while True:
            self.stop()
            audit = next(audits, None)
            alive.append(audit)
            self.start()
            if audit is None:
                return
            yield audit


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the table. Exit code 1 when a limit is broken."""
    parser = argparse.ArgumentParser(prog="history_cost", description="Measure what keeping runs costs.")
    parser.add_argument("--hosts", type=int, default=10_000, help="hosts of a run (10000)")
    parser.add_argument("--store", default="", help="an empty store (default: a temporary file)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/RESULTS-history.md")
    given = parser.parse_args(arguments)
    if given.hosts < 20:
        parser.error("--hosts is at least 20")
    gc.set_threshold(GARBAGE_AFTER)
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        place = store_place(given.store, Path(folder))
        with open_store(place, create=True) as store:
            kept = measure(store, given.hosts)
    engine = "PostgreSQL" if place.path is None else "SQLite"
    text_, good = render(kept, engine, _facts())
    given.output.write_text(text_, encoding="utf-8")
    sys.stderr.write(f"history_cost: wrote {given.output}\n")
    return 0 if good else 1


def measure(store: Store, hosts: int) -> list[Kept]:
    """Three runs: all hosts new, one in twenty changed, and all restarted; then two of them compared.

    Raises RuntimeError when what is kept is not what was given.
    """
    document = yamlio.parse(json.dumps(policy_world.policy()).encode(), "policy.yaml")
    policies = load([(document, "")])
    kept = [
        _keep(store, "first", "every host new", hosts, policies),
        _keep(store, "second", f"1 host in {CHANGED} changed", hosts, policies, changed=CHANGED, judged=True),
        _keep(store, "third", "every host restarted", hosts, policies, changed=CHANGED, restarted=True),
    ]
    clock = Clock()
    clock.start()
    with store.reading() as connection:
        found = compare(connection, find_run(connection, "first"), find_run(connection, "second"))
        calm = compare(connection, find_run(connection, "second"), find_run(connection, "third"))
    clock.stop()
    if (len(found.changed), len(calm.changed)) != (-(-hosts // CHANGED), 0):
        raise RuntimeError(f"{len(found.changed)} hosts changed, and {len(calm.changed)} by a restart")
    return [*kept, Kept("history diff, twice", hosts, clock.spent, 0.0)]


def _keep(
    store: Store,
    run_id: str,
    name: str,
    hosts: int,
    policies: Sequence[Policy],
    *,
    changed: int = 0,
    restarted: bool = False,
    judged: bool = False,
) -> Kept:
    before = _size(store)
    moment = datetime.datetime.now(datetime.timezone.utc).isoformat()
    run = Run(run_id, moment, moment, "0")
    tally = Tally(Gate())
    audits = (
        evaluate(derive(decode_line(line)), policies) for line in _lines(hosts, changed, restarted=restarted)
    )
    clock = Clock()
    recorder = Recorder(lambda: store, run)
    clock.start()
    for _ in recorder.over(clock.around(tally.over(audits))):
        pass
    whole = report((), policies, run, tally)
    recorder.finish(whole.summary(), {})
    clock.stop()
    if recorder.failure is not None:
        raise RuntimeError(str(recorder.failure))
    return Kept(name, hosts, clock.spent, (_size(store) - before) / 1e6, judged)


def _lines(hosts: int, changed: int, *, restarted: bool) -> Iterator[bytes]:
    """Hosts that share nothing: each has units of its own."""
    for number, line in enumerate(policy_world.snapshots(hosts)):
        own = line.replace(b'"/system.slice/', b'"/system.slice/h%d-' % number)
        if changed and number % changed == 0:
            own = own.replace(b'"/usr/sbin/nginx"', b'"/usr/sbin/openresty"')
        if restarted:
            own = own.replace(b'"start_time": ', b'"start_time": 7').replace(b'"boot-', b'"again-')
        yield own


def _size(store: Store) -> int:
    store.shrink()
    if store.place.path is not None:
        return store.place.path.stat().st_size
    with store.reading() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _facts() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    where = f"kernel {platform.release()}, {os.cpu_count()} cores ({processor()})"
    where += f", Python {platform.python_version()}"
    return f"{now:%Y-%m-%d %H:%M} UTC, {where}; load average {loads} (1, 5, 15 minutes)"


def render(kept: Sequence[Kept], engine: str, facts: str = "") -> tuple[str, bool]:
    """The results, and whether they keep the limits, which are scaled to the number of hosts."""
    share = kept[0].hosts / 10_000
    rows = [
        "# What keeping runs costs",
        "",
        f"Written by `make bench-history`. {engine}; {kept[0].hosts:,} hosts, 50 listeners each, 3 owners of",
        "each, 20 rules; no two hosts alike. What the recorder costs, beside collecting and judging.",
        "",
        facts,
        "",
        "| run | CPU s | limit | store grows, MB | limit |",
        "|---|---|---|---|---|",
    ]
    for it in kept:
        cpu, disk = (f"{CPU_LIMIT * share:.1f}", f"{DISK_LIMIT * share:.1f}") if it.judged else ("", "")
        rows.append(f"| {it.name} | {it.cpu:.2f} | {cpu} | {it.disk:.2f} | {disk} |")
    good = all(it.cpu <= CPU_LIMIT * share and it.disk <= DISK_LIMIT * share for it in kept if it.judged)
    return "\n".join([*rows, ""]), good


if __name__ == "__main__":
    sys.exit(main())
