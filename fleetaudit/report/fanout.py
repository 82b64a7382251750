"""Several renderers over one pass of the audits, in step, so that memory does not grow with the fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import tee

from fleetaudit.errors import ReportError
from fleetaudit.model import HostAudit, Report
from fleetaudit.report.base import Renderer
from fleetaudit.text import visible


def drive(report: Report, renderers: Sequence[Renderer]) -> Iterator[tuple[int, bytes | ReportError]]:
    """Run the renderers side by side; yields (place of the renderer, its next chunk).

    No renderer is ever more than one audit ahead of another. A renderer that raises ends with a ReportError
    as its last value, and the others go on: its file must not be kept. An error of the audits themselves is
    raised, since no report of half the hosts may look whole. The audits are always exhausted, so
    `report.summary()` is right afterwards, whatever the renderers did.
    """
    source = _Source(iter(report.audits))
    branches = [_Branch(branch) for branch in tee(source, len(renderers))]
    running = {
        place: (branch, _start(renderer, replace(report, audits=branch)))
        for place, (renderer, branch) in enumerate(zip(renderers, branches, strict=True))
    }
    rounds = 0
    while running:
        rounds += 1
        for place, (branch, chunks) in list(running.items()):
            while branch.taken < rounds:
                chunk = _next(chunks)
                if source.error is not None:
                    raise source.error
                if chunk is None or isinstance(chunk, ReportError):
                    # Drops the tee branch too: an idle one would make tee keep every audit that follows.
                    branch.close()
                    del running[place]
                    if chunk is not None:
                        yield place, chunk
                    break
                yield place, chunk
    deque(source, maxlen=0)


class _Source(Iterator[HostAudit]):
    """The audits; remembers their own failure, which is nobody's rendering error."""

    def __init__(self, audits: Iterator[HostAudit]) -> None:
        self._audits = audits
        self.error: Exception | None = None

    def __next__(self) -> HostAudit:
        try:
            return next(self._audits)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


class _Branch(Iterator[HostAudit]):
    """One renderer's view of the audits; counts what it takes."""

    def __init__(self, audits: Iterator[HostAudit]) -> None:
        self._audits = audits
        self.taken = 0

    def __next__(self) -> HostAudit:
        audit = next(self._audits)
        self.taken += 1
        return audit

    def close(self) -> None:
        self._audits = iter(())


def _start(renderer: Renderer, report: Report) -> Iterator[bytes]:
    """The renderer, begun on the first chunk, so that a plain function that raises at once is caught too."""
    yield from renderer(report)


def _next(chunks: Iterator[bytes]) -> bytes | ReportError | None:
    """The next chunk, None at the end, or what the renderer failed with."""
    try:
        return next(chunks, None)
    except Exception as error:  # the border of one format: its crash is a value, the rest go on
        what = visible(f"{type(error).__name__}: {error}")
        failure = ReportError(f"the report could not be rendered: {what}")
        failure.__cause__ = error
        return failure
