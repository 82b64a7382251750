"""Reports of any kind, for properties: hosts and files may say anything in every field."""

from __future__ import annotations

import unicodedata
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fleetaudit.model import (
    UNKNOWN,
    AgentInfo,
    Boundary,
    Coverage,
    Finding,
    Gap,
    HostAudit,
    HostContext,
    HostStatus,
    Inherited,
    Listener,
    Maybe,
    NetworkNamespace,
    Outcome,
    Owner,
    Process,
    Report,
    Result,
    Severity,
    Snapshot,
    Verdict,
)
from tests.report.cases import HOSTILE, RUN, report

T = TypeVar("T")

text = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=12)
word = st.sampled_from(["a", "b", "web"]) | text
count = st.integers(0, 2**63)


def maybe(value: st.SearchStrategy[T]) -> st.SearchStrategy[Maybe[T]]:
    return st.just(UNKNOWN) | value


def maybe_none(value: st.SearchStrategy[T]) -> st.SearchStrategy[Maybe[T | None]]:
    return st.just(UNKNOWN) | st.none() | value


processes = st.builds(
    Process,
    pid=st.integers(0, 5),
    start_time=maybe(st.integers(0, 2)),
    comm=maybe(text),
    exe=maybe_none(text),
    exe_deleted=maybe(st.booleans()),
    exe_verified=maybe(st.booleans()),
    argv=maybe_none(st.tuples(text)),
    uid=maybe(count),
    euid=maybe(count),
    user=maybe_none(text),
    unit=maybe_none(text),
    container=maybe_none(text),
    shell=maybe(st.booleans()),
    self_audit=maybe(st.booleans()),
)
owners = st.builds(
    Owner,
    process=processes,
    fds=st.tuples(count),
    ancestors=st.lists(processes, max_size=2).map(tuple),
    inherited=maybe(st.sampled_from(Inherited)),
)
listeners = st.builds(
    Listener,
    protocol=text,
    inode=count,
    netns=st.builds(NetworkNamespace, count | text, maybe(st.booleans()), maybe_none(text)),
    family=maybe_none(text),
    state=maybe(text),
    address=maybe_none(text),
    port=maybe_none(st.integers(0, 65535)),
    path=maybe_none(text),
    device=maybe_none(text),
    owner_state=maybe(text | st.sampled_from(["owned", "kernel", "unknown"])),
    owners=st.lists(owners, max_size=3).map(tuple),
    held_by=st.lists(owners, max_size=1).map(tuple),
    scope=maybe_none(text),
)
findings = st.builds(
    Finding,
    verdict=st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.PASS]),
    reason=text,
    listener=st.none() | listeners,
    owners=st.lists(owners, max_size=2).map(tuple),
    waiver=st.none() | text,
    fingerprint=text,
)
GRAVITY = (Verdict.FAIL, Verdict.ERROR, Verdict.UNKNOWN, Verdict.WAIVED, Verdict.NOT_APPLICABLE)


def results(host: str) -> st.SearchStrategy[Result]:
    def judged(found: tuple[Finding, ...]) -> st.SearchStrategy[Result]:
        seen = {finding.verdict for finding in found}
        return st.builds(
            Result,
            host=st.just(host),
            policy=word,
            rule=word,
            title=text,
            severity=st.sampled_from(Severity),
            verdict=st.just(next((verdict for verdict in GRAVITY if verdict in seen), Verdict.PASS)),
            controls=st.dictionaries(text, st.tuples(text), max_size=2),
            remediation=text,
            checked=count,
            findings=st.just(found),
            policy_sha256=text,
        )

    return st.lists(findings, max_size=2).map(tuple).flatmap(judged)


@st.composite
def audits(draw: st.DrawFn) -> HostAudit:
    host = draw(text)
    context = HostContext((draw(text),), boundary=draw(st.sampled_from(Boundary)))
    status = draw(st.sampled_from(HostStatus))
    times = st.none() | text | st.just("2026-11-22T10:00:00.5Z")
    found = tuple(draw(st.lists(results(host), max_size=3)))
    if status not in (HostStatus.OK, HostStatus.PARTIAL):
        reason = Finding(Verdict.UNKNOWN, "the host was not audited")
        unknown = [
            Result(host, "p", f"r{n}", "", Severity.LOW, Verdict.UNKNOWN, findings=(reason,))
            for n in range(len(found))
        ]
        return HostAudit(Outcome(host, status, draw(text), context, received_at=draw(times)), tuple(unknown))
    gaps = st.lists(st.builds(Gap, text, text, maybe(count | text), maybe(text)), max_size=1).map(tuple)
    coverage = Coverage(draw(st.booleans()), draw(gaps), draw(maybe(count)), draw(maybe(count)))
    agent = AgentInfo(draw(st.none() | text), draw(st.none() | text), draw(st.none() | text))
    heard = tuple(finding.listener for item in found for finding in item.findings if finding.listener)
    snapshot = Snapshot(
        host, coverage, heard, {}, collected_at=draw(times), boot_id=draw(st.none() | text), agent=agent
    )
    outcome = Outcome(host, status, draw(text), context, snapshot, draw(st.none() | text), draw(times))
    return HostAudit(outcome, found, draw(count), draw(count), judged=bool(found))


fleets = st.lists(audits(), max_size=4)
modest = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
few = settings(modest, max_examples=15)


def reporting(fleet: list[HostAudit]) -> Report:
    return report(*fleet, run=RUN)


def hidden(shown: str) -> set[str]:
    """Characters that act on a terminal or a page instead of being seen."""
    return {
        char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    }
