"""HDF by the types that MITRE's own parser demands, and by the status that Heimdall makes of a control."""

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

from fleetaudit.model import Finding, HostAudit, HostStatus, Report, Severity, Verdict
from fleetaudit.report import RenderOptions
from tests.report.cases import CASES, NO_SHELL, RUN, failed, leak, reached, render, report, result
from tests.report.fleets import few, fleets, reporting

SCHEMA = Path(__file__).parent / "schemas" / "hdf-exec.schema.json"
PASSES = RenderOptions(include_pass=True)
HOSTS = "fleetaudit/hosts-are-audited"


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


def document(of: Report, options: RenderOptions | None = None) -> Any:
    made = json.loads(render("hdf", of, options))
    assert [f"{error.json_path}: {error.message}" for error in validator().iter_errors(made)] == []
    return made


def controls(of: Report, options: RenderOptions | None = None) -> dict[str, dict[str, Any]]:
    every = [control for profile in document(of, options)["profiles"] for control in profile["controls"]]
    assert len({control["id"] for control in every}) == len(every)
    return {control["id"]: control for control in every}


def status(control: dict[str, Any]) -> str:
    """What inspecjs 2.12.6 makes of a control (compat_inspec_1_0.js, compute_status)."""
    found = {item["status"] for item in control["results"]}
    if not found or "error" in found:
        return "Profile Error"
    if control["impact"] == 0 or (control.get("waiver_data") or {}).get("skipped_due_to_waiver"):
        return "Not Applicable"
    return next(
        name
        for key, name in (("failed", "Failed"), ("passed", "Passed"), ("skipped", "Not Reviewed"))
        if key in found
    )


def statuses(of: Report, options: RenderOptions | None = None) -> dict[str, str]:
    return {name: status(control) for name, control in controls(of, options).items()}


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_valid(case: str) -> None:
    document(CASES[case](), PASSES if case != "many" else None)


def test_the_schema_refuses_what_is_wrong() -> None:
    made = document(CASES["verdicts"]())
    del made["profiles"][1]["controls"][0]["impact"]
    assert list(validator().iter_errors(made))


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("options", [None, PASSES])
@pytest.mark.parametrize("severity", [Severity.CRITICAL, Severity.INFO])
def test_beside_passes_no_other_verdict_is_shown_as_passed(
    verdict: Verdict, options: RenderOptions | None, severity: Severity
) -> None:
    rule = replace(NO_SHELL, severity=severity)
    finding = replace(leak(), verdict=verdict, waiver="OPS-7" if verdict is Verdict.WAIVED else None)
    other = result(rule, "b", *([] if verdict is Verdict.PASS else [finding]))
    made = statuses(report(reached("a", result(rule, "a")), reached("b", other)), options)
    expected = {
        Verdict.PASS: "Passed",
        Verdict.FAIL: "Failed",
        Verdict.UNKNOWN: "Profile Error",
        Verdict.ERROR: "Profile Error",
        Verdict.WAIVED: "Passed",
        Verdict.NOT_APPLICABLE: "Passed",
    }
    assert made["shells/no-shell"] == expected[verdict]
    assert made.get("shells/no-shell (waived)") == ("Not Reviewed" if verdict is Verdict.WAIVED else None)


def test_a_failed_host_is_an_error_of_each_of_its_rules() -> None:
    made = controls(report(reached("a", result(NO_SHELL, "a")), failed("b", HostStatus.TIMEOUT, "slow")))
    assert status(made["shells/no-shell"]) == "Profile Error"
    assert [item["message"] for item in made[HOSTS]["results"]] == ["timeout: slow", "pass on 1 host"]
    assert status(made[HOSTS]) == "Profile Error"
    assert statuses(CASES["compliant"]()) == {
        HOSTS: "Passed",
        "shells/no-shell": "Passed",
        "web/owners": "Passed",
    }
    assert statuses(CASES["nothing"]()) == {HOSTS: "Profile Error"}
    assert statuses(report()) == {HOSTS: "Profile Error"}
    assert statuses(report(reached("a"))) == {HOSTS: "Profile Error"}
    cut = report(reached("a", result(NO_SHELL, "a")), run=replace(RUN, complete=False))
    assert statuses(cut)[HOSTS] == "Profile Error"


def test_a_rule_without_anything_to_judge_anywhere_is_not_applicable() -> None:
    idle = result(NO_SHELL, "a", Finding(Verdict.NOT_APPLICABLE, "nothing"))
    for options in (None, PASSES):
        assert statuses(report(reached("a", idle)), options)["shells/no-shell"] == "Not Applicable"


def test_a_rule_that_is_waived_wherever_it_was_judged_is_not_reviewed_and_nothing_else() -> None:
    waived = result(NO_SHELL, "a", replace(leak(), verdict=Verdict.WAIVED, waiver="OPS-7"))
    made = statuses(report(reached("a", waived)))
    assert made == {HOSTS: "Passed", "shells/no-shell (waived)": "Not Reviewed"}


def test_denominators_controls_and_remediation_are_there_and_argv_is_not() -> None:
    made = document(CASES["verdicts"]())
    assert made["passthrough"]["summary"]["hosts"]["targeted"] == 6
    assert {item["summary"] for item in made["profiles"]} == {
        "6 targeted, 6 reached, 5 fully covered, 5 judged"
    }
    control = controls(CASES["verdicts"]())["shells/no-shell"]
    assert control["tags"]["pci_dss_4"] == ["2.2.4"]
    assert control["descriptions"][0]["data"].startswith("End the shell")
    nist = replace(NO_SHELL, controls={"nist_800_53_r5": ("CM-7",)})
    assert controls(report(reached("a", result(nist, "a"))))["shells/no-shell"]["tags"]["nist"] == ["CM-7"]
    assert b"app.py" not in render("hdf", CASES["verdicts"](), PASSES)


def test_many_results_are_counted() -> None:
    (control,) = [
        item
        for name, item in controls(report(reached("a", result(NO_SHELL, "a", *[leak()] * 1500)))).items()
        if name != HOSTS
    ]
    assert len(control["results"]) == 1001
    assert control["results"][-1]["message"] == "500 more results of this status"
    assert control["results"][-1]["status"] == "failed"


@few
@given(fleets, st.booleans())
def test_a_control_is_passed_only_where_nothing_else_was_found(fleet: list[HostAudit], passes: bool) -> None:
    made = document(reporting(fleet), RenderOptions(include_pass=passes))
    for profile in made["profiles"][1:]:
        for control in profile["controls"]:
            if status(control) != "Passed":
                continue
            there = [
                (item, audit)
                for audit in fleet
                for item in audit.results
                if json.loads(json.dumps(control["id"])) == f"{item.policy}/{item.rule}"
            ]
            for item, audit in there:
                assert audit.outcome.snapshot is not None
                kinds = {finding.verdict for finding in item.findings}
                assert not kinds & {Verdict.FAIL, Verdict.UNKNOWN, Verdict.ERROR}
