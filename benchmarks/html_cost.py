"""What the HTML report of a large fleet costs: CPU time to make, bytes, and until a browser has it ready.

    python -m benchmarks.html_cost [--hosts 10000]

Every host breaks two rules: the findings are twice as many as the hosts. Ready is wall time in headless
Chromium, from asking for the page until its script has drawn the table; the best of the rounds, since other
programs run too.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fleetaudit.model import HostAudit, Report
from fleetaudit.report import RenderOptions, parts
from fleetaudit.summary import Gate, Tally
from tests.report.browser import PROGRAM, Tab, running
from tests.report.cases import (
    LEAK,
    NO_SHELL,
    RUN,
    SERVER,
    SHELL,
    WEB,
    WEB_OWNERS,
    leak,
    reached,
    result,
)

SIZE_LIMIT: Final = 10.0  # MB, for 20,000 findings
READY_LIMIT: Final = 2.0  # seconds, for the same
ROUNDS: Final = 3
GARBAGE_AFTER: Final = 20_000  # objects, as the command sets it


def fleet(hosts: int) -> Iterator[HostAudit]:
    """Hosts of twelve sites, each with a leak under two rules, its own pids, inodes and fingerprints."""
    for number in range(hosts):
        host = f"web{number:05}.example.net"
        shell = replace(LEAK, process=replace(SHELL, pid=1000 + number % 30_000, start_time=number))
        listener = replace(WEB, inode=30_000 + number, owners=(SERVER, shell))
        other = replace(listener, port=8000 + number % 40)
        found = [
            replace(leak(it, shell), fingerprint=f"{place:x}{number:031x}")
            for place, it in enumerate((listener, other))
        ]
        rules = (result(NO_SHELL, host, found[0]), result(WEB_OWNERS, host, found[1]))
        audit = reached(host, *rules)
        context = replace(audit.outcome.context, groups=(f"site{number % 12:02}", "web"))
        yield replace(audit, outcome=replace(audit.outcome, context=context))


def made(hosts: int) -> tuple[float, bytes]:
    """CPU seconds of the renderer, without making the hosts; and the page."""
    tally = Tally(Gate())
    audits = list(fleet(hosts))
    (part,) = parts("html", RenderOptions())
    began = time.process_time()
    page = b"".join(part.renderer(Report(RUN, tally.over(audits), tally.summary)))
    return time.process_time() - began, page


def ready(page: bytes) -> float:
    """Seconds until a browser has the page ready."""
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        path = Path(folder) / "report.html"
        path.write_bytes(page)
        with running(Path(folder) / "profile") as browser:
            return min(_opened(Tab(browser, path, load=False), path) for _ in range(ROUNDS))


def _opened(tab: Tab, path: Path) -> float:
    began = time.monotonic()
    tab.open(path)
    tab.until("document.documentElement.dataset.ready === 'yes'")
    taken = time.monotonic() - began
    tab.close()
    return taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a row of a table. Exit code 1 when a limit is broken, 2 without a browser."""
    parser = argparse.ArgumentParser(
        prog="html_cost", description="Measure the HTML report of a large fleet."
    )
    parser.add_argument("--hosts", type=int, default=10_000, help="hosts, with two findings each (10000)")
    given = parser.parse_args(arguments)
    if PROGRAM is None:
        sys.stderr.write("html_cost: no chromium on this machine\n")
        return 2
    gc.set_threshold(GARBAGE_AFTER)
    cpu, page = made(given.hosts)
    seconds, size = ready(page), len(page) / 1e6
    print("| hosts | findings | made, CPU s | page, MB | ready in Chromium, s |\n|---|---|---|---|---|")
    print(f"| {given.hosts:,} | {2 * given.hosts:,} | {cpu:.1f} | {size:.1f} | {seconds:.1f} |")
    return int(size > SIZE_LIMIT or seconds > READY_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
