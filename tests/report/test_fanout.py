"""Several renderers over one pass: in step, each on its own, none able to spoil another's file."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from fleetaudit.errors import ReportError
from fleetaudit.model import HostAudit, HostStatus, Outcome, Report
from fleetaudit.report import RenderOptions, drive, formats, parts
from fleetaudit.report.base import Renderer
from fleetaudit.summary import Gate, Tally
from tests.report.cases import CASES, RUN, render, report


class Tracked(HostAudit):
    """An audit whose end of life can be seen: slots have no weak references."""

    __slots__ = ("__weakref__",)


def hosts(count: int) -> Iterator[HostAudit]:
    for number in range(count):
        yield Tracked(Outcome(f"h{number}", HostStatus.TIMEOUT))


def collected(of: Report, *renderers: Renderer) -> dict[int, list[bytes | ReportError]]:
    files: dict[int, list[bytes | ReportError]] = {place: [] for place in range(len(renderers))}
    for place, chunk in drive(of, renderers):
        files[place].append(chunk)
    return files


def names(of: Report) -> Iterator[bytes]:
    for audit in of.audits:
        yield audit.outcome.host.encode()


def wordy(of: Report) -> Iterator[bytes]:
    for _ in of.audits:
        yield from [b"x"] * 50


def crash(of: Report) -> Iterator[bytes]:
    for audit in of.audits:
        yield b"."
        if audit.outcome.host == "h3":
            raise ValueError("broken \x1b[2J renderer")


def crash_at_once(of: Report) -> Iterator[bytes]:
    raise RuntimeError(of.run.id)


@pytest.mark.parametrize("case", CASES)
def test_together_they_write_what_each_writes_alone(case: str) -> None:
    made = [
        (name, place, part) for name in formats() for place, part in enumerate(parts(name, RenderOptions()))
    ]
    files = collected(CASES[case](), *(part.renderer for _, _, part in made))
    for index, (name, place, _) in enumerate(made):
        chunks = [chunk for chunk in files[index] if isinstance(chunk, bytes)]
        assert b"".join(chunks) == render(name, CASES[case](), part=place)


@pytest.mark.parametrize("name", formats())
def test_every_renderer_yields_a_chunk_for_each_audit_it_takes(name: str) -> None:
    for part in parts(name, RenderOptions()):
        taken = 0

        def counted() -> Iterator[HostAudit]:
            nonlocal taken
            for audit in hosts(40):
                taken += 1
                yield audit

        tally = Tally(Gate())
        for before, _ in enumerate(part.renderer(Report(RUN, tally.over(counted()), tally.summary))):
            assert taken <= before + 1
        assert taken == 40


def test_one_that_raises_ends_alone_with_its_error() -> None:
    files = collected(report(*hosts(6)), names, crash, crash_at_once, names)
    whole: list[bytes | ReportError] = [b"h0", b"h1", b"h2", b"h3", b"h4", b"h5"]
    assert files[0] == files[3] == whole
    error = files[1][-1]
    assert files[1][:-1] == [b"."] * 4
    assert isinstance(error, ReportError)
    assert str(error) == r"the report could not be rendered: ValueError: broken \u001b[2J renderer"
    assert isinstance(error.__cause__, ValueError)
    assert [type(chunk) for chunk in files[2]] == [ReportError]


@pytest.mark.parametrize("renderers", [(), (crash_at_once,), (crash,), (names,)])
def test_the_summary_is_whole_whatever_the_renderers_do(renderers: tuple[Renderer, ...]) -> None:
    of = report(*hosts(9))
    collected(of, *renderers)
    assert of.summary().targeted == 9


def test_failing_audits_are_raised_not_taken_for_the_end() -> None:
    def failing() -> Iterator[HostAudit]:
        yield from hosts(2)
        raise OSError("the journal cannot be read")

    def forgiving(of: Report) -> Iterator[bytes]:
        try:
            yield from names(of)
        except OSError:
            yield b"and that is all"

    for renderer in (names, forgiving):
        with pytest.raises(OSError, match="journal"):
            collected(Report(RUN, failing(), report().summary), renderer, names)


@pytest.mark.parametrize("other", [wordy, crash])
def test_memory_does_not_grow_with_the_fleet(other: Renderer) -> None:
    """Audits are freed while others follow: also when one renderer is slow, and after one has crashed."""
    made: list[weakref.ref[HostAudit]] = []
    most = 0

    def watched() -> Iterator[HostAudit]:
        nonlocal most
        for number, audit in enumerate(hosts(2000)):
            made.append(weakref.ref(audit))
            if number % 100 == 0:
                gc.collect()
                most = max(most, sum(item() is not None for item in made))
            yield audit

    of = Report(RUN, watched(), report().summary)
    second = [chunk for place, chunk in drive(of, [names, other]) if place == 1]
    assert second
    assert len(made) == 2000
    assert most < 200  # tee keeps blocks of 57
