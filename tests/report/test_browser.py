"""The HTML report in a real browser: what is seen, what the table does, and what never happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetaudit.model import Finding, Report, Verdict
from fleetaudit.report import RenderOptions
from fleetaudit.report.base import Past, TrendPoint, Violation
from tests.report.browser import PROGRAM, Browser, Tab, running
from tests.report.cases import (
    CASES,
    HOSTILE,
    LEAK,
    NO_SHELL,
    SERVER,
    WEB,
    leak,
    reached,
    render,
    report,
    result,
)

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
AXE = Path(os.environ.get("FLEETAUDIT_AXE", "/usr/local/share/fleetaudit/axe.min.js"))
ROWS = "document.querySelectorAll('#rows tbody tr:not(.detail)').length"
COUNT = "document.getElementById('count').textContent"

Open = Callable[..., Tab]
THEN = Past(
    run_id=HOSTILE[11],
    started_at="2026-11-21T10:00:00Z",
    hosts=frozenset({"web1", "web2"}),
    violations={"0": Violation("web2", "shells", "no-shell", "critical", HOSTILE[11])},
    trend=(TrendPoint("older", "", 1, 4), TrendPoint("before", "", 2, 4)),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    tabs: list[Tab] = []

    def opened(of: Report | Path, **how: bool) -> Tab:
        path = of if isinstance(of, Path) else tmp_path / "report.html"
        if not isinstance(of, Path):
            path.write_bytes(render("html", of, RenderOptions(past=THEN)))
        tabs.append(Tab(browser, path, **how))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()


def filled(tab: Tab, name: str, value: str) -> None:
    tab.run(
        f"(() => {{ const field = document.getElementById('filters').elements[{name!r}];"
        f"field.value = {value!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def fleet() -> Report:
    """Two groups, three verdicts, more than a page of findings."""
    audits = []
    for number in range(120):
        host = f"web{number:03}"
        doubt = Finding(Verdict.UNKNOWN, "an owner could not be seen", WEB, (SERVER,))
        found = leak(replace(WEB, port=8000 + number)) if number else doubt
        audit = reached(host, result(NO_SHELL, host, replace(found, fingerprint=f"{number:032x}")))
        group = "canary" if number < 3 else "prod"
        context = replace(audit.outcome.context, groups=(group, "web"))
        audits.append(replace(audit, outcome=replace(audit.outcome, context=context)))
    return report(*audits)


def test_the_table_searches_filters_sorts_and_turns_pages(show: Open) -> None:
    tab = show(fleet())
    assert tab.run("document.documentElement.dataset.ready") == "yes"
    assert (tab.run(COUNT), tab.run(ROWS)) == ("120 of 120 findings", 100)
    tab.run("document.getElementById('next').click()")
    assert tab.run(ROWS) == 20
    for name, value, found in (
        ("verdict", "unknown", 1),
        ("severity", "critical", 120),
        ("severity", "", 120),
        ("group", "canary", 3),
        ("rule", "shells/no-shell", 120),
        ("host", "WEB11", 10),
        ("text", ":8042", 1),
        ("text", "dash web119", 1),
        ("text", "nothing like that", 0),
    ):
        tab.run("document.getElementById('clear').click()")
        tab.until(f"{COUNT} === '120 of 120 findings'")
        filled(tab, name, value)
        tab.until(f"{COUNT} === '{found} of 120 findings'")
    tab.run("document.getElementById('clear').click()")
    tab.until(f"{COUNT} === '120 of 120 findings'")
    first = "document.querySelector('#rows tbody .open').textContent"
    heads = "document.querySelectorAll('#rows thead button')"
    tab.run(f"{heads}[2].click()")
    assert tab.run(first) == "web000"
    tab.run(f"{heads}[2].click()")
    assert tab.run(first) == "web119"
    assert tab.run("document.querySelectorAll('#rows thead th')[2].getAttribute('aria-sort')") == "descending"
    assert tab.run("document.activeElement.textContent").startswith("host")
    assert tab.complaints == []


def test_a_row_opens_links_and_becomes_a_waiver(show: Open, browser: Browser) -> None:
    tab = show(fleet())
    tab.run(f"location.hash = '#find={110:032x}'")
    tab.until("document.querySelector('#rows .target') !== null")
    assert tab.run("document.activeElement.textContent") == "web110"
    assert tab.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    said = tab.run("document.querySelector('#rows .detail').innerText")
    for text in (
        "inherited it: a leak from pid 80; holds it as fd 38",
        "breaks the rule",
        "opened it; holds it as fd 37",
        "pci_dss_4 2.2.4",
        "End the shell, and set close-on-exec",
        "socket inode 31337",
        f"{110:032x}",
    ):
        assert text in said
    tab.run("document.querySelector('#rows .detail button').click()")
    tab.until("/select|Copied|Copy/.test(document.querySelector('#rows .detail [role=status]').textContent)")
    waiver = tab.run("document.querySelector('#rows textarea').value")
    assert waiver == (
        '  - policy: "shells"\n    rule: "no-shell"\n    hosts: "web110"\n'
        '    listeners: {protocol: "tcp", address: "0.0.0.0", port: 8110}\n    owners:\n'
        '      - {exe: "/usr/bin/dash", user: "www-data", unit: "web.service"}\n'
        "    reason:\n    approved_by:\n    expires:\n"
    )
    tab.run("document.activeElement.blur(); document.querySelector('#rows .target .open').click()")
    assert tab.run("document.querySelectorAll('#rows .detail').length") == 0


def test_hostile_names_are_read_and_never_run(show: Open) -> None:
    markup = (
        '<img src=x onerror="alert(1)"><svg onload=alert(2)></textarea></script><script>alert(3)</script>'
    )
    attack = f"{markup}&lt;b&gt;'\"` javascript:alert(4) http://127.0.0.1:9/x"
    audits = []
    for number, text in enumerate((*HOSTILE, attack)):
        process = replace(LEAK.process, comm=text, user=text, exe=f"/{text}", unit=text)
        owner = replace(LEAK, process=process)
        rule = replace(
            NO_SHELL, policy=text, rule=text, title=text, references=(text,), controls={text: (text,)}
        )
        found = replace(leak(replace(WEB, owners=(SERVER, owner), address=text), owner), reason=text)
        audits.append(reached(f"h{number}{text}", result(rule, "", found)))
    tab = show(report(*audits))
    tab.run("document.querySelectorAll('#rows .open').forEach((_, n, all) => all[n].click())")
    for number in range(len(audits)):
        tab.run(
            f"document.getElementById('open-{number}')?.getAttribute('aria-expanded') === 'false'"
            f" && document.getElementById('open-{number}').click()"
        )
    assert tab.run("document.querySelectorAll('#rows .detail').length") == len(audits)
    assert tab.run("document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert tab.run("document.scripts.length") == 2
    assert markup in tab.run("document.getElementById('findings').textContent")
    assert markup in tab.run("document.querySelector('#rows').textContent")
    assert tab.complaints == []
    assert len(tab.requests) == 1


@pytest.mark.parametrize("case", ["verdicts", "hostile", "failures", "nothing"])
def test_it_asks_for_nothing_and_the_browser_has_nothing_to_complain_about(case: str, show: Open) -> None:
    tab = show(CASES[case]())
    tab.until("document.documentElement.dataset.ready === 'yes'")
    assert len([url for url in tab.requests if not url.startswith("data:")]) == 1
    assert tab.complaints == []


def test_what_somebody_adds_to_the_page_does_not_run(show: Open, tmp_path: Path) -> None:
    added = b"<script>alert(1)</script><img src='http://127.0.0.1:9/x' onerror='alert(2)'></body>"
    path = tmp_path / "tampered.html"
    path.write_bytes(render("html", CASES["verdicts"]()).replace(b"</body>", added))
    tab = show(path)
    said = [str(it["entry"]["text"]) for it in tab.complaints]
    assert len(said) >= 2
    assert all("Content Security Policy" in text for text in said)
    assert tab.run("document.documentElement.dataset.ready") == "yes"


def test_without_scripts_and_on_paper_the_findings_are_there(show: Open) -> None:
    still = show(CASES["verdicts"](), scripts=False)
    told = still.call("DOM.getDocument", depth=-1)
    assert "scriptless" in str(told)
    shown = still.call("DOMSnapshot.captureSnapshot", computedStyles=[])["strings"]
    assert any("this table is drawn by the page's script, which does not run here" in text for text in shown)
    assert any("may not hold it: denied is shell true" in text for text in shown)
    paper = show(CASES["verdicts"](), prints=True)
    paper.run("document.querySelectorAll('details').forEach((it) => { it.open = false; })")
    assert paper.run("getComputedStyle(document.getElementById('search')).display") == "none"
    height = paper.run("document.querySelector('.finding').getBoundingClientRect().height")
    assert height > 50
    assert paper.call("Page.printToPDF")["data"].startswith("JVBERi")


@pytest.mark.parametrize(
    ("case", "dark"), [("verdicts", False), ("verdicts", True), ("failures", True), ("sparse", False)]
)
def test_everybody_can_read_it(case: str, dark: bool, show: Open, tmp_path: Path) -> None:
    if not AXE.exists():
        pytest.skip(f"no axe-core in {AXE} (FLEETAUDIT_AXE)")
    tab = show(CASES[case](), dark=dark)
    tab.until("document.documentElement.dataset.ready === 'yes'")
    tab.run("document.querySelector('#rows .open').click()")
    tab.run("document.querySelector('#rows .detail button')?.click()")
    tab.run(AXE.read_text())
    found = tab.run(
        "axe.run({resultTypes: ['violations']}).then((it) => JSON.stringify(it.violations.map("
        "(v) => [v.id, v.nodes.map((n) => n.html + ' ' + n.failureSummary).slice(0, 3)])))"
    )
    assert found == "[]"
