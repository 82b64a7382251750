"""SARIF by the JSON Schema of the standard, and inside the limits of who reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fleetaudit.model import Finding, HostAudit, HostStatus, Report, Severity, Source, Verdict
from fleetaudit.report import RenderOptions
from tests.report.cases import (
    CASES,
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
from tests.report.fleets import few, fleets, reporting

SCHEMA = Path(__file__).parents[1] / "authoring" / "sarif-2.1.0.schema.json"
PASSES = RenderOptions(include_pass=True)


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(
        json.loads(SCHEMA.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def run_of(of: Report, options: RenderOptions | None = None) -> Any:
    document = json.loads(render("sarif", of, options))
    (run,) = document["runs"]
    return run


def results(of: Report, options: RenderOptions | None = None) -> list[dict[str, Any]]:
    return list(run_of(of, options)["results"])


def host_of(entry: dict[str, Any]) -> str:
    (location,) = entry["locations"]
    (host,) = location["logicalLocations"]
    return str(host["fullyQualifiedName"])


@pytest.mark.parametrize("case", [case for case in CASES if case != "many"])
def test_every_case_is_valid_by_the_standards_schema(case: str) -> None:
    for options in (None, PASSES):
        problems = validator().iter_errors(json.loads(render("sarif", CASES[case](), options)))
        assert [f"{error.json_path}: {error.message}" for error in problems] == []


def test_the_schema_refuses_what_is_wrong() -> None:
    document = json.loads(render("sarif", CASES["verdicts"]()))
    document["runs"][0]["results"][0]["level"] = "grave"
    assert list(validator().iter_errors(document))


def test_verdicts_and_hosts() -> None:
    told = {
        (item["ruleId"], host_of(item), item["kind"], item["level"]) for item in results(CASES["verdicts"]())
    }
    assert told == {
        ("shells/no-shell", "web1", "fail", "error"),
        ("web/owners", "web2", "fail", "warning"),
        ("shells/no-shell", "web3", "open", "none"),
        ("shells/no-shell", "web4", "fail", "error"),
        ("web/owners", "web4", "open", "none"),
        ("fleetaudit/host-not-judged", "web6", "open", "none"),
    }
    kinds = [item["kind"] for item in results(CASES["verdicts"](), PASSES)]
    assert (kinds.count("pass"), kinds.count("notApplicable")) == (3, 1)


def test_a_waived_violation_is_suppressed_and_nothing_else_is() -> None:
    suppressed = [item for item in results(CASES["verdicts"]()) if "suppressions" in item]
    (waived,) = suppressed
    assert host_of(waived) == "web4"
    (suppression,) = waived["suppressions"]
    assert suppression["status"] == "accepted"
    assert suppression["justification"].startswith("OPS-7")


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_a_result_and_a_notification(status: HostStatus) -> None:
    run = run_of(report(failed("db1", status, "why")))
    (entry,) = run["results"]
    assert (entry["ruleId"], host_of(entry), entry["kind"]) == ("fleetaudit/host-not-audited", "db1", "open")
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == (
        f"db1: the host was not audited: {status.value}: why"
    )


def test_a_result_is_at_its_rule_in_the_policys_file() -> None:
    policies = (Source("./policies/a b%.yaml", "", "shells"), Source("/etc/fleet/web.yaml", "", "web"))
    run = replace(RUN, policies=policies)
    rules = (replace(NO_SHELL, line=7), replace(WEB_OWNERS, line=12))
    entries = results(report(reached("h", *(result(rule, "h", leak()) for rule in rules)), run=run))
    places = [item["locations"][0]["physicalLocation"] for item in entries]
    assert [(place["artifactLocation"]["uri"], place["region"]["startLine"]) for place in places] == [
        ("policies/a%20b%25.yaml", 7),
        ("file:///etc/fleet/web.yaml", 12),
    ]


def test_fingerprints_are_the_findings_and_results_are_together_by_rule() -> None:
    findings = [replace(leak(), fingerprint=f"{n}" * 32) for n in range(2)]
    both = [
        reached(host, result(NO_SHELL, host, *findings), result(WEB_OWNERS, host, leak())) for host in "ab"
    ]
    entries = results(report(*both))
    assert [item["ruleId"] for item in entries] == ["shells/no-shell"] * 4 + ["web/owners"] * 2
    assert [item["partialFingerprints"]["fleetauditFinding/v1"][0] for item in entries] == list("0101ff")


def test_denominators_are_in_the_run() -> None:
    run = run_of(CASES["verdicts"]())
    assert run["properties"]["summary"]["hosts"]["targeted"] == 6
    told = [item["message"]["text"] for item in run["invocations"][0]["toolExecutionNotifications"]]
    assert "6 targeted, 6 reached, 5 fully covered, 5 judged hosts" in told
    assert "web3 was covered only in part: hidepid: 3 processes" in told
    assert run_of(CASES["nothing"]())["invocations"][0]["executionSuccessful"] is False


def test_a_rule_has_what_code_scanning_shows() -> None:
    rule = run_of(CASES["verdicts"]())["tool"]["driver"]["rules"][0]
    assert (rule["id"], rule["defaultConfiguration"]) == ("shells/no-shell", {"level": "error"})
    assert rule["properties"]["security-severity"] == "9.5"
    assert "pci_dss_4:2.2.4" in rule["properties"]["tags"]
    many = replace(NO_SHELL, controls={"c": tuple(str(n) for n in range(50))})
    (rule,) = run_of(report(reached("h", result(many, "h"))))["tool"]["driver"]["rules"]
    assert len(rule["properties"]["tags"]) == 20


def test_past_the_limits_the_gravest_are_kept_and_the_rest_are_counted() -> None:
    light = replace(WEB_OWNERS, severity=Severity.LOW)
    flood = [leak() for _ in range(6000)]
    hosts = [reached("a", result(light, "a", *flood)), reached("b", result(NO_SHELL, "b", *flood[:20]))]
    data = render("sarif", report(*hosts))
    entries = json.loads(data)["runs"][0]["results"]
    assert len(entries) <= 5000
    assert len(data) < 10_000_000
    assert sum(item["ruleId"] == "shells/no-shell" for item in entries) == 20
    listed = sum(item["ruleId"] == "web/owners" and item["kind"] == "fail" for item in entries)
    (rest,) = [item for item in entries if "more results of this rule" in item["message"]["text"]]
    assert rest["message"]["text"].startswith(f"{6000 - listed} more results")


def test_long_texts_do_not_take_it_over_ten_megabytes() -> None:
    long = "\U0001f600" * 2000
    found = [replace(leak(), verdict=Verdict.WAIVED, reason=long, waiver=long) for _ in range(1200)]
    assert len(render("sarif", report(reached(long, result(NO_SHELL, long, *found))))) < 10_000_000


def test_argv_is_not_in_it() -> None:
    assert b"app.py" not in render("sarif", CASES["verdicts"](), PASSES)


@few
@given(fleets, st.booleans())
def test_nothing_that_is_no_pass_is_lost(fleet: list[HostAudit], passes: bool) -> None:
    of = reporting(fleet)
    data = render("sarif", of, RenderOptions(include_pass=passes))
    assert data.isascii()
    document = json.loads(data)
    assert next(validator().iter_errors(document), None) is None
    kinds = [item["kind"] for item in document["runs"][0]["results"]]
    there = [audit for audit in fleet if audit.outcome.snapshot is not None]
    found = [finding.verdict for audit in there for item in audit.results for finding in item.findings]
    assert kinds.count("fail") == found.count(Verdict.FAIL) + found.count(Verdict.WAIVED)
    unjudged = of.summary().unjudged + of.summary().failed
    assert kinds.count("open") == found.count(Verdict.UNKNOWN) + found.count(Verdict.ERROR) + unjudged


def test_a_pass_is_never_a_violation() -> None:
    entries = results(report(reached("h", result(NO_SHELL, "h"))), PASSES)
    assert [(item["kind"], item["level"]) for item in entries] == [("pass", "none")]
    idle = Finding(Verdict.NOT_APPLICABLE, "nothing to judge")
    entries = results(report(reached("h", result(NO_SHELL, "h", idle), result(WEB_OWNERS, "h"))), PASSES)
    assert [item["kind"] for item in entries] == ["notApplicable", "pass"]
