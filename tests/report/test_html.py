"""The page as it is written, before any browser: test_browser.py is about what it does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError
from fleetaudit.judgement import utc_now
from fleetaudit.model import Finding, HostAudit, HostStatus, Outcome, Owner, Report, Severity, Verdict
from fleetaudit.policy import waiver_files
from fleetaudit.report import RenderOptions
from fleetaudit.report.base import Past, TrendPoint, Violation
from fleetaudit.report.html_findings import ENTRIES
from fleetaudit.report.html_map import FleetMap
from fleetaudit.report.html_past import Changes
from fleetaudit.report.html_rows import Rows
from fleetaudit.report.html_tree import Mark, tree
from fleetaudit.summary import Gate, Tally
from tests.report.cases import (
    CASES,
    LEAK,
    NO_SHELL,
    PYTHON,
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
from tests.report.fleets import few, fleets, hidden, reporting

VOID = {"meta", "link", "input", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, scripts and styles by content, and the text a reader sees."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.open: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        elif data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw["script"][0])
        return found


def page(of: Report, *, include_pass: bool = False) -> Page:
    return Page(render("html", of, RenderOptions(include_pass=include_pass)))


def policy_of(shown: Page) -> str:
    return next(
        attributes["content"]
        for name, attributes in shown.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )


@pytest.mark.parametrize("case", CASES)
def test_it_is_whole_and_asks_for_nothing_from_outside(case: str) -> None:
    shown = page(CASES[case]())
    assert shown.open == []
    names = [name for name, _ in shown.elements]
    assert (names.count("script"), names.count("style")) == (2, 1)
    for name, attributes in shown.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "srcdoc")]
        address = attributes.get("href", "#")
        assert address.startswith("#") or (name, address) == ("link", "data:,")
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_its_policy_names_its_script_and_style_by_hash_and_nothing_else() -> None:
    shown = page(CASES["verdicts"]())

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy_of(shown) == (
        f"default-src 'none'; script-src 'sha256-{digest(shown.raw['script'][1])}'; "
        f"style-src 'sha256-{digest(shown.raw['style'][0])}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_first_screen_says_how_it_is_and_out_of_how_much() -> None:
    text = page(CASES["verdicts"]()).text
    assert "Violations" in text
    assert "2 rules broken on 2 of 6 hosts; 1 result unknown; 1 result error; 1 result waived" in text
    assert "targeted\n6\nreached\n6\nfully covered\n5\njudged\n5" in text
    assert "37.5 %" in text
    assert "= pass / (pass + fail + waived + unknown + error), not_applicable left out" in text
    assert "critical\n1\nhigh\n0\nmedium\n1\nlow\n0\ninfo\n0" in text
    assert "listening sockets only, at this moment; packet-filter forwarding not examined" in text
    assert "On web5: coverage was judged inside the container" in text


@pytest.mark.parametrize(
    ("case", "headline"), [("compliant", "Compliant"), ("nothing", "Interrupted"), ("failures", "Incomplete")]
)
def test_headlines(case: str, headline: str) -> None:
    shown = page(CASES[case]())
    assert f"\n{headline}\n" in shown.text
    assert ("The run was interrupted: this report is not complete." in shown.text) == (case == "nothing")


def test_without_its_script_every_verdict_and_every_host_is_there() -> None:
    text = page(CASES["verdicts"]()).text
    for said in (
        "No shell holds a listening socket",
        "cis_controls_8 4.8, 4.1; pci_dss_4 2.2.4",
        "End the shell, and set close-on-exec on the server's listeners.",
        "Waived: OPS-7: until the new server is live, by Ann",
        "an owner could not be seen (hidepid: 3 processes)",
        "host web4, rule owners: the variable web_user is empty",
        "Covered only in part: 1 host",
        "Not judged, no rule applies: 1 host",
        "Evidence: socket inode 31337, network namespace host, state LISTEN, scope any",
    ):
        assert said in text
    down = page(CASES["failures"]()).text
    assert "Not audited: 9 hosts" in down
    for status in HostStatus:
        if status not in (HostStatus.OK, HostStatus.PARTIAL):
            assert f"{status.value}-host" in down
    assert "Passed" not in text
    assert "Passed\n" in page(CASES["verdicts"](), include_pass=True).text


def test_waivers_that_want_attention_and_a_baseline_are_said() -> None:
    rule = result(NO_SHELL, "h", replace(leak(), new=True), replace(leak(), new=False))
    text = page(report(reached("h", rule), run=replace(RUN, options={"rules_left_out": 3}))).text
    assert "\nnew\n" in text
    assert "3 rules left out by --tags and --skip-tags" in text


# ------------------------------------------------------------ the tree


def test_the_tree_says_who_opened_it_who_got_it_and_who_does_not_hold_it() -> None:
    drawn = tree(leak())
    (init,) = drawn.roots
    (server,) = init.children
    (shell,) = server.children
    assert [(node.pid, node.mark) for node in (init, server, shell)] == [
        (1, Mark.ANCESTOR),
        (80, Mark.HOLDER),
        (81, Mark.CONCERNED),
    ]
    assert (init.words, server.words) == ("", "opened it; holds it as fd 37")
    assert shell.words == "inherited it: a leak from pid 80; holds it as fd 38"
    assert shell.kind.facts == ("/usr/bin/dash", "unit web.service", "a shell")
    text = page(CASES["verdicts"]()).text
    assert "does not hold it" in text
    assert "breaks the rule" in text


def test_workers_alike_are_one_node_and_too_many_processes_are_counted() -> None:
    workers = [replace(SERVER, process=replace(PYTHON, pid=1000 + n, start_time=n)) for n in range(300)]
    alike = tree(replace(leak(), listener=replace(WEB, owners=tuple(workers)), owners=()))
    assert [(node.pid, node.alike) for node in alike.roots[0].children] == [(1000, 299)]
    odd = [replace(it, process=replace(it.process, user=f"u{it.process.pid}")) for it in workers]
    told = tree(replace(leak(), listener=replace(WEB, owners=tuple(odd)), owners=(odd[-1],)))
    shown = told.roots[0].children
    assert (len(shown) + 1, told.left_out) == (40, 261)
    assert [node.pid for node in shown if node.mark is Mark.CONCERNED] == [1299]


def test_who_could_only_receive_it_and_what_is_not_known_is_said() -> None:
    listener = replace(WEB, owners=(), held_by=(Owner(PYTHON),), owner_state="queue")
    drawn = tree(Finding(Verdict.FAIL, "x", listener))
    assert drawn.roots[0].words == "could receive it: no descriptor of its own was seen"
    assert drawn.note == "held in a queue: see who could receive it"
    claimed = replace(
        LEAK, process=replace(LEAK.process, exe_verified=False, exe_deleted=True), certain=False
    )
    node = tree(leak(replace(WEB, owners=(SERVER, claimed)), claimed)).roots[0].children[0].children[0]
    assert "(deleted) (a claim: not the file at that path)" in node.kind.facts[0]
    assert "(not certain)" in node.words


# ------------------------------------------------------------ the data for the script


def rows_of(data: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for verdict, host, rule, _, reason, *_ in data["rows"]:
        name = "/".join(data["rules"][rule][:2]) if rule >= 0 else ""
        said = data["texts"][reason] if reason >= 0 else ""
        yield data["verdicts"][verdict], data["hosts"][host][0], name, said


def test_each_finding_is_a_row_the_gravest_first() -> None:
    found = list(rows_of(page(CASES["verdicts"]()).data))
    assert [row[:3] for row in found] == [
        ("fail", "web1", "shells/no-shell"),
        ("fail", "web1", "shells/no-shell"),
        ("fail", "web2", "web/owners"),
        ("error", "web4", "web/owners"),
        ("unknown", "web3", "shells/no-shell"),
        ("unknown", "web6", ""),
        ("waived", "web4", "shells/no-shell"),
    ]
    assert found[5][3] == "no policy selects this host"
    passes = list(rows_of(page(CASES["verdicts"](), include_pass=True).data))
    assert sorted(row[1] for row in passes if row[0] == "pass") == ["web1", "web2", "web5"]
    down = list(rows_of(page(report(failed("db1", HostStatus.TIMEOUT, "slow"))).data))
    assert down == [("unknown", "db1", "", "timeout: slow")]


def test_past_its_size_the_least_grave_rows_give_way_and_are_counted() -> None:
    def filled(limit: int) -> Rows:
        rows = Rows(include_pass=False, limit=limit)
        for number in range(100):
            doubt = Finding(Verdict.UNKNOWN, f"reason {number}", WEB, (SERVER,))
            broken = leak(replace(WEB, port=number))
            rows.add(reached(f"web{number:03}", result(NO_SHELL, f"web{number:03}", doubt, broken)))
        return rows

    whole = filled(10_000_000)
    size = len("".join(whole.encoded()))
    assert (len(whole), whole.left_out) == (200, 0)
    cut = filled(size * 9 // 10)
    data = json.loads("".join(cut.encoded()))
    assert len("".join(cut.encoded())) <= size * 9 // 10 + 300
    assert data["leftOut"] == cut.left_out == 200 - len(cut)
    assert 0 < cut.left_out <= 100
    assert [row[0] for row in data["rows"]].count(data["verdicts"].index("fail")) == 100
    none = filled(100)
    assert (len(none), none.left_out) == (0, 200)
    assert json.loads("".join(none.encoded()))["rows"] == []


def waiver_of(data: dict[str, Any], place: int) -> str:
    row = data["rows"][place]
    host = data["hosts"][row[1]][0]
    before, after = (data["texts"][part] for part in row[11:13])
    return f'{before}    hosts: "{host}"\n{after}'


def test_a_violation_has_a_waiver_that_loads_once_somebody_gives_a_reason() -> None:
    data = page(CASES["verdicts"]()).data
    head = "version: 1\nwaivers:\n"
    entry = waiver_of(data, 0)
    assert 'owners:\n      - {exe: "/usr/bin/dash", user: "www-data", unit: "web.service"}' in entry

    def load(text: str) -> object:
        return waiver_files.load([yamlio.parse(text.encode(), "w.yaml")], [], utc_now())

    with pytest.raises(ConfigError, match="reason"):
        load(f"{head}{entry}    reason:\n    approved_by:\n    expires:\n")
    assert load(f"{head}{entry}    reason: known\n    expires: 2099-12-31\n")
    assert [len(row) for row in data["rows"]] == [13, 13, 13, 11, 11, 11, 11]
    unknown = replace(LEAK, process=replace(LEAK.process, exe=None))
    assert len(page(report(reached("h", result(NO_SHELL, "h", leak(owner=unknown))))).data["rows"][0]) == 11


# ------------------------------------------------------------ what changed

THEN = Past(
    run_id="before",
    started_at="2026-11-21T10:00:00Z",
    hosts=frozenset({"web1", "web2", "web3", "web4"}),
    violations={
        "a": Violation("web1", "shells", "no-shell", "critical", "tcp 0.0.0.0:1"),
        "b": Violation("web1", "shells", "no-shell", "critical", "tcp 0.0.0.0:2"),
        "c": Violation("web2", "shells", "no-shell", "critical", "tcp 0.0.0.0:3"),
        "d": Violation("web3", "shells", "no-shell", "critical", "tcp 0.0.0.0:4"),
        "e": Violation("web1", "other", "rule", "low", "tcp 0.0.0.0:5"),
        "f": Violation("web4", "shells", "no-shell", "critical", "tcp 0.0.0.0:6"),
    },
    trend=(TrendPoint("older", "", 1, 4), TrendPoint("empty", "", 0, 0), TrendPoint("before", "", 2, 4)),
)


def test_changes_are_told_only_where_both_runs_could_see() -> None:
    doubt = Finding(Verdict.UNKNOWN, "an owner could not be seen", fingerprint="x")
    accepted = replace(leak(), verdict=Verdict.WAIVED, waiver="known", fingerprint="d")
    audits = (
        reached(
            "web1",
            result(NO_SHELL, "web1", replace(leak(), fingerprint="a"), replace(leak(), fingerprint="n")),
        ),
        reached("web2", result(NO_SHELL, "web2", doubt)),
        reached("web3", result(NO_SHELL, "web3", accepted)),
        failed("web4", HostStatus.TIMEOUT, "slow"),
        reached("web9", result(NO_SHELL, "web9", replace(leak(), fingerprint="z"))),
    )
    changes = Changes(THEN)
    of = report(*audits)
    for audit in of.audits:
        changes.add(audit)
    assert [row[2:] for row in changes.new.rows] == [("web1", "tcp 0.0.0.0:8080")]
    assert [row[2:] for row in changes.gone.rows] == [("web1", "tcp 0.0.0.0:2")]
    assert (changes.still, changes.waived, changes.unseen, changes.open) == (1, 1, 1, 3)
    drawn = changes.trend(of.summary())
    assert drawn is not None
    assert drawn.words == "25.0 %, 50.0 %, 0.0 %"
    assert drawn.line == "0,75 500,50 1000,100"


def test_a_page_with_a_past_says_it_and_one_without_does_not() -> None:
    told = Page(render("html", CASES["verdicts"](), RenderOptions(past=THEN))).text
    assert "Since the last run" in told
    assert "Compliance, run by run, this one last: 25.0 %, 50.0 %, 37.5 %." in told
    assert "Since the last run" not in page(CASES["verdicts"]()).text


# ------------------------------------------------------------ fleets


def test_few_hosts_are_rows_of_the_map_and_many_are_folded_by_group() -> None:
    small = FleetMap()
    for audit in CASES["verdicts"]().audits:
        small.add(audit)
    drawn = small.drawn(RUN.policies)
    assert (drawn.by_group, drawn.policies) == (False, ("shells", "web"))
    assert [row.name for row in drawn.rows] == ["web1", "web2", "web4", "web3", "web5", "web6"]
    assert [cell.tone for cell in drawn.rows[2].cells] == ["waived", "error"]
    large = FleetMap()
    for audit in CASES["many"]().audits:
        large.add(audit)
    folded = large.drawn(RUN.policies)
    assert folded.by_group
    assert [(row.name, row.hosts) for row in folded.rows] == [("web", 490), ("(in no group)", 10)]
    assert dict(folded.rows[0].cells[1].counts) == {"fail": 490}
    assert dict(folded.rows[1].cells[0].counts) == {"not audited": 10}


def test_of_many_kinds_of_findings_only_some_are_made_and_the_rest_is_counted() -> None:
    of = [
        reached(f"h{number:04}", result(NO_SHELL, f"h{number:04}", leak(replace(WEB, port=number))))
        for number in range(ENTRIES + 100)
    ]
    data = render("html", report(*of))
    assert data.count(b'<article class="finding">') == ENTRIES
    assert b"and 100 more kinds of finding" in data
    assert len(Page(data).data["rows"]) == ENTRIES + 100


def test_a_rule_below_the_gate_does_not_read_as_compliant() -> None:
    rule = replace(result(NO_SHELL, "h", leak()), severity=Severity.LOW)
    tally = Tally(Gate(fail_on=Severity.HIGH))
    text = page(Report(RUN, tally.over([reached("h", rule)]), tally.summary)).text
    assert "\nCompliant by the chosen severity\n" in text


@few
@given(fleets)
def test_whatever_hosts_say_it_stays_text(fleet: list[HostAudit]) -> None:
    of = reporting(fleet)
    shown = page(of, include_pass=True)
    assert shown.open == []
    assert [name for name, _ in shown.elements].count("script") == 2
    assert hidden(shown.text) <= {"\n"}
    assert not re.search(r"[<>&]", shown.raw["script"][0])
    assert len(shown.data["rows"]) == len(list(rows_of(shown.data)))
    assert "\nCompliant\n" not in shown.text or of.summary().exit_code == 0


def test_a_host_that_said_nothing_is_a_row_even_without_results() -> None:
    of = report(HostAudit(Outcome("h", HostStatus.UNREACHABLE, "no route"), ()))
    assert list(rows_of(page(of).data)) == [("unknown", "h", "", "unreachable: no route")]
