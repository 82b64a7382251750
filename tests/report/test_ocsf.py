"""OCSF events by the schema that the framework's own data makes (ocsf-json-schema)."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from fleetaudit.model import HostAudit, HostStatus, Report, Verdict
from fleetaudit.report import RenderOptions
from fleetaudit.report.ocsf import VERSION
from tests.report.cases import (
    CASES,
    HOSTILE,
    NO_SHELL,
    PYTHON,
    SERVER,
    WEB,
    failed,
    leak,
    reached,
    render,
    report,
    result,
)
from tests.report.fleets import few, fleets, reporting

PASSES = RenderOptions(include_pass=True)
CLASSES = {2003: "compliance_finding", 6007: "scan_activity"}


@cache
def validator(class_uid: int) -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION)).get_class_schema(CLASSES[class_uid])
    return Draft202012Validator(schema)


def events(of: Report, options: RenderOptions | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in render("ocsf", of, options).split(b"\n")[:-1]]


def problems(event: dict[str, Any]) -> list[str]:
    errors = validator(event["class_uid"]).iter_errors(event)
    return [f"{error.json_path}: {error.message}" for error in errors]


@pytest.mark.parametrize("case", [case for case in CASES if case != "many"])
def test_every_case_is_valid(case: str) -> None:
    for event in events(CASES[case](), PASSES):
        assert problems(event) == []


def test_the_schema_refuses_what_is_wrong() -> None:
    event = events(CASES["verdicts"]())[0]
    event["compliance"]["status_id"] = 7
    assert problems(event)


def test_verdicts_and_hosts() -> None:
    *found, scan = events(CASES["verdicts"]())
    told = [
        (item["device"]["hostname"], item["compliance"]["status"], item["severity"], item["status"])
        for item in found
    ]
    assert told == [
        ("web1", "Fail", "Critical", "New"),
        ("web1", "Fail", "Critical", "New"),
        ("web2", "Fail", "Medium", "New"),
        ("web3", "Unknown", "Critical", "New"),
        ("web4", "Waived", "Informational", "Suppressed"),
        ("web4", "Error", "Medium", "New"),
        ("web6", "Unknown", "High", "New"),
    ]
    assert found[4]["comment"].startswith("waived: OPS-7")
    with_passes = [item["compliance"]["status"] for item in events(CASES["verdicts"](), PASSES)[:-1]]
    assert (with_passes.count("Pass"), with_passes.count("Not Applicable")) == (3, 1)
    assert (scan["class_uid"], scan["total"], scan["num_detections"]) == (6007, 6, 6)


def test_the_last_line_has_the_denominators_and_says_what_was_cut_short() -> None:
    *_, scan = events(CASES["failures"]())
    assert (scan["total"], scan["num_skipped_items"], scan["activity_id"]) == (10, 9, 2)
    assert scan["unmapped"]["summary"]["hosts"]["targeted"] == 10
    (interrupted,) = events(CASES["nothing"]())
    assert interrupted["activity_id"] == 3


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_an_event(status: HostStatus) -> None:
    event, _ = events(report(failed("db1", status, "why")))
    assert (event["device"]["hostname"], event["compliance"]["status_id"]) == ("db1", 0)
    assert event["message"] == f"{status.value}: why"


def test_evidence_is_every_holder_and_no_argv() -> None:
    event, _ = events(report(reached("h", result(NO_SHELL, "h", leak()))))
    assert [item["process"]["pid"] for item in event["evidences"]] == [80, 81]
    assert event["evidences"][1]["dst_endpoint"] == {"ip": "0.0.0.0", "port": 8080}
    assert [item["data"]["concerned"] for item in event["evidences"]] == [False, True]
    assert event["compliance"]["requirements"] == [
        "cis_controls_8 4.8",
        "cis_controls_8 4.1",
        "pci_dss_4 2.2.4",
    ]
    assert b"app.py" not in render("ocsf", CASES["verdicts"](), PASSES)
    owners = tuple(replace(SERVER, process=replace(PYTHON, pid=100 + n)) for n in range(60))
    crowd = leak(replace(WEB, owners=owners), owners[0])
    long = events(report(reached("h", result(NO_SHELL, "h", crowd))))
    assert long[0]["evidences"][-1]["data"]["holders_not_listed"] == 10


def test_every_line_is_one_object_whatever_hosts_say() -> None:
    data = render("ocsf", CASES["hostile"]())
    assert data.isascii()
    assert len(data.splitlines()) == 3 * len(HOSTILE) + 1


@few
@given(fleets, st.booleans())
def test_nothing_that_is_no_pass_is_lost(fleet: list[HostAudit], passes: bool) -> None:
    made = events(reporting(fleet), RenderOptions(include_pass=passes))
    assert [error for event in made for error in problems(event)] == []
    there = [audit for audit in fleet if audit.outcome.snapshot is not None]
    found = [finding.verdict for audit in there for item in audit.results for finding in item.findings]
    told = [event["unmapped"]["verdict"] for event in made[:-1]]
    for verdict in (Verdict.FAIL, Verdict.WAIVED, Verdict.ERROR):
        assert told.count(verdict.value) == found.count(verdict)
    silent = sum(audit.outcome.snapshot is None for audit in fleet)
    assert told.count("unknown") >= found.count(Verdict.UNKNOWN) + silent
