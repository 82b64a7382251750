"""Whatever hosts and files say: every format stays readable, valid and honest."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.model import HostAudit
from fleetaudit.report import RenderOptions
from fleetaudit.report.csv_rows import COLUMNS
from tests.report.cases import RUN, render
from tests.report.fleets import fleets, hidden, modest, reporting
from tests.report.strict_schema import problems


@modest
@given(fleets, st.integers(0, 200), st.booleans(), st.booleans())
def test_text_is_plain_and_keeps_its_width(
    fleet: list[HostAudit], width: int, colour: bool, passes: bool
) -> None:
    options = RenderOptions(include_pass=passes, width=width, colour=colour, entries=2)
    shown = render("text", reporting(fleet), options).decode()
    if colour:
        shown = re.sub(r"\x1b\[[0-9;]+m(.*)\x1b\[0m$", r"\1", shown, flags=re.MULTILINE)
    assert hidden(shown) <= {"\n"}
    assert max(map(len, shown.splitlines())) <= max(width, 40)


@modest
@given(fleets)
def test_text_calls_only_a_compliant_run_compliant_and_names_what_is_wrong(fleet: list[HostAudit]) -> None:
    of = reporting(fleet)
    shown = render("text", of).decode()
    summary = of.summary()
    assert shown.startswith("COMPLIANT") == (summary.exit_code == 0)
    assert ("Not audited: " in shown) == bool(summary.failed)
    assert ("no violation seen" in shown) == (summary.results["fail"] == 0)
    assert shown.rstrip().splitlines()[-1].startswith(("Exit code ", "  "))


@modest
@given(fleets)
def test_csv_reads_back_row_by_row_and_runs_nothing(fleet: list[HostAudit]) -> None:
    shown = render("csv", reporting(fleet)).decode()
    assert hidden(shown) <= {"\n"}
    rows = list(csv.reader(io.StringIO(shown, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    for cell in (cell for row in rows for cell in row):
        assert cell != "-"
        assert not cell.lstrip().startswith(tuple("=+-@"))
    expected: Counter[str] = Counter()
    for audit in fleet:
        if audit.outcome.snapshot is None or not audit.results:
            expected["unknown"] += 1
            continue
        for result in audit.results:
            expected.update(finding.verdict.value for finding in result.findings)
            expected["pass"] += not result.findings
    assert Counter(row[COLUMNS.index("verdict")] for row in rows[1:]) == +expected


@modest
@given(fleets)
def test_json_is_valid_whole_and_keeps_strings_as_they_are(fleet: list[HostAudit]) -> None:
    of = reporting(fleet)
    data = render("json", of)
    assert data.isascii()
    document = json.loads(data)
    assert problems(document) == []
    assert list(document) == ["schema", "run", "results", "hosts", "summary"]
    assert [host["name"] for host in document["hosts"]] == [audit.outcome.host for audit in fleet]
    made = [result for audit in fleet for result in audit.results]
    assert [(entry["rule"], entry["verdict"]) for entry in document["results"]] == [
        (result.rule, result.verdict.value) for result in made
    ]
    reasons = [finding["reason"] for entry in document["results"] for finding in entry["findings"]]
    assert reasons == [finding.reason for result in made for finding in result.findings]
    counted = Counter(entry["verdict"] for entry in document["results"])
    assert counted == +Counter(document["summary"]["results"])


@modest
@given(fleets)
def test_json_lines_are_the_objects_of_the_json_report(fleet: list[HostAudit]) -> None:
    document = json.loads(render("json", reporting(fleet)))
    lines = [json.loads(line) for line in render("jsonl", reporting(fleet)).split(b"\n")[:-1]]
    assert {line.pop("run") for line in lines} == {RUN.id}
    kinds: dict[str, list[object]] = {"run": [], "result": [], "host": [], "summary": []}
    assert (lines[0]["type"], lines[-1]["type"]) == ("run", "summary")
    for line in lines:
        kinds[line.pop("type")].append(line)
    assert kinds["run"] == [{"schema": document["schema"], **document["run"]}]
    assert kinds["result"] == document["results"]
    assert kinds["host"] == document["hosts"]
    assert kinds["summary"] == [document["summary"]]
