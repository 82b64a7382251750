"""The job summary as a CommonMark parser with GitHub's tables reads it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fleetaudit.model import Finding, Gap, HostAudit, Report, Verdict
from fleetaudit.report import RenderOptions
from fleetaudit.text import visible
from tests.report.cases import CASES, HOSTILE, NO_SHELL, RUN, leak, reached, render, report, result
from tests.report.fleets import few, fleets, hidden, reporting

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PLAIN = {"text", "text_special", "softbreak", "strong_open", "strong_close"}


def tokens(of: Report, options: RenderOptions | None = None) -> list[Token]:
    return READER.parse(render("markdown", of, options).decode())


def tables(of: Report, options: RenderOptions | None = None) -> dict[str, list[list[str]]]:
    """Rows of cells, as text, by the heading above the table."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    inside: list[str] = []
    for token in tokens(of, options):
        inside.append(token.type)
        if token.type == "tr_open":
            found.setdefault(heading, []).append([])
        if token.type == "inline" and token.children is not None:
            text = "".join(child.content for child in token.children)
            if inside[-2] == "heading_open":
                heading = text.partition(":")[0]
            elif inside[-2] in ("td_open", "th_open"):
                found[heading][-1].append(text)
    return found


def test_everything_that_is_no_pass_is_a_row() -> None:
    made = tables(CASES["verdicts"]())
    assert made["Hosts"] == [["targeted", "reached", "fully covered", "judged"], ["6", "6", "5", "5"]]
    assert made["Results"][1] == ["3", "2", "1", "1", "1", "1"]
    assert [row[:3] for row in made["Violations"][1:]] == [
        ["critical", "shells/no-shell", "web1"],
        ["critical", "shells/no-shell", "web1"],
        ["medium", "web/owners", "web2"],
    ]
    assert "tcp 0.0.0.0:8080 held by python3[80](www-data); sh[81](www-data)" in made["Violations"][1][3]
    assert made["Covered only in part"][1] == ["web3", "hidepid: 3 processes"]
    assert made["Not judged, no rule applies"][1] == ["web6"]
    assert made["Could not be judged"][1][0] == "web3"
    assert made["Errors"][1][0] == "web4"
    assert made["Waived"][1][1].startswith("OPS-7")
    assert "Passed" not in made
    assert len(tables(CASES["verdicts"](), RenderOptions(include_pass=True))["Passed"]) == 3
    assert len(tables(CASES["failures"]())["Not audited"]) == 10


def test_the_percentage_states_its_formula_and_is_rounded_down() -> None:
    text = render("markdown", CASES["verdicts"]()).decode()
    assert "Compliance: 37.5 % = pass / (pass + fail + waived + unknown + error)" in text
    nearly = [reached(f"h{n}", result(NO_SHELL, f"h{n}")) for n in range(4999)]
    almost = report(*nearly, reached("x", result(NO_SHELL, "x", leak())))
    assert "Compliance: 99.9 % =" in render("markdown", almost).decode()
    assert "Compliance: none: nothing was judged" in render("markdown", CASES["nothing"]()).decode()


def test_an_interrupted_run_says_so() -> None:
    made = render("markdown", report(reached("h", result(NO_SHELL, "h")), run=replace(RUN, complete=False)))
    assert made.startswith(b"## fleetaudit: Interrupted")
    assert b"**The run was interrupted: hosts are missing.**" in made


def test_it_is_never_over_one_mebibyte_and_counts_what_it_leaves_out() -> None:
    wide = "\U0001f600" * 500
    rules = [replace(NO_SHELL, rule=f"{n}{wide}", remediation=wide) for n in range(25)]
    doubts = [Finding(Verdict.UNKNOWN, f"{n} {wide}") for n in range(400)]
    waived = [Finding(Verdict.WAIVED, f"{n} {wide}", waiver=f"{n} {wide}") for n in range(400)]
    fails = [replace(leak(), reason=f"{n} {wide}") for n in range(10)]
    judged = [result(rule, "h", *fails, *doubts, *waived) for rule in rules]
    audit = reached("h" + wide, *judged, gaps=[Gap("hidepid", "3 processes")])
    data = render("markdown", report(audit))
    assert 700_000 < len(data) < 2**20
    assert b"rows had no place: a summary has at most 1 MiB.**" in data
    for title in (b"Violations", b"Covered only in part", b"Could not be judged", b"Waived"):
        _, _, section = data.partition(b"### " + title)
        assert section.split(b"\n")[4].startswith(b"| ")  # none is crowded out


def test_argv_is_not_in_it() -> None:
    assert b"app.py" not in render("markdown", CASES["verdicts"](), RenderOptions(include_pass=True))


def require_text_only(data: str) -> None:
    for token in READER.parse(data):
        blocks = ("heading", "table", "thead", "tbody", "tr", "th", "td", "paragraph", "inline")
        assert token.type.startswith(blocks)
        assert {child.type for child in token.children or ()} <= PLAIN


def test_hostile_text_arrives_as_text() -> None:
    require_text_only(render("markdown", CASES["hostile"]()).decode())
    cells = {row[4] for row in tables(CASES["hostile"]())["Violations"][1:]}
    assert {visible(text)[:400].strip() for text in HOSTILE} == {cell[:400].strip() for cell in cells}


@few
@given(fleets, st.booleans())
def test_no_text_makes_markup(fleet: list[HostAudit], passes: bool) -> None:
    of = reporting(fleet)
    options = RenderOptions(include_pass=passes)
    data = render("markdown", of, options).decode()
    assert hidden(data) <= {"\n"}
    require_text_only(data)
    for rows in tables(reporting(fleet), options).values():
        assert len({len(row) for row in rows}) == 1
    summary = of.summary()
    assert ("### Not audited: " in data) == bool(summary.failed)
