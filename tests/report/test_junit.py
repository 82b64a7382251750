"""JUnit as junitparser and a strict XML parser read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from fleetaudit.model import Finding, HostAudit, HostStatus, Report, Verdict
from fleetaudit.report import RenderOptions
from tests.report.cases import (
    CASES,
    HOSTILE,
    NO_SHELL,
    RUN,
    WEB_OWNERS,
    failed,
    leak,
    reached,
    render,
    report,
    result,
)
from tests.report.fleets import few, fleets, hidden, reporting

PASSES = RenderOptions(include_pass=True)


def read(of: Report, options: RenderOptions | None = None) -> JUnitXml:
    return JUnitXml.fromstring(render("junit", of, options))


def cases(of: Report, options: RenderOptions | None = None) -> Iterator[TestCase]:
    for suite in read(of, options):
        yield from suite


def kinds(of: Report, options: RenderOptions | None = None) -> dict[tuple[str, str], list[str]]:
    return {
        (case.classname, case.name.partition(":")[0]): [type(item).__name__ for item in case.result]
        for case in cases(of, options)
    }


def test_verdicts_and_hosts_as_a_ci_server_sees_them() -> None:
    seen = kinds(CASES["verdicts"]())
    assert seen == {
        ("web1", "host is audited"): [],
        ("web1", "shells/no-shell"): ["Failure"],
        ("web2", "host is audited"): [],
        ("web2", "web/owners"): ["Failure"],
        ("web3", "host is audited"): [],
        ("web3", "shells/no-shell"): ["Error"],
        ("web4", "host is audited"): [],
        ("web4", "shells/no-shell"): ["Skipped"],
        ("web4", "web/owners"): ["Error"],
        ("web5", "host is audited"): [],
        ("web5", "web/owners"): ["Skipped"],
        ("web6", "host is audited"): ["Error"],
        ("fleetaudit", "the run is complete"): [],
    }
    with_passes = kinds(CASES["verdicts"](), PASSES)
    assert {name: kind for name, kind in with_passes.items() if name not in seen} == {
        ("web1", "web/owners"): [],
        ("web2", "shells/no-shell"): [],
        ("web5", "shells/no-shell"): [],
    }


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_an_error_with_or_without_rules(status: HostStatus) -> None:
    for audit in (failed("db1", status, "why"), replace(failed("db1", status, "why"), results=())):
        case = next(iter(cases(report(audit))))
        (error,) = case.result
        assert isinstance(error, Error)
        assert (case.classname, error.type, error.message) == ("db1", "not_audited", f"{status.value}: why")


def test_messages_say_what_and_why() -> None:
    accepted = replace(leak(), verdict=Verdict.WAIVED, waiver="OPS-7")
    made = report(reached("h", result(NO_SHELL, "h", leak()), result(WEB_OWNERS, "h", accepted)))
    _, fail, waived, _ = cases(made)
    (failure,), (skipped,) = fail.result, waived.result
    assert isinstance(failure, Failure)
    assert failure.type == "critical"
    assert "tcp 0.0.0.0:8080 held by python3[80](www-data); sh[81](www-data)" in failure.message
    assert "remedy: End the shell" in failure.text
    assert isinstance(skipped, Skipped)
    assert "waived: OPS-7" in skipped.message


def test_a_host_that_nothing_judges_is_an_error_unless_that_is_allowed() -> None:
    idle = Finding(Verdict.NOT_APPLICABLE, "nothing to judge")
    for audit in (reached("h"), reached("h", result(NO_SHELL, "h", idle))):
        assert kinds(report(audit))["h", "host is audited"] == ["Error"]
        allowed = report(audit, run=replace(RUN, options={"allow_unjudged": True}))
        assert kinds(allowed)["h", "host is audited"] == ["Skipped"]


def test_no_host_and_an_interrupted_run_are_errors() -> None:
    assert kinds(CASES["nothing"]()) == {("fleetaudit", "the run is complete"): ["Error"]}
    assert kinds(report()) == {("fleetaudit", "the run is complete"): ["Error"]}


def test_denominators_are_properties_of_the_last_suite() -> None:
    root = ET.fromstring(render("junit", CASES["verdicts"]()))  # noqa: S314  (what we wrote ourselves)
    facts = {item.attrib["name"]: item.attrib["value"] for item in root[-1].iter("property")}
    assert (facts["hosts targeted"], facts["hosts reached"], facts["hosts judged"]) == ("6", "6", "5")
    assert facts["compliance"] == "37.5 %"
    assert facts["compliance_formula"].startswith("pass / (pass + fail")


def test_argv_is_not_in_it() -> None:
    assert b"app.py" not in render("junit", CASES["verdicts"](), PASSES)


@few
@given(fleets, st.booleans())
def test_any_text_is_valid_xml_and_the_counts_are_right(fleet: list[HostAudit], passes: bool) -> None:
    of = reporting(fleet)
    data = render("junit", of, RenderOptions(include_pass=passes))
    assert hidden(data.decode()) <= {"\n"}
    root = ET.fromstring(data)  # noqa: S314  (what we wrote ourselves; expat is strict about characters)
    assert len(root) == len(fleet) + 1
    for suite in root:
        for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    summary = of.summary()
    assert len(root.findall("testsuite/testcase/failure")) == summary.results["fail"]
    if summary.failed or summary.results["error"] or summary.results["unknown"]:
        assert root.findall("testsuite/testcase/error")
    assert sum(suite.tests for suite in JUnitXml.fromstring(data)) == len(root.findall("testsuite/testcase"))


def test_hostile_text_arrives_as_text() -> None:
    names = {suite.name for suite in read(CASES["hostile"]())}
    assert "]]><script>alert(1)</script>" in names
    assert r"nul\u0000nul" in names
    assert len(names) == 2 * len(HOSTILE) + 1
