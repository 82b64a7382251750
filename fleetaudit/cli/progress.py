"""What a person sees while hosts are being asked: on standard error, and a bar only on a terminal."""

from __future__ import annotations

import sys
import threading

import click

from fleetaudit.events import Observer
from fleetaudit.model import HostStatus
from fleetaudit.text import visible


class Lines(Observer):
    """With `-v`: a line per host as it ends."""

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """Say how this host ended."""
        how = "answered" if status is HostStatus.OK else status.value  # ok or partial is judged later
        text = f"{visible(host)}: {how} in {seconds:.1f} s"
        click.echo(f"{text}: {visible(detail)}" if detail else text, err=True)


class Bar(Observer):
    """A progress bar with counts; rich is imported only when there is a terminal to draw on."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  (start-up time)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (
            TextColumn("asking hosts"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("hosts", total=None, note="")
        self._failed = 0
        self._lock = threading.Lock()

    def run_started(self, targets: int) -> None:
        """Begin drawing."""
        self._progress.update(self._task, total=targets)
        self._progress.start()

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """Advance by one."""
        with self._lock:
            self._failed += status not in (HostStatus.OK, HostStatus.PARTIAL)
            note = f"{self._failed} failed" if self._failed else ""
            self._progress.update(self._task, advance=1, note=note)

    def run_finished(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


def observer(verbose: int, quiet: bool) -> Observer | None:
    """Who watches this run: lines, a bar, or nobody."""
    if verbose:
        return Lines()
    return Bar() if sys.stderr.isatty() and not quiet else None
