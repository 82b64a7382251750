"""`policy explain`: the core's values, the picture, the other tools, the command."""

from __future__ import annotations

import json
import unicodedata
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from fleetaudit import yamlio
from fleetaudit.cli import explanation, main
from fleetaudit.cli.process_tree import fitted
from fleetaudit.errors import PolicyError
from fleetaudit.journal import Journal
from fleetaudit.model import Verdict
from fleetaudit.policy import waiver_files
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.explain import Explanation, explain, find_rule
from fleetaudit.policy.other_tools import named_by
from tests.authoring.strategies import hosts, rule
from tests.build import PYTHON, SHELL, Wire, outcome, policy, process, snapshot, socket

ALLOW = """
- id: web
  listeners: {protocol: tcp, port: 8080}
  allow_owners:
    - {exe: /usr/sbin/nginx}
    - {exe: "/usr/bin/python3.*", user: www-data}
  remediation: Stop it.
"""
ORIGIN = snapshot(
    [socket(8080, [80, 81, 82, 83]), socket(22, [90])],
    {
        80: process(PYTHON, start_time=10, comm="python3"),
        81: process(SHELL, ppid=80, comm="sh", start_time=20),
        82: process(PYTHON, ppid=80, comm="python3", start_time=30),
        83: process(PYTHON, ppid=80, comm="python3", start_time=40),
        90: process("/usr/sbin/sshd", user="root", euid=0, uid=0),
    },
)


def explained(rules: str, wire: Wire, rule: str = "", **inventory: object) -> Explanation:
    loaded = policy(rules)
    wanted = next(item for item in loaded.rules if rule in ("", item.id))
    return explain(outcome(wire, **inventory), [loaded], loaded, wanted)


def shown(found: Explanation, width: int = 80) -> str:
    return explanation.text(found, width, colour=False)


def test_each_owner_with_the_entry_that_matched_or_came_nearest() -> None:
    found = explained(ALLOW, ORIGIN)
    (view,) = found.listeners
    lists = {owner.owner.process.pid: owner.lists[0] for owner in view.owners}
    assert [entry.number for entry in lists[80].matching] == [2]
    assert lists[80].nearest is None
    nearest = lists[81].nearest
    assert nearest is not None
    assert [(miss.name, miss.wanted, miss.had) for miss in nearest.misses] == [
        ("exe", "/usr/sbin/nginx", "/usr/bin/dash")
    ]
    assert {pid: item.concerned for pid, item in zip(lists, view.owners, strict=True)} == {
        80: False,
        81: True,
        82: False,
        83: False,
    }


def test_the_nearest_entry_is_the_one_that_differs_in_the_fewest_fields() -> None:
    rules = ALLOW.replace("- {exe: /usr/sbin/nginx}", "- {exe: /usr/sbin/nginx, user: root}")
    nearest = explained(rules, ORIGIN).listeners[0].owners[1].lists[0].nearest
    assert nearest is not None
    assert (nearest.number, [miss.name for miss in nearest.misses]) == (2, ["exe"])


@pytest.mark.parametrize(
    ("entry", "fields", "name", "had"),
    [
        ("{exe: /usr/bin/x}", {"exe_verified": False}, "exe", "could not be verified"),
        ("{exe: /usr/bin/x}", {"exe_deleted": True}, "exe", "deleted"),
        ("{exe: /usr/bin/x, exe_deleted: true}", {}, "exe_deleted", "false"),
        ("{exe: /usr/bin/x, user: root}", {}, "user", "www-data = 33"),
        ("{exe: /usr/bin/x, ancestor: {exe: /usr/sbin/cron}}", {}, "ancestor", "/usr/lib/systemd/systemd"),
        ("{exe: /usr/bin/x, unit: other.service}", {}, "unit", "web.service"),
    ],
)
def test_the_field_that_differs_and_what_was_there(
    entry: str, fields: dict[str, Any], name: str, had: str
) -> None:
    wire = snapshot([socket(8080, [80])], {80: process("/usr/bin/x", **fields)})
    nearest = explained(f"- id: a\n  allow_owners: [{entry}]\n", wire).listeners[0].owners[0].lists[0].nearest
    assert nearest is not None
    (miss,) = nearest.misses
    assert miss.name == name
    assert had in miss.had


def test_what_was_passed_over_says_which_field_rules_it_out() -> None:
    found = explained(ALLOW.replace("port: 8080", "port: 9999"), ORIGIN)
    assert found.result is not None
    assert found.result.verdict is Verdict.NOT_APPLICABLE
    because = [(item.name, item.had, item.wanted) for over in found.passed_over for item in over.because]
    assert because == [("port", "22", "9999"), ("port", "8080", "9999")]
    assert "tcp 0.0.0.0:8080: port 8080, wanted 9999" in shown(found)
    blue = snapshot([socket(8080, [80], netns=2)], {80: process()})
    assert [item.name for item in explained(ALLOW, blue).passed_over[0].because] == ["netns"]


def test_variables_are_put_in_and_a_missing_one_is_told() -> None:
    rules = '- id: a\n  listeners: {port: "{{ app_port }}"}\n  same: [exe]\n'
    found = explained(rules, ORIGIN, variables={"app_port": 8080}, groups=[])
    assert ("port", "8080") in found.selector
    assert "inventory variable 'app_port' is not set" in shown(explained(rules, ORIGIN))


def test_conditions_that_do_not_hold() -> None:
    rules = ALLOW.replace("  remediation", "  when: {groups: [db, cache]}\n  remediation")
    found = explained(rules, ORIGIN, groups=["web"], variables={})
    assert found.listeners == ()
    text = shown(found)
    assert text.startswith("NOT APPLICABLE: p/web on web1\n")
    assert "  when: groups db or cache\n" in text
    assert len(explained(rules, ORIGIN, groups=["db"], variables={}).listeners) == 1


def test_an_expression_that_rules_a_listener_out() -> None:
    pytest.importorskip("cel_expr_python.cel", reason="the extra `cel` is not installed")
    rules = "- id: a\n  when_expr: listener.port == 22\n  deny_owners: [{shell: true}]\n"
    found = explained(rules, ORIGIN)
    assert [view.listener.port for view in found.listeners] == [22]
    text = shown(found)
    assert "selects: netns any; when_expr listener.port == 22" in text
    assert "tcp 0.0.0.0:8080: when_expr false, wanted listener.port == 22" in text


def test_a_host_without_a_snapshot_and_one_that_is_not_selected() -> None:
    line = {"schema": "fleetaudit.outcome/1", "host": {"name": "web1"}, "status": "timeout", "detail": "slow"}
    assert "no snapshot: timeout: slow" in shown(explained(ALLOW, line))
    text = f"version: 1\nname: p\nhosts: db\nrules:{ALLOW}"
    assert shown(explained(text, ORIGIN)).startswith("NOT SELECTED: p/web on web1")


@pytest.mark.parametrize(
    ("waiver", "verdict", "words"),
    [
        ("owners: {exe: /usr/bin/dash}", "WAIVED", "applies: it accepts 1 of 1 violations"),
        (
            "owners: {exe: /usr/bin/bash}",
            "FAIL",
            "does not apply: dash [sh] (pid 81, user www-data, leak) is not",
        ),
        ("owners: {exe: /usr/bin/bash}", "FAIL", "exe is /usr/bin/dash, not /usr/bin/bash"),
        ("listeners: {port: 22}", "FAIL", "does not select the listener"),
        ("hosts: db", "FAIL", "it is for hosts db"),
        ("expires: 2026-11-22", "FAIL", "it expired at 2026-11-23T00:00:00Z"),
    ],
)
def test_waivers_that_were_considered_are_shown(
    files: Path, capfd: pytest.CaptureFixture[str], waiver: str, verdict: str, words: str
) -> None:
    Path("w.yaml").write_text(f"version: 1\nwaivers:\n- policy: p\n  rule: web\n  reason: r\n  {waiver}\n")
    run("web1", "web", "--from", "s.jsonl", "--waivers", "w.yaml", "--now", "2026-11-23T10:00:00Z")
    told = capfd.readouterr().out
    assert told.startswith(f"{verdict}: p/web on web1\n")
    assert words in " ".join(told.split("Waivers considered")[1].split())


def test_what_does_not_fail_needs_no_waiver() -> None:
    loaded = policy(ALLOW)
    text = "version: 1\nwaivers:\n- {policy: p, rule: web, reason: r}\n"
    now = datetime(2026, 11, 23, tzinfo=timezone.utc)
    waivers = waiver_files.load([yamlio.parse(text.encode(), "w.yaml")], [loaded], now)
    clean = outcome(snapshot([socket(8080, [80])], {80: process(PYTHON)}))
    (considered,) = explain(clean, [loaded], loaded, loaded.rules[0], waivers=waivers, now=now).waivers
    assert (considered.applies, "does not fail here" in considered.why) == (False, True)


# ---------------------------------------------------------------- the other tools


def test_whom_each_tool_names() -> None:
    pids = [998, 15767, 80]
    wire = snapshot([socket(8080, pids)], {pid: process() for pid in pids})
    saved = outcome(wire).snapshot
    assert saved is not None
    named = {item.tool: item.owner for item in named_by(saved.listeners[0])}
    assert {tool: owner.process.pid for tool, owner in named.items() if owner} == {
        "netstat": 80,
        "psutil": 15767,
        "osquery": 998,
        "InSpec": 80,
    }


def test_a_tool_is_blind_where_it_names_an_owner_that_the_rule_has_nothing_against() -> None:
    found = explained(ALLOW, ORIGIN)
    assert found.listeners[0].blind == {"netstat", "psutil", "osquery", "InSpec"}
    assert found.others["netstat"] is Verdict.PASS
    last = snapshot(
        [socket(8080, [80, 81])], {80: process(PYTHON), 81: process(SHELL, ppid=80, start_time=200)}
    )
    seen = explained(ALLOW, last)
    assert seen.listeners[0].blind == {"netstat", "InSpec"}
    text = shown(seen)
    assert "    netstat  python3.11[80]  WOULD HAVE PASSED\n" in text
    assert "    psutil   dash[81]\n" in text


def test_a_tool_that_sees_one_of_two_violations_is_blind_at_the_other() -> None:
    wire = snapshot(
        [socket(8080, [80, 81]), socket(8081, [90])],
        {80: process(PYTHON), 81: process(SHELL, ppid=80), 90: process(SHELL)},
    )
    found = explained("- id: a\n  deny_owners: [{shell: true}]\n", wire)
    assert [sorted(view.blind) for view in found.listeners] == [["InSpec", "netstat"], []]
    assert found.others["netstat"] is Verdict.FAIL


def test_other_namespaces_and_unix_sockets_are_not_listed_by_all() -> None:
    wire = snapshot(
        [
            socket(8080, [80], netns=2),
            socket(None, [80], protocol="unix", family="unix", address=None, path="/x", inode=7),
        ],
        {80: process(SHELL)},
    )
    found = explained("- id: a\n  deny_owners: [{shell: true}]\n", wire)
    for view in found.listeners:
        assert [item.tool for item in view.named if item.listed] == ["osquery"]
        assert "osquery" not in view.blind


def test_tools_know_of_no_holder_without_a_descriptor_and_of_no_gap() -> None:
    held = socket(8080, [80], held_by=[{"pid": 81, "fds": []}])
    wire = snapshot([held], {80: process(PYTHON), 81: process(SHELL)}, gaps=["hidepid"])
    found = explained("- id: a\n  deny_owners: [{shell: true}]\n", wire)
    assert found.listeners[0].blind == {"netstat", "psutil", "osquery", "InSpec"}
    assert [owner.held_by for owner in found.listeners[0].owners] == [False, True]
    assert "could receive it" in shown(found)
    assert set(found.others.values()) == {Verdict.PASS}


def test_a_tool_that_lists_nothing_of_the_rule_says_nothing() -> None:
    wire = snapshot([socket(8080, [80, 81], netns=2)], {80: process(PYTHON), 81: process(SHELL)})
    found = explained("- id: a\n  deny_owners: [{shell: true}]\n", wire)
    assert found.others["netstat"] is Verdict.NOT_APPLICABLE
    assert found.others["osquery"] is Verdict.FAIL
    assert "netstat  nobody: it does not list this socket  WOULD HAVE PASSED" in shown(found)


def test_nobody_is_blind_where_the_rule_passes() -> None:
    wire = snapshot([socket(8080, [80])], {80: process(PYTHON)})
    assert explained(ALLOW, wire).listeners[0].blind == frozenset()


# ---------------------------------------------------------------- the picture


def test_a_crowd_is_told_in_bounds() -> None:
    crowd = range(100, 400)
    wire = snapshot(
        [socket(pid, [pid], inode=pid) for pid in crowd] + [socket(8080, list(crowd))],
        {pid: process(SHELL, comm=f"n{pid}") for pid in crowd},
    )
    found = explained("- id: a\n  deny_owners: [{shell: true}]\n", wire)
    text = shown(found)
    assert "The rule objects to 281 more (--format json has them all)" in text
    assert len(text.splitlines()) < 400
    assert len(json.loads(explanation.as_json(found))["listeners"]) == 301
    alone = shown(explained("- id: a\n  listeners: {port: 8080}\n  deny_owners: [{shell: true}]\n", wire))
    assert "and 290 more owners" in alone
    assert "and 241 more lines" in alone


def test_the_picture_shows_who_opened_inherited_and_holds() -> None:
    lines = shown(explained(ALLOW, ORIGIN)).splitlines()
    start = next(place for place, line in enumerate(lines) if "systemd[1]" in line)
    assert lines[start : start + 4] == [
        "    systemd[1] root  /usr/lib/systemd/systemd",
        "  * └─ python3[80] www-data  opened it  /usr/bin/python3.11",
        "  >    ├─ sh[81] www-data  LEAK, inherited it from 80  /usr/bin/dash",
        "  *    └─ python3 x2[82, 83] www-data  worker, inherited it from 80  /usr/bin/p…",
    ]


def test_a_circle_of_parents_is_drawn_and_ends() -> None:
    wire = snapshot([socket(8080, [80, 81])], {80: process(ppid=81), 81: process(ppid=80)})
    text = shown(explained(ALLOW, wire))
    assert "[80]" in text
    assert "[81]" in text


def test_a_long_chain_keeps_room_for_names() -> None:
    chain = {pid: process("/usr/bin/x", ppid=pid - 1) for pid in range(100, 150)}
    wire = snapshot([socket(8080, [149])], chain | {99: process(ppid=1)})
    assert "» x[149] www-data" in shown(explained(ALLOW, wire))


HOSTILE = st.text(
    st.sampled_from([*"ab/\x1b\n\r\t\x07\u202e\u200b\u0301漢字\U0001f600│└ ", "\x9b"]),
    min_size=1,
    max_size=150,
)


@settings(max_examples=60, deadline=None)
@given(name=HOSTILE, width=st.integers(40, 120))
def test_no_name_moves_the_cursor_or_breaks_the_picture(name: str, width: int) -> None:
    wire = snapshot(
        [socket(8080, [80, 81])],
        {80: process(PYTHON, comm=name), 81: process(f"/{name}", ppid=80, comm=name, user=name, cgroup=None)},
    )
    found = explained(ALLOW, wire)
    text = shown(found, width)
    bad = [char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl")]
    assert bad == []
    assert all(len(line) <= width for line in text.splitlines())
    drawn = [line for line in text.splitlines() if line.startswith(("  * ", "  > "))]
    assert all("─" in line or "the rule objects" in line for line in drawn)
    assert json.loads(explanation.as_json(found))["listeners"][0]["owners"][1]["pid"] == 81


def test_the_page_shows_what_is_printed() -> None:
    rules = """
- id: web
  listeners: {protocol: tcp, port: 8080}
  allow_owners:
    - {exe: "/usr/bin/python3.*", user: www-data}
    - {exe: /usr/lib/systemd/systemd, pid: 1}
"""
    text = shown(explained(rules, ORIGIN))
    listener = text[text.index("tcp 0.0.0.0:8080") : text.index("\nNot selected")]
    page = (Path(__file__).parents[2] / "docs" / "authoring.md").read_text()
    assert f"```text\n{listener}```\n" in page


@settings(max_examples=100, deadline=None)
@given(name=HOSTILE, width=st.integers(2, 60))
def test_a_name_is_cut_to_the_columns_that_there_are(name: str, width: int) -> None:
    shown_name = fitted(name, width)
    assert cell_len(shown_name) <= width
    assert shown_name.isprintable()


@settings(max_examples=60, deadline=None)
@given(rules=st.tuples(rule("one"), rule("two")), wire=hosts())
def test_any_rule_on_any_host_can_be_explained(rules: tuple[Wire, Wire], wire: Wire) -> None:
    loaded = policy("#version: 1\n" + json.dumps({"version": 1, "name": "p", "rules": list(rules)}))
    host = outcome(wire, groups=["web"], variables={})
    found = explain(host, [loaded], loaded, loaded.rules[0])
    assert found.result == evaluate(host, [loaded]).results[0]
    if found.listeners or found.passed_over:
        assert host.snapshot is not None
        assert len(found.listeners) + len(found.passed_over) == len(host.snapshot.listeners)
        assert all(over.because for over in found.passed_over)
    for view in found.listeners:
        fails = any(finding.verdict is Verdict.FAIL for finding in view.findings)
        assert not view.blind or fails or any(owner.concerned for owner in view.owners)
        for owner in view.owners:
            for listed in owner.lists:
                assert bool(listed.matching) != (listed.nearest is not None)
                assert listed.nearest is None or listed.nearest.misses
    assert all(len(line) <= 80 for line in shown(found).splitlines())
    assert json.loads(explanation.as_json(found))["rule"]["id"] == "one"


# ---------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(f"version: 1\nname: p\nrules:{ALLOW}")
    Path("s.jsonl").write_text(json.dumps(ORIGIN) + "\n")
    return tmp_path


def run(*options: str) -> int:
    return main(["policy", "explain", *options, "-p", "p.yaml"])


def test_the_command_and_its_exit_codes(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("web1", "web", "--from", "s.jsonl") == 1
    assert capfd.readouterr().out.startswith("FAIL: p/web on web1\n")
    clean = snapshot([socket(8080, [80])], {80: process(PYTHON)})
    Path("s.jsonl").write_text(json.dumps(clean))
    assert run("web1", "p/web", "--from", "s.jsonl") == 0
    Path("s.jsonl").write_text(json.dumps(snapshot([socket(8080, ())], gaps=["not_root"])))
    assert run("web1", "web", "--from", "s.jsonl") == 3
    assert "The audit ran as root and did not see everything" in capfd.readouterr().out
    partly = snapshot([socket(8080, ())], gaps=["not_root"])
    partly["coverage"]["euid"] = 1000
    Path("s.jsonl").write_text(json.dumps(partly))
    assert run("web1", "web", "--from", "s.jsonl") == 3
    assert "Give the audit the privileges that it lacked" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["web1", "wbe", "--from", "s.jsonl"], "did you mean web?"),
        (["wbe1", "web", "--from", "s.jsonl"], "did you mean web1?"),
        (["web1", "web", "--from", "none.jsonl"], "neither a file nor a run kept in"),
        (["web1", "web", "--from", "p.yaml"], "p.yaml:1"),
    ],
)
def test_what_is_not_there(
    files: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert run(*options) == 2
    assert words in capfd.readouterr().err


def test_from_a_kept_run(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(Journal.create(files / "state" / "runs", "r1")) as journal:
        journal.append(json.dumps(ORIGIN | {"host": {"name": "other"}}).encode(), "other")
        journal.append(json.dumps(ORIGIN).encode(), "web1")
    state = ["--state", str(files / "state")]
    assert run("web1", "web", "--from", "r1", *state) == 1
    assert run("web2", "web", "--from", "r1", *state) == 2
    assert "did you mean web1?" in capfd.readouterr().err
    assert run("web1", "web", "--from", "r2", *state) == 2
    assert "runs to go on with: r1" in capfd.readouterr().err


def test_the_inventory_given_counts(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("p.yaml").write_text(f"version: 1\nname: p\nhosts: web\nrules:{ALLOW}")
    Path("inv.ini").write_text("[web]\nweb1\n")
    assert run("web1", "web", "--from", "s.jsonl") == 0
    assert "does not select this host" in capfd.readouterr().out
    assert run("web1", "web", "--from", "s.jsonl", "-i", "inv.ini", "--format", "json") == 1
    record = json.loads(capfd.readouterr().out)
    assert record["listeners"][0]["named_by"] == {"netstat": 80, "psutil": 83, "osquery": 83, "InSpec": 80}
    assert record["listeners"][0]["blind"] == ["InSpec", "netstat", "osquery", "psutil"]


def test_rules_of_one_name_in_several_policies() -> None:
    one, two = policy(ALLOW), policy(f"version: 1\nname: q\nrules:{ALLOW}")
    with pytest.raises(PolicyError, match="several policies"):
        find_rule([one, two], "web")
    assert find_rule([one, two], "q/web")[0] is two


@pytest.mark.parametrize("field", ["protocol: udp", "scope: loopback", "state: UNCONN", "ephemeral: true"])
def test_whatever_passes_a_listener_over_is_named(field: str) -> None:
    rules = f"- id: web\n  listeners: {{{field}}}\n  deny_owners: [{{shell: true}}]\n"
    found = explained(rules, ORIGIN)
    assert found.passed_over
    for over in found.passed_over:
        assert field.partition(":")[0] in str(over.because)
    assert field.partition(":")[0] in shown(found, 100)
