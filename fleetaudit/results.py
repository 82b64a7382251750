"""What the library hands out: hosts as they answer, and judged runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from fleetaudit.collection import Collection
from fleetaudit.derive import derive
from fleetaudit.errors import ReportError
from fleetaudit.events import Observer
from fleetaudit.judgement import report
from fleetaudit.judges import Judges
from fleetaudit.model import Host, HostAudit, Outcome, Report, Run, Summary
from fleetaudit.report import RenderOptions, drive, parts
from fleetaudit.session import Options, asking
from fleetaudit.transport import Transport


class AuditReport:
    """Judged hosts, sorted by name: iterate over it, as often as you like, and ask for its `summary`.

    Each pass reads and judges one host at a time, so memory does not grow with the fleet. What the hosts said
    is kept in an open file until the report is closed (it is a context manager) or forgotten.
    """

    def __init__(
        self,
        run: Run,
        outcomes: Callable[[], Iterable[Outcome]],
        judges: Judges,
        close: Callable[[], object],
    ) -> None:
        self.run = run
        self._outcomes = outcomes
        self._judges = judges
        self._summary: Summary | None = None
        self._closing = weakref.finalize(self, close)

    def __iter__(self) -> Iterator[HostAudit]:
        """Every targeted host with its results, sorted by name. Raises ReportError once closed."""
        return iter(self.report().audits)

    @property
    def summary(self) -> Summary:
        """Counts over all hosts, and the exit code of the command line; the first time, a pass of its own.

        `exit_code` 0 is the only one that means compliant: 3 is a run in which something is not known.
        """
        if self._summary is None:
            whole = self.report()
            for _ in whole.audits:
                pass
            self._summary = whole.summary()
        return self._summary

    def report(self) -> Report:
        """A value for a renderer: one pass, and the summary of what has passed. Raises ReportError."""
        self._require_open()
        whole = report(self._outcomes(), self._judges.policies, self.run, self._judges.tally())
        return replace(whole, audits=self._while_open(whole.audits))

    def render(self, format: str, *, include_pass: bool = False) -> Iterator[bytes]:
        """A document as the command line's `-o FORMAT=PATH` writes it, in pieces.

        Raises ConfigError for a format that does not exist, ReportError for one that fails.
        """
        main = parts(format, RenderOptions(include_pass=include_pass))[0]
        return _rendered(drive(self.report(), [main.renderer]))

    def close(self) -> None:
        """Let go of what the hosts said. Calling it twice is fine."""
        self._closing()

    def _while_open(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """A generator, which holds this report: one that nobody else holds stays open while it is read."""
        self._require_open()
        for audit in audits:
            yield audit
            self._require_open()

    def _require_open(self) -> None:
        if not self._closing.alive:
            raise ReportError("the report was closed")

    def __enter__(self) -> AuditReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Outcomes(Iterator[Outcome]):
    """What became of each host of `targets`, in the order in which they end; one outcome for each.

    Hosts are asked from the first `next` on. Exhausting it or closing it (it is a context manager) ends
    every thread and connection. After `stop`, what remains follows soon, as `not_attempted`.
    """

    def __init__(
        self,
        targets: tuple[Host, ...],
        options: Options,
        observer: Observer | None,
        transports: Mapping[str, Transport] | None,
    ) -> None:
        self.targets = targets
        self._resources = ExitStack()
        asked = asking(targets, options, observer=observer, transports=transports)
        self._collection: Collection = self._resources.enter_context(asked)
        # A generator: forgotten in the middle of a loop, it is closed, and ends the threads.
        self._flow = self._run(self._resources, self._collection)

    @staticmethod
    def _run(resources: ExitStack, collection: Collection) -> Generator[Outcome, None, None]:
        with resources, collection:
            for collected in collection:
                yield derive(collected.outcome)

    def __next__(self) -> Outcome:
        """The next host that is done. Raises ConfigError, the first time, for what cannot work at all."""
        return next(self._flow)

    def stop(self) -> None:
        """End early, from any thread; go on iterating to learn of every host."""
        self._collection.stop()

    def close(self) -> None:
        """Ask no further, and end all that is under way. Calling it twice is fine."""
        self._flow.close()
        self._resources.close()

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rendered(chunks: Iterable[tuple[int, bytes | ReportError]]) -> Iterator[bytes]:
    for _, chunk in chunks:
        if isinstance(chunk, ReportError):
            raise chunk
        yield chunk
