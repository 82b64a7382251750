"""Annotations as the runner of GitHub Actions reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.model import HostAudit, Report, Severity
from fleetaudit.report import RenderOptions
from tests.report.cases import CASES, NO_SHELL, leak, reached, render, report, result
from tests.report.fleets import few, fleets, hidden, reporting


@dataclass(frozen=True)
class Command:
    kind: str
    properties: dict[str, str]
    message: str


def unescape(text: str) -> str:
    """As ActionCommand.cs of actions/runner does."""
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def parse(line: str) -> Command:
    assert line.startswith("::"), line
    head, _, message = line[2:].partition("::")
    kind, _, rest = head.partition(" ")
    pairs = (item.partition("=") for item in rest.split(","))
    return Command(kind, {name: unescape(value) for name, _, value in pairs}, unescape(message))


def commands(of: Report, options: RenderOptions | None = None) -> list[Command]:
    return [parse(line) for line in render("github", of, options).decode().split("\n")[:-1]]


def test_each_violated_rule_is_an_annotation_of_its_line_in_the_policy() -> None:
    rule = replace(NO_SHELL, line=7)
    light = replace(rule, severity=Severity.LOW, rule="light", line=9)
    made = commands(report(reached("web1", result(rule, "web1", leak()), result(light, "web1", leak()))))
    error, warning = made[0], made[1]
    assert (error.kind, error.properties["file"], error.properties["line"]) == (
        "error",
        "policies/shells.yaml",
        "7",
    )
    assert error.properties["title"] == "critical: No shell holds a listening socket (1 host)"
    assert "web1: tcp 0.0.0.0:8080 held by python3[80](www-data); sh[81](www-data)" in error.message
    assert error.message.endswith("set close-on-exec on the server's listeners.")
    assert (warning.kind, warning.properties["line"]) == ("warning", "9")


def test_everything_that_is_no_pass_is_told() -> None:
    titles = [command.properties["title"] for command in commands(CASES["verdicts"]())]
    for start in (
        "critical: ",
        "medium: ",
        "1 result unknown",
        "1 result error",
        "1 host without a rule that applies",
        "1 host covered only in part",
        "Waived: ",
    ):
        assert sum(title.startswith(start) for title in titles) == 1, start
    down = commands(CASES["failures"]())
    assert next(item.properties["title"] for item in down if item.kind == "warning") == "9 hosts not audited"
    assert [item.kind for item in commands(CASES["nothing"]())] == ["error", "notice"]


def test_denominators_and_the_formula_are_a_notice() -> None:
    (notice,) = commands(CASES["compliant"]())
    assert notice.kind == "notice"
    assert "hosts: 2 targeted, 2 reached, 2 fully covered, 2 judged" in notice.message
    assert "compliance 100.0 % (pass / (pass + fail" in notice.message
    passes = commands(CASES["compliant"](), RenderOptions(include_pass=True))
    assert passes[-1].message == "shells/no-shell on 2 hosts; web/owners on 2 hosts"


def test_more_than_github_shows_is_folded_and_counted() -> None:
    rules = [replace(NO_SHELL, rule=f"r{n:02}", title=f"title {n:02}") for n in range(25)]
    made = commands(report(reached("h", *(result(rule, "h", leak()) for rule in rules))))
    errors = [item for item in made if item.kind == "error"]
    assert len(errors) == 10
    assert errors[9].properties["title"] == "16 more of this kind, which GitHub would not show"
    assert "title 09" in errors[9].message
    assert "title 24" in errors[9].message


@few
@given(fleets, st.booleans())
def test_no_text_makes_a_command_of_its_own(fleet: list[HostAudit], passes: bool) -> None:
    of = reporting(fleet)
    data = render("github", of, RenderOptions(include_pass=passes))
    assert hidden(data.decode()) <= {"\n"}
    made = [parse(line) for line in data.decode().split("\n")[:-1]]
    assert max(Counter(item.kind for item in made).values()) <= 10
    assert {item.kind for item in made} <= {"error", "warning", "notice"}
    assert all(set(item.properties) <= {"file", "line", "title"} for item in made)
    violated = any(f.verdict == "fail" for audit in fleet for item in audit.results for f in item.findings)
    titles = [item.properties["title"] for item in made]
    assert violated == any(title.partition(":")[0] in list(Severity) for title in titles)


def test_what_is_syntax_of_a_command_arrives_as_text() -> None:
    text = "a::error b,c=d%2C%25:e"
    rule = replace(NO_SHELL, title=text, remediation=text)
    made = render("github", report(reached("h", result(rule, "h", leak()))))
    assert made.split(b"\n")[0].count(b"::") == 3  # the text's own is in the message, where it is harmless
    error = parse(made.decode().split("\n")[0])
    assert error.properties["title"] == f"critical: {text} (1 host)"
    assert error.message.endswith(text)


def test_argv_is_not_in_it() -> None:
    assert b"app.py" not in render("github", CASES["verdicts"](), RenderOptions(include_pass=True))
