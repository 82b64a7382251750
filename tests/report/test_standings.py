"""What became of waivers, in every format that is not the JSON report's own."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from junitparser import JUnitXml
from openpyxl import load_workbook

from fleetaudit.model import BaselineStanding, Report, Summary, WaiverStanding
from tests.report.cases import CASES, NO_SHELL, RUN, leak, reached, render, report, result

EXPIRED = WaiverStanding("waivers.yaml", 7, "shells", "no-shell", "r", ("expired",), "it ended on 2026-01-01")
USED = WaiverStanding("waivers.yaml", 9, "web", "owners", "r", ("used",), "all is well")


def waived(of: Report) -> Report:
    """The same, with one waiver that wants attention and one that does not."""

    def summary() -> Summary:
        return replace(of.summary(), waivers=(EXPIRED, USED))

    return replace(of, summary=summary)


@pytest.mark.parametrize("name", ["markdown", "github", "sarif", "oscal", "ocsf", "hdf", "junit"])
def test_a_waiver_that_wants_attention_is_told(name: str) -> None:
    data = render(name, waived(CASES["compliant"]())).decode()
    assert "it ended on 2026-01-01" in data
    assert "it ended on 2026-01-01" not in render(name, CASES["compliant"]()).decode()
    if name not in ("ocsf", "hdf", "sarif"):  # those carry the summary whole
        assert "all is well" not in data


def test_in_junit_it_fails_where_it_fails_the_run() -> None:
    def counts(**options: object) -> tuple[int, int]:
        of = waived(report(run=replace(RUN, options=options)))
        *_, last = JUnitXml.fromstring(render("junit", of))
        return (last.failures, last.skipped)

    assert counts() == (0, 1)
    assert counts(strict_waivers=True) == (1, 0)


def test_in_metrics_it_is_counted() -> None:
    data = render("prometheus", waived(CASES["compliant"]())).decode()
    assert "\nfleetaudit_waivers 2\n" in data
    assert "\nfleetaudit_waivers_wanting_attention 1\n" in data


def test_in_a_workbook_it_is_on_the_first_sheet() -> None:
    book = load_workbook(io.BytesIO(render("xlsx", waived(CASES["compliant"]()))))
    told = [row for row in book["Summary"].iter_rows(values_only=True) if str(row[0]).startswith("waiver")]
    assert told == [("waiver expired", None, "waivers.yaml:7 shells/no-shell: it ended on 2026-01-01")]


@pytest.mark.parametrize("name", ["markdown", "github", "sarif", "oscal", "junit", "xlsx"])
def test_what_shaped_the_verdict_is_said(name: str) -> None:
    rule = result(NO_SHELL, "h", replace(leak(), new=True), replace(leak(), new=False))
    of = report(reached("h", rule), run=replace(RUN, options={"rules_left_out": 3}))
    gate = BaselineStanding("last-week.jsonl", 7, 1, 1, 0, new_only=True)

    def summary() -> Summary:
        return replace(of.summary(), baseline=gate)

    data = render(name, replace(of, summary=summary))
    if name == "xlsx":
        cells = load_workbook(io.BytesIO(data))["Summary"].iter_rows(values_only=True)
        text = "; ".join(str(row[2]) for row in cells)
    else:
        text = data.decode()
        assert "(new)" in text
        assert "(old: in the baseline)" in text
    assert "3 rules left out by --tags and --skip-tags" in text
    assert "against the baseline last-week.jsonl (7 hosts): 1 new violation, 1 old" in text
    if name == "sarif":
        states = [item.get("baselineState") for item in json.loads(data)["runs"][0]["results"]]
        assert states == ["new", "unchanged"]
