"""Metrics as Prometheus' own parser and promtool read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from fleetaudit.model import HostAudit, Report
from tests.report.cases import CASES, NO_SHELL, RUN, leak, reached, render, report, result
from tests.report.fleets import few, fleets, hidden, reporting

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(of: Report) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(render("prometheus", of).decode()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            key = (sample.name.removeprefix("fleetaudit_"), frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(of: Report, name: str, **labels: str) -> float:
    return samples(of)[name, frozenset(labels.items())]


def test_counts_and_denominators() -> None:
    made = CASES["verdicts"]()
    assert [value(made, f"hosts_{name}") for name in ("targeted", "reached", "fully_covered", "judged")] == [
        6,
        6,
        5,
        5,
    ]
    assert value(CASES["failures"](), "hosts", status="unreachable") == 1
    verdicts = ("pass", "fail", "waived", "unknown", "error", "not_applicable")
    assert [value(CASES["verdicts"](), "results", verdict=name) for name in verdicts] == [3, 2, 1, 1, 1, 1]
    rule = {"policy": "shells", "rule": "no-shell", "severity": "critical"}
    assert value(CASES["verdicts"](), "rule_results", **rule, verdict="waived") == 1
    assert value(CASES["verdicts"](), "compliance_ratio") == 0.375
    assert value(CASES["verdicts"](), "run_start_timestamp_seconds") == 1795341600
    assert value(CASES["verdicts"](), "exit_code") == 1


def test_nothing_judged_is_no_ratio_and_an_interrupted_run_says_so() -> None:
    made = samples(CASES["nothing"]())
    assert not any(name == "compliance_ratio" for name, _ in made)
    assert made["run_complete", frozenset()] == 0


def test_a_time_that_is_none_is_left_out() -> None:
    made = samples(report(run=replace(RUN, started_at="yesterday", finished_at="2026-11-22T10:00:00")))
    assert not any("timestamp" in name for name, _ in made)


def test_series_do_not_grow_with_the_fleet_and_are_bounded_in_rules() -> None:
    few, many = CASES["compliant"](), CASES["many"]()
    assert len(samples(few)) == len(samples(many))
    rules = [replace(NO_SHELL, rule=f"r{n}") for n in range(1100)]
    made = samples(report(reached("h", *(result(rule, "h", leak()) for rule in rules))))
    assert made["rules_left_out", frozenset()] == 100
    assert sum(name == "rule_results" for name, _ in made) == 6000
    assert made["results", frozenset({("verdict", "fail")})] == 1100


def test_rules_whose_labels_are_cut_alike_are_added_up() -> None:
    rules = [replace(NO_SHELL, policy="p" * 300 + "x" * n) for n in (1, 1)]
    made = samples(report(reached("h", *(result(rule, "h", leak()) for rule in rules))))
    (fail,) = [
        count
        for (name, labels), count in made.items()
        if name == "rule_results" and ("verdict", "fail") in labels
    ]
    assert fail == 2


@pytest.mark.parametrize("case", CASES)
def test_promtool_has_nothing_against_it(case: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("FLEETAUDIT_NO_SKIP"), "see .ci/run"
        pytest.skip("promtool is not installed")
    data = render("prometheus", CASES[case]())
    done = subprocess.run([promtool, "check", "metrics"], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@few
@given(fleets)
def test_any_text_is_a_label(fleet: list[HostAudit]) -> None:
    assert hidden(render("prometheus", reporting(fleet)).decode()) <= {"\n"}
    made = samples(reporting(fleet))
    counted = sum(count for (name, _), count in made.items() if name == "rule_results")
    assert counted == sum(len(audit.results) for audit in fleet)
