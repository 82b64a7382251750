"""OSCAL by the schema of somebody else's models, and by what an auditor may conclude."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

from fleetaudit.model import Finding, HostAudit, HostStatus, Report, Verdict
from fleetaudit.report import RenderOptions
from tests.report.cases import CASES, HOSTILE, NO_SHELL, RUN, failed, leak, reached, render, report, result
from tests.report.fleets import few, fleets, reporting

SCHEMA = Path(__file__).parent / "schemas" / "oscal-assessment-results.schema.json"
PASSES = RenderOptions(include_pass=True)


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(
        json.loads(SCHEMA.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def document(of: Report, options: RenderOptions | None = None) -> Any:
    made = json.loads(render("oscal", of, options))
    assert [f"{error.json_path}: {error.message}" for error in validator().iter_errors(made)] == []
    assert all(value is not None and value != [] for value in values(made))
    return made["assessment-results"]


def values(made: object) -> Iterator[object]:
    """Everything in the document: OSCAL has no null and no empty list, which the models would let pass."""
    yield made
    inside = made.values() if isinstance(made, dict) else made if isinstance(made, list) else ()
    for item in inside:
        yield from values(item)


def findings(of: Report, options: RenderOptions | None = None) -> dict[str, tuple[str, str]]:
    (made,) = document(of, options)["results"]
    targets = [finding["target"] for finding in made.get("findings", [])]
    return {item["target-id"]: (item["status"]["state"], item["status"]["reason"]) for item in targets}


def verdicts(of: Report, options: RenderOptions | None = None) -> list[str]:
    (made,) = document(of, options)["results"]
    props = [item["props"] for item in made["observations"]]
    return [prop["value"] for entries in props for prop in entries if prop["name"] == "verdict"]


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_valid(case: str) -> None:
    for options in (None, PASSES) if case != "many" else (None,):
        document(CASES[case](), options)


def test_the_schema_refuses_what_is_wrong() -> None:
    made = json.loads(render("oscal", CASES["verdicts"]()))
    made["assessment-results"]["results"][0]["findings"][0]["target"]["status"]["state"] = "fine"
    assert list(validator().iter_errors(made))


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("options", [None, PASSES])
def test_a_rule_is_satisfied_only_where_nothing_but_passes_was_found(
    verdict: Verdict, options: RenderOptions | None
) -> None:
    other = result(NO_SHELL, "b", *([] if verdict is Verdict.PASS else [replace(leak(), verdict=verdict)]))
    made = findings(report(reached("a", result(NO_SHELL, "a")), reached("b", other)), options)
    expected = {
        Verdict.PASS: ("satisfied", "pass"),
        Verdict.NOT_APPLICABLE: ("satisfied", "pass"),
        Verdict.FAIL: ("not-satisfied", "fail"),
    }
    assert made == {"shells.no-shell": expected.get(verdict, ("not-satisfied", "other"))}


def test_a_host_that_was_not_audited_keeps_its_rules_from_being_satisfied() -> None:
    of = report(reached("a", result(NO_SHELL, "a")), failed("b", HostStatus.TIMEOUT, "slow"))
    (made,) = document(of)["results"]
    (finding,) = made["findings"]
    assert finding["target"]["status"]["remarks"] == "1 pass, 1 not audited"
    assert finding["target"]["status"]["state"] == "not-satisfied"
    assert made["observations"][0]["description"] == "b: timeout: slow"


def test_where_nothing_was_judged_there_is_no_finding_but_an_observation() -> None:
    idle = Finding(Verdict.NOT_APPLICABLE, "nothing to judge")
    of = report(reached("a", result(NO_SHELL, "a", idle)))
    assert findings(of) == {}
    of = report(reached("a", result(NO_SHELL, "a", idle)))
    assert verdicts(of) == ["unknown", "not_applicable"]  # the host itself, and the rule


def test_observations() -> None:
    assert verdicts(CASES["verdicts"]()) == [
        "fail",
        "fail",
        "unknown",
        "waived",
        "error",
        "unknown",
        "pass",
        "pass",
        "not_applicable",
    ]
    listed = verdicts(CASES["verdicts"](), PASSES)
    assert (listed.count("pass"), listed.count("not_applicable")) == (3, 1)
    (made,) = document(CASES["verdicts"]())["results"]
    waived = next(item for item in made["observations"] if item["props"][0]["value"] == "waived")
    (evidence,) = waived["relevant-evidence"]
    assert {"waiver", "fingerprint"} <= {prop["name"] for prop in evidence["props"]}
    assert b"app.py" not in render("oscal", CASES["verdicts"](), PASSES)


def test_every_id_that_is_referred_to_is_there_and_the_same_run_gives_the_same() -> None:
    made = document(CASES["verdicts"]())
    (entry,) = made["results"]
    observations = {item["uuid"] for item in entry["observations"]}
    assert len(observations) == len(entry["observations"])
    for finding in entry["findings"]:
        assert {item["observation-uuid"] for item in finding["related-observations"]} <= observations
    items = {item["uuid"] for item in entry["local-definitions"]["inventory-items"]}
    subjects = {item["subject-uuid"] for seen in entry["observations"] for item in seen.get("subjects", [])}
    assert subjects <= items
    assert len(items) == 6
    assert made["import-ap"]["href"] == f"#{made['back-matter']['resources'][0]['uuid']}"
    assert {UUID(name).version for name in observations | items} == {5}
    assert made == document(CASES["verdicts"]())
    other = document(report(run=replace(RUN, id="another")))
    assert other["uuid"] != document(report())["uuid"]


def test_denominators_formula_and_controls() -> None:
    (made,) = document(CASES["verdicts"]())["results"]
    numbers = {prop["name"]: prop["value"] for prop in made["props"]}
    assert (numbers["hosts-targeted"], numbers["hosts-judged"], numbers["results-waived"]) == ("6", "5", "1")
    assert "Compliance 37.5 % = pass / (pass + fail" in made["description"]
    selections = made["reviewed-controls"]["control-selections"]
    assert [item["include-controls"] for item in selections] == [
        [{"control-id": "_4.8"}, {"control-id": "_4.1"}],
        [{"control-id": "_2.2.4"}],
    ]
    nist = replace(NO_SHELL, controls={"nist_800_53_r5": ("CM-7(1)",)})
    (made,) = document(report(reached("a", result(nist, "a"))))["results"]
    (selection,) = made["reviewed-controls"]["control-selections"]
    assert selection["include-controls"] == [{"control-id": "cm-7.1"}]
    (empty,) = document(report())["results"]
    assert empty["reviewed-controls"] == {"control-selections": [{"include-all": {}}]}
    assert empty["observations"][0]["description"] == "no host was targeted"
    cut = document(report(run=replace(RUN, complete=False)))
    assert cut["results"][0]["observations"][0]["title"] == "The run is incomplete"


def test_text_from_hosts_makes_no_markup_in_descriptions() -> None:
    (made,) = document(CASES["hostile"]())["results"]
    texts = [
        item["description"] for seen in made["observations"] for item in seen.get("relevant-evidence", [])
    ]
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    kinds = {kind.type for text in texts for kind in reader.parseInline(text)[0].children or ()}
    assert kinds <= {"text", "text_special"}
    assert len(texts) == 2 * len(HOSTILE)


def test_times_that_are_none_are_replaced_by_the_runs() -> None:
    audit = reached("a", result(NO_SHELL, "a", leak()))
    assert audit.outcome.snapshot is not None
    snapshot = replace(audit.outcome.snapshot, collected_at="2026-99-99T00:00:00Z")
    lying = replace(audit, outcome=replace(audit.outcome, snapshot=snapshot))
    (made,) = document(report(lying))["results"]
    assert made["observations"][0]["collected"] == RUN.finished_at
    document(report(lying, run=replace(RUN, started_at="x", finished_at="y")))


@few
@given(fleets, st.booleans())
def test_nothing_that_is_no_pass_is_lost(fleet: list[HostAudit], passes: bool) -> None:
    told = verdicts(reporting(fleet), RenderOptions(include_pass=passes))
    found = [item.verdict for audit in fleet if audit.outcome.snapshot for item in audit.results]
    for verdict in (Verdict.FAIL, Verdict.WAIVED, Verdict.ERROR):
        assert told.count(verdict.value) == found.count(verdict)
    silent = sum(audit.outcome.snapshot is None for audit in fleet)
    assert told.count("unknown") >= found.count(Verdict.UNKNOWN) + silent
