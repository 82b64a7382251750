"""What the JSON report says beyond its shape."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fleetaudit.model import Finding, HostStatus, Report, Secret, Verdict
from tests.report.cases import (
    CASES,
    LEAK,
    NO_SHELL,
    RUN,
    SERVER,
    WEB,
    failed,
    leak,
    reached,
    render,
    report,
    result,
)
from tests.report.strict_schema import problems, published


def document(of: Report) -> Any:
    return json.loads(render("json", of))


def walk(schema: object) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in walk(item)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for value in schema.values() for found in walk(value))]


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_valid_by_the_published_schema(case: str) -> None:
    made = document(CASES[case]())
    assert problems(made) == []
    Draft202012Validator(published()).validate(made)


def test_the_schema_is_one_and_describes_every_key() -> None:
    schema = published()
    Draft202012Validator.check_schema(schema)
    for item in walk(schema):
        for name, property_ in item.get("properties", {}).items():
            if isinstance(property_, dict):
                assert "description" in property_ or "$ref" in property_, name


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("results", 0, "verdict"), "passed"),
        (("results", 0, "findings", 0, "owners", 0, "pid"), "80"),
        (("hosts", 0, "status"), "fine"),
        (("hosts", 0, "surprise"), 1),
        (("summary", "exit_code"), None),
        (("run", "complete"), "yes"),
    ],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[str | int, ...], value: object) -> None:
    made = document(CASES["verdicts"]())
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert problems(made)


def test_owners_are_all_that_hold_and_those_concerned_are_marked() -> None:
    held = replace(WEB, owners=(LEAK,), held_by=(SERVER, LEAK))
    (finding,) = document(report(reached("h", result(NO_SHELL, "h", leak(held)))))["results"][0]["findings"]
    marks = [(owner["pid"], owner["concerned"], owner.get("held_by", False)) for owner in finding["owners"]]
    assert marks == [(80, False, True), (81, True, False)]
    assert finding["owners"][1]["inherited"] == "leak"
    assert [ancestor["comm"] for ancestor in finding["owners"][1]["ancestors"]] == ["python3", "systemd"]


def test_owners_of_an_endpoints_other_sockets_are_there_too() -> None:
    rogue = replace(LEAK, process=replace(LEAK.process, pid=99))
    finding = Finding(Verdict.FAIL, "two programs share it", replace(WEB, owners=(SERVER,)), (SERVER, rogue))
    (made,) = document(report(reached("h", result(NO_SHELL, "h", finding))))["results"][0]["findings"]
    assert [(owner["pid"], "held_by" in owner) for owner in made["owners"]] == [(80, False), (99, False)]


def test_unknown_is_absent_and_none_is_null() -> None:
    made = document(CASES["sparse"]())["results"][0]["findings"]
    assert "address" not in made[0]["listener"]
    assert made[1]["listener"]["path"] is None
    assert "exe" not in made[0]["owners"][0]
    assert made[0]["owners"][1]["container"] is None


def test_a_failed_host_claims_nothing_and_its_rules_are_unknown() -> None:
    made = document(report(failed("db1", HostStatus.UNREACHABLE, "no route")))
    (host,) = made["hosts"]
    assert (host["status"], host["detail"]) == ("unreachable", "no route")
    assert [host[key] for key in ("coverage", "agent", "endpoints", "collected_at", "clock_skew")] == [
        None
    ] * 5
    assert [entry["verdict"] for entry in made["results"]] == ["unknown"]


@pytest.mark.parametrize(
    ("collected", "received", "skew"),
    [
        ("2026-11-22T10:00:02.250Z", "2026-11-22T10:00:03Z", -0.75),
        ("2026-11-22T11:00:00Z", "2026-11-22T10:00:00.000001Z", 3600.0),
        ("2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00Z", 0.123),
        ("2026-02-31T10:00:00Z", "2026-11-22T10:00:00Z", None),
        ("yesterday", "2026-11-22T10:00:00Z", None),
        (None, "2026-11-22T10:00:00Z", None),
        ("2026-11-22T10:00:00Z", None, None),
    ],
)
def test_clock_skew(collected: str | None, received: str | None, skew: float | None) -> None:
    audit = reached("h")
    assert audit.outcome.snapshot is not None
    snapshot = replace(audit.outcome.snapshot, collected_at=collected)
    outcome = replace(audit.outcome, snapshot=snapshot, received_at=received)
    (host,) = document(report(replace(audit, outcome=outcome)))["hosts"]
    assert host["clock_skew"] == skew


def test_options_of_any_kind_are_written_and_secrets_are_masked() -> None:
    options = {
        "password": Secret("hunter2"),
        "ratio": float("inf"),
        "of": {3, 1, 2},
        "map": {1: (None, True)},
    }
    data = render("json", report(run=replace(RUN, options=options)))
    assert b"hunter2" not in data
    assert json.loads(data)["run"]["options"] == {
        "password": "Secret(***)",
        "ratio": "inf",
        "of": [1, 2, 3],
        "map": {"1": [None, True]},
    }


def test_a_host_judged_as_a_container_says_so() -> None:
    notices = {host["name"]: host.get("notice") for host in document(CASES["verdicts"]())["hosts"]}
    assert [name for name, notice in notices.items() if notice] == ["web5"]
    assert "judged inside the container" in str(notices["web5"])


def test_json_streams() -> None:
    """The first results are out before the last host is read."""
    from fleetaudit.report import RenderOptions, parts

    taken: list[str] = []

    def slowly() -> Any:
        for name in ("a", "b"):
            taken.append(name)
            yield reached(name, result(NO_SHELL, name))

    of = report()
    chunks = parts("json", RenderOptions())[0].renderer(replace(of, audits=slowly()))
    seen = b""
    while b'"host": "a"' not in seen:
        seen += next(chunks)
    assert taken == ["a"]
