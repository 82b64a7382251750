"""The text report: what a reader sees first, what is folded, and that nothing is cut without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetaudit.model import Finding, HostStatus, Report, Severity, Summary, Verdict
from fleetaudit.report import RenderOptions
from fleetaudit.summary import Gate, Tally
from tests.report.cases import CASES, NO_SHELL, RUN, WEB, failed, leak, reached, render, report, result


def shown(of: Report, options: RenderOptions | None = None) -> str:
    return render("text", of, options or RenderOptions(width=200)).decode()


def test_the_first_line_is_the_verdict_and_the_last_the_exit_code() -> None:
    lines = shown(CASES["verdicts"]()).splitlines()
    assert lines[0].startswith(
        "VIOLATIONS: 2 rules broken on 2 of 6 hosts (1 critical, 1 medium); 1 result waived; 1 result unknown"
    )
    assert "6 hosts targeted, 6 reached, 5 fully covered, 5 judged" in "\n".join(lines[:8])
    assert lines[-1].startswith("Exit code 1 (violations)")


def test_a_violation_names_host_endpoint_owners_and_where_they_come_from() -> None:
    page = shown(report(reached("web1", result(NO_SHELL, "web1", leak()))))
    expected = """
  web1  tcp 0.0.0.0:8080
    > sh[81] (www-data), /usr/bin/dash, leak
        started by python3[80] < systemd[1]
      python3[80] (www-data), /usr/bin/python3.11, original
    dash [sh] (pid 81, user www-data, leak) may not hold it: denied is shell true
  remedy: End the shell, and set close-on-exec on the server's listeners.
"""
    assert expected in page


def test_gravest_first() -> None:
    rules = [
        result(replace(NO_SHELL, rule=severity.value, severity=severity), "h", leak())
        for severity in reversed(Severity)
    ]
    page = shown(report(reached("h", *rules)))
    places = [page.index(f"\n{severity.value.upper()}  ") for severity in Severity]
    assert places == sorted(places)


def test_the_same_on_many_hosts_is_said_once_with_the_hosts() -> None:
    page = shown(CASES["many"]())
    assert page.count("tcp 0.0.0.0:8080") == 1
    assert "  440 hosts  tcp 0.0.0.0:8080\n    web001, web002," in page
    assert (
        "web009 and 432 more\n    > sh (www-data), /usr/bin/dash, leak\n        started by python3 < systemd"
        in page
    )
    assert page.count("remedy: ") == 1
    assert len(page.splitlines()) < 150


def test_what_is_cut_is_counted_and_can_be_asked_for() -> None:
    assert "and 470 more, on 490 hosts in all (the JSON and CSV reports have them all)" in shown(
        CASES["many"]()
    )
    everything = shown(CASES["many"](), RenderOptions(entries=10_000))
    assert "web499  tcp 0.0.0.0:30499" in everything
    assert "reports have them all" not in everything


def test_two_reasons_about_one_listener_are_both_shown() -> None:
    other = replace(leak(), reason="its unit is not approved")
    page = shown(report(reached("h", result(NO_SHELL, "h", leak(), other))))
    assert "denied is shell true" in page
    assert "its unit is not approved" in page


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_named_with_status_and_detail(status: HostStatus) -> None:
    page = shown(report(failed("db1", status, "why it failed")))
    assert page.startswith("INCOMPLETE: no violation seen; 1 host not audited; 1 result unknown")
    assert f"Not audited: 1 host\n  db1: {status.value}: why it failed\n" in page
    assert "Could not be judged" not in page  # that its rules are unknown is said once


def test_unknown_results_are_folded_by_reason() -> None:
    doubt = Finding(Verdict.UNKNOWN, "owners may be hidden (hidepid)", WEB)
    audits = [
        reached(
            f"h{n}", result(NO_SHELL, f"h{n}", doubt), result(replace(NO_SHELL, rule="two"), f"h{n}", doubt)
        )
        for n in range(3)
    ]
    page = shown(report(*audits))
    expected = """
Could not be judged
  3 hosts (h0, h1, h2): owners may be hidden (hidepid)
    rules: shells/no-shell, shells/two
    listeners: tcp 0.0.0.0:8080
"""
    assert expected in page


@pytest.mark.parametrize(
    ("verdict", "heading"),
    [
        (Verdict.FAIL, "CRITICAL  shells/no-shell"),
        (Verdict.UNKNOWN, "Could not be judged"),
        (Verdict.ERROR, "Errors: rules that could not be run"),
        (Verdict.WAIVED, "Waived: violations that somebody accepted, not passes"),
    ],
)
def test_a_verdict_without_a_finding_is_not_lost(verdict: Verdict, heading: str) -> None:
    page = shown(report(reached("h", replace(result(NO_SHELL, "h"), verdict=verdict))))
    assert f"\n{heading}" in page
    assert "no reason was given" in page


def test_passes_are_listed_on_demand() -> None:
    assert "\nPassed\n" not in shown(CASES["compliant"]())
    page = shown(CASES["compliant"](), RenderOptions(include_pass=True))
    assert "\nPassed\n  shells/no-shell on 2 hosts\n  web/owners on 2 hosts\n" in page


def test_violations_below_the_gate_do_not_read_as_clean() -> None:
    tally = Tally(Gate(fail_on=Severity.CRITICAL))
    minor = result(replace(NO_SHELL, severity=Severity.INFO), "h", leak())
    page = shown(Report(RUN, tally.over([reached("h", minor)]), tally.summary))
    assert page.startswith("COMPLIANT BY THE CHOSEN SEVERITY: 1 rule broken on 1 of 1 host (1 info)")
    assert "INFO  shells/no-shell" in page


def test_an_exit_code_without_a_name_is_no_success() -> None:
    of = report()
    summary: Summary = replace(of.summary(), exit_code=4)
    assert shown(replace(of, summary=lambda: summary)).startswith("FAILED: ")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("kernel", "(the kernel's own: no process can hold it)"),
        ("unknown", "(not every owner could be seen)"),
        ("new-state", "(new-state)"),
    ],
)
def test_owners_that_are_not_all_there_are_said(state: str, said: str) -> None:
    listener = replace(WEB, owners=(), owner_state=state)
    page = shown(report(reached("h", result(NO_SHELL, "h", replace(leak(), listener=listener, owners=())))))
    assert said in page


def test_colour_only_adds_colour() -> None:
    import re

    for case in CASES.values():
        plain = shown(case(), RenderOptions(width=100))
        coloured = shown(case(), RenderOptions(width=100, colour=True))
        assert "\x1b[1;31m" in coloured or "\x1b[33m" in coloured or "\x1b[1;32m" in coloured
        assert re.sub(r"\x1b\[[0-9;]+m", "", coloured) == plain
