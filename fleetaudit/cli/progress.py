"""What is seen while hosts are being asked: on standard error, and a bar only on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime

from fleetaudit.cli.console import say
from fleetaudit.cli.options import Connecting
from fleetaudit.cli.standing import Standing
from fleetaudit.events import Observer
from fleetaudit.judgement import stamp, utc_now
from fleetaudit.model import HostStatus
from fleetaudit.text import visible

PROGRESS_SCHEMA = "fleetaudit.progress/1"


class Lines(Observer):
    """With `-v`: a line per host as it ends."""

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """Say how this host ended."""
        text = f"{visible(host)}: {_how(status)} in {seconds:.1f} s"
        say(f"{text}: {visible(detail)}" if detail else text)


class JsonLines(Observer):
    """One JSON object a line for every event, with the counts after it (docs/fleet.md)."""

    def __init__(
        self,
        run_id: str,
        write: Callable[[str], object],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._run_id = run_id
        self._write = write
        self._now = now
        self._standing = Standing(monotonic)
        self._lock = threading.Lock()

    def run_started(self, targets: int) -> None:
        """Say that it begins, and over how many hosts."""
        self._standing.begin(targets)
        self._tell("run_started", schema=PROGRESS_SCHEMA, run=self._run_id)

    def host_started(self, host: str) -> None:
        """Say that this host is being asked."""
        with self._lock:
            self._standing.host_began(host)
            self._tell("host_started", host=visible(host))

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """Say how this host ended."""
        with self._lock:
            self._standing.host_ended(host, status)
            self._tell(
                "host_finished",
                host=visible(host),
                status=_how(status),
                detail=visible(detail),
                seconds=round(seconds, 3),
            )

    def run_finished(self) -> None:
        """Say that nothing more follows."""
        self._tell("run_finished", run=self._run_id)

    def _tell(self, event: str, **facts: object) -> None:
        counts = asdict(self._standing.counts)
        self._write(json.dumps({"event": event, "time": stamp(self._now()), **facts, **counts}))


class Bar(Observer):
    """A progress bar with counts; rich is imported only when there is a terminal to draw on."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  (start-up time)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        standing = Standing(time.monotonic)

        class Note(ProgressColumn):
            """Written anew at each refresh: who is slow changes while nothing happens."""

            def render(self, task: Task) -> Text:
                del task
                return Text(note(standing))

        columns = (TextColumn("asking hosts"), BarColumn(bar_width=20), MofNCompleteColumn(), Note())
        self._standing = standing
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("hosts", total=None)
        self._drawn = False
        self._drawing = threading.Lock()

    def run_started(self, targets: int) -> None:
        """Begin drawing."""
        self._standing.begin(targets)
        self._progress.update(self._task, total=targets)
        with self._drawing:
            self._drawn = True
            self._progress.start()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """While inside, the terminal is somebody else's."""
        with self._drawing:
            self._progress.stop()
        try:
            yield
        finally:
            with self._drawing:
                if self._drawn:
                    self._progress.start()

    def host_started(self, host: str) -> None:
        """Count it as under way."""
        self._standing.host_began(host)

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """Advance by one."""
        self._standing.host_ended(host, status)
        self._progress.update(self._task, advance=1)

    def run_finished(self) -> None:
        """Leave the terminal as it was."""
        with self._drawing:
            self._drawn = False
            self._progress.stop()


def note(standing: Standing) -> str:
    """What stands beside the bar: failures, hosts under way, rate, time left, and who holds it up."""
    counts, left = standing.counts, standing.seconds_left
    parts = [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.in_flight} under way", f"{standing.rate:.1f}/s"]
    if left is not None:
        minutes, seconds = divmod(round(left), 60)
        parts.append(f"{minutes}:{seconds:02} left")
    parts += [f"{visible(host)} {seconds:.0f} s" for host, seconds in standing.slowest]
    return ", ".join(parts)


def observer(options: Connecting, run_id: str, *, quiet: bool) -> Observer | None:
    """Who watches this run: JSON lines, lines, a bar, or nobody."""
    if options.progress == "json":
        return JsonLines(run_id, say)
    if options.verbose:
        return Lines()
    wanted = options.progress == "bar" or (options.progress is None and not quiet)
    return Bar() if wanted and sys.stderr is not None and sys.stderr.isatty() else None


def _how(status: HostStatus) -> str:
    """Whether a snapshot is complete is judged later: here it is an answer."""
    return "answered" if status in (HostStatus.OK, HostStatus.PARTIAL) else status.value
