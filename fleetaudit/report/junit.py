"""`junit`: for CI servers. One test suite per host, one test case per rule, in the dialect that Jenkins,
GitLab and junitparser read (nobody has published a standard; the XSD of Jenkins' xUnit plugin is closest).

A violation is a failure. What is unknown, a rule that could not be run, a host that was not audited or that
nothing judged, and an interrupted run are errors: a CI server must not show them green. Waived violations
and rules with nothing to judge are skipped, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from fleetaudit.model import HostAudit, Report, Result, Run, Summary, Verdict
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import (
    FORMULA,
    compliance_text,
    denominators,
    failure_reason,
    notes,
    unjudged_reason,
)
from fleetaudit.report.phrases import clipped, sentence

_FINDINGS_SHOWN: Final = 50  # in one test case
_KINDS: Final = {
    Verdict.FAIL: "failure",
    Verdict.ERROR: "error",
    Verdict.UNKNOWN: "error",
    Verdict.WAIVED: "skipped",
    Verdict.NOT_APPLICABLE: "skipped",
}


def junit(options: RenderOptions) -> Renderer:
    """The renderer of `junit`; without `include_pass` a host's passes are counted, not listed."""

    def render(report: Report) -> Iterator[bytes]:
        yield b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="fleetaudit">\n'
        for audit in report.audits:
            yield _encoded(_host(audit, report.run, options))
        yield _encoded(_run(report.run, report.summary()))

    return render


def _encoded(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _host(audit: HostAudit, run: Run, options: RenderOptions) -> list[str]:
    outcome = audit.outcome
    listed = [item for item in audit.results if options.include_pass or item.verdict is not Verdict.PASS]
    passes = sum(result.verdict is Verdict.PASS for result in audit.results)
    cases = [_audited(audit, run), *(_case(result) for result in listed)]
    facts = {
        "status": outcome.status.value,
        "detail": outcome.detail,
        "boundary": outcome.context.boundary.value,
        "passes": str(passes),
        "passes_listed": "yes" if options.include_pass else "no",
    }
    return _suite(outcome.host, run, facts, cases)


def _suite(name: str, run: Run, facts: dict[str, str], cases: Sequence[tuple[str, str]]) -> list[str]:
    """A suite of (kind, lines) test cases; JUnit wants the counts in front."""
    counts = [("tests", len(cases))]
    counts += [(f"{kind}s", sum(case[0] == kind for case in cases)) for kind in ("failure", "error")]
    counts += [("skipped", sum(case[0] == "skipped" for case in cases))]
    numbers = " ".join(f'{key}="{count}"' for key, count in counts)
    properties = [f"  <property name={_value(key)} value={_value(fact)}/>" for key, fact in facts.items()]
    return [
        f'<testsuite name={_value(name)} {numbers} time="0" timestamp={_value(run.started_at.rstrip("Z"))}>',
        " <properties>",
        *properties,
        " </properties>",
        *(text for _, text in cases),
        "</testsuite>",
    ]


def _audited(audit: HostAudit, run: Run) -> tuple[str, str]:
    """The test case that every targeted host has: whether it was audited, and judged."""
    host, name = audit.outcome.host, "host is audited"
    if failed := failure_reason(audit):
        lines = [f"{len(audit.results)} rules could not be judged"]
        return _written(host, name, "error", failed, about="not_audited", lines=lines)
    reason = unjudged_reason(audit)
    if reason and run.options.get("allow_unjudged"):
        return _written(host, name, "skipped", reason)
    return _written(host, name, "error" if reason else "", reason, about="not_judged")


def _case(result: Result) -> tuple[str, str]:
    name = f"{result.policy}/{result.rule}: {result.title}"
    lines = [f"{item.verdict.value}: {sentence(item)}" for item in result.findings[:_FINDINGS_SHOWN]]
    if len(result.findings) > _FINDINGS_SHOWN:
        lines.append(f"and {len(result.findings) - _FINDINGS_SHOWN} more findings: see the JSON report")
    if result.remediation and result.verdict is Verdict.FAIL:
        lines.append(f"remedy: {clipped(result.remediation)}")
    first = next((item for item in result.findings if item.verdict is result.verdict), None)
    reason = sentence(first) if first else ""
    message = f"{result.verdict.value}: {reason}" if reason else result.verdict.value
    about = result.severity.value if result.verdict is Verdict.FAIL else result.verdict.value
    return _written(result.host, name, _KINDS.get(result.verdict, ""), message, about=about, lines=lines)


def _written(
    host: str, name: str, kind: str, message: str, *, about: str = "", lines: Sequence[str] = ()
) -> tuple[str, str]:
    head = f' <testcase classname={_value(host)} name={_value(name)} time="0"'
    if not kind:
        return ("", f"{head}/>")
    type_ = "" if kind == "skipped" else f" type={_value(about)}"
    text = escape("\n".join(clipped(line, 4000) for line in lines))
    return (kind, f"{head}>\n  <{kind}{type_} message={_value(message)}>{text}</{kind}>\n </testcase>")


def _run(run: Run, summary: Summary) -> list[str]:
    """The last suite: whether the run was whole, and its denominators."""
    facts = {
        "run": run.id,
        "version": run.version,
        **{f"hosts {name}": str(count) for name, count in denominators(summary).items()},
        **{f"results {name}": str(count) for name, count in summary.results.items()},
        "compliance": compliance_text(summary),
        "compliance_formula": FORMULA,
        "exit_code": str(int(summary.exit_code)),
        "scope": "; ".join([*notes(run, summary), NOTICE]),
    }
    kind, reason = "", ""
    if not run.complete:
        kind, reason = "error", "the run was interrupted: hosts are missing"
    elif not summary.targeted:
        kind, reason = "error", "no host was targeted"
    case = _written("fleetaudit", "the run is complete", kind, reason, about="incomplete")
    return [*_suite("fleetaudit", run, facts, [case, *_waivers(run, summary)]), "</testsuites>"]


def _waivers(run: Run, summary: Summary) -> Iterator[tuple[str, str]]:
    """A test case for each waiver that wants attention: a failure where that fails the run."""
    kind = "failure" if run.options.get("strict_waivers") else "skipped"
    for item in summary.waivers:
        if item.wants_attention:
            name = f"waiver {item.file}:{item.line} for {item.policy}/{item.rule}"
            message = f"{', '.join(item.states)}: {item.detail}"
            yield _written("fleetaudit", name, kind, message, about="waiver")


def _value(text: str) -> str:
    """An attribute; what XML 1.0 forbids (section 2.2, Char) is written as \\uNNNN."""
    return quoteattr(clipped(text, 4000))
