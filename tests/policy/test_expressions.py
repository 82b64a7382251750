"""`when_expr`: CEL over what the selector selected; what cannot be evaluated is an error, never a pass."""

from __future__ import annotations

import sys
import time

import pytest

from fleetaudit import yamlio
from fleetaudit.errors import PolicyError
from fleetaudit.policy.load import load
from tests.build import NGINX, SHELL, Wire, judge, process, result, snapshot, socket, verdict, without

HOST = snapshot(
    [socket(80, [80]), socket(8080, [80, 81]), socket(22, [82])],
    {80: process(), 81: process(SHELL, ppid=80), 82: process("/usr/sbin/sshd", user="root")},
)
HOST["host"]["os"] = {"id": "debian", "version_id": "12"}


@pytest.fixture
def cel() -> object:
    return pytest.importorskip("cel_expr_python.cel", reason="the extra `cel` is not installed")


def rule(expression: str, rest: str = "expect: none") -> str:
    return f"when_expr: {expression!r}\n{rest}"


def found(expression: str, wire: Wire = HOST, **inventory: object) -> list[object]:
    """The ports of the listeners that the expression selects."""
    findings = result(rule(expression), wire, **inventory).findings
    assert {finding.verdict.value for finding in findings} <= {"fail"}, findings
    return [finding.listener.port for finding in findings if finding.listener]


@pytest.mark.parametrize(
    ("expression", "ports"),
    [
        ("listener.port > 1024", [8080]),
        ("size(owners) == 1 && owners[0].user == 'root'", [22]),
        ("owners.exists(o, o.shell)", [8080]),
        ("owners.exists(o, o.exe.matches('/python3[.]'))", [80, 8080]),
        ("owners.exists(o, o.inherited == 'leak')", [8080]),
        ("listener.netns == 'host' && listener.scope == 'any' && listener.path == null", [22, 80, 8080]),
        ("host.os.id == 'debian' && 'web' in host.groups && listener.port == vars.app_port", [8080]),
        ("listener.port in vars.ports", [22, 80]),
        ("has(listener.nonsense)", []),
    ],
)
@pytest.mark.usefixtures("cel")
def test_it_selects_among_listeners(expression: str, ports: list[int]) -> None:
    inventory: Wire = {"groups": ["web"], "variables": {"app_port": 8080, "ports": [22, 80]}}
    assert sorted(map(int, map(str, found(expression, **inventory)))) == ports


@pytest.mark.usefixtures("cel")
def test_it_is_asked_only_about_what_the_selector_selected() -> None:
    text = "listeners: {port: 80}\n" + rule("100 / (listener.port - 22) > 0")
    assert verdict(text, HOST) == "fail"
    assert verdict(rule("100 / (listener.port - 22) > 0"), HOST) == "error"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("listener.nonsense == 1", 'Key not found in map : "nonsense"; `has(…)` asks first'),
        ("listener.port / 0 == 1", "divide by zero"),
        ("listener.port > 'a'", "No matching overloads"),
        ("listener.port", "it is INT and not true or false"),
        ("owners[7].pid == 1", ""),
        ("vars.app_port == 1", "app_port"),
    ],
)
@pytest.mark.usefixtures("cel")
def test_what_fails_on_a_hosts_data_is_an_error_that_names_host_and_rule(expression: str, words: str) -> None:
    for rest in ("expect: none", "allow_owners: [{exe: '*'}]", "deny_owners: [{exe: /x}]"):
        judged = result(rule(expression, rest), HOST)
        assert judged.verdict.value == "error"
        assert judged.findings[0].reason.startswith("host web1, rule r: when_expr: ")
        assert words in judged.findings[0].reason


@pytest.mark.usefixtures("cel")
def test_what_an_expression_that_fails_would_have_approved_is_not_known() -> None:
    rules = """
- id: allow
  listeners: {port: 22}
  when_expr: listener.nonsense == 1
  allow_owners: [{exe: /usr/sbin/sshd}]
- id: rest
  listeners: {port: 22, approved: false}
  expect: none
"""
    assert [item.verdict.value for item in judge(rules, HOST).results] == ["error", "unknown"]


@pytest.mark.usefixtures("cel")
def test_owners_that_may_not_all_be_seen_decide_nothing() -> None:
    wire = snapshot([socket(80, [80])], {80: process(NGINX)}, gaps=["not_root"])
    assert (
        verdict(rule("owners.exists(o, o.user == 'root')", "deny_owners: [{shell: true}]"), wire) == "unknown"
    )
    assert verdict("listeners: {port: [80]}\n" + rule("listener.port == 81"), wire) == "pass"
    assert verdict(rule("owners.exists(o, o.user == 'root')"), wire) == "unknown"


@pytest.mark.usefixtures("cel")
def test_a_path_that_is_only_claimed_is_not_there() -> None:
    wire = snapshot([socket(80, [80])], {80: process(NGINX, exe_verified=False)})
    assert verdict(rule(f"owners.all(o, o.exe == '{NGINX}')", "allow_owners: [{exe: '*'}]"), wire) == "error"
    wire = snapshot([socket(80, [80])], {80: without(process(NGINX), "user")})
    assert verdict(rule("owners.all(o, o.user == 'root')"), wire) == "error"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("listener.port >", "the expression is wrong: column 16: Syntax error"),
        ("listner.port > 1", "the expression is wrong: column 8: undeclared reference to 'listner.port'"),
        ("1 + 1", "the expression gives INT"),
        ("listener.port == {{ port }}", "variables are `vars.NAME` in an expression"),
    ],
)
@pytest.mark.usefixtures("cel")
def test_a_wrong_expression_is_told_where_it_is(expression: str, words: str) -> None:
    text = f"version: 1\nname: p\nrules:\n- id: a\n  when_expr: {expression!r}\n  expect: none\n"
    with pytest.raises(PolicyError) as caught:
        load([(yamlio.parse(text.encode(), "p.yaml"), "")])
    assert str(caught.value).startswith(f"p.yaml:5:14: {words}")


@pytest.mark.usefixtures("cel")
def test_an_expression_that_would_take_long_is_given_up() -> None:
    pids = list(range(80, 380))
    wire = snapshot([socket(80, pids)], {pid: process() for pid in pids})
    nested = "owners.all(a, owners.all(b, owners.all(c, owners.all(d, a.pid + b.pid + c.pid + d.pid > 0))))"
    before = time.process_time()
    judged = result(rule(nested), wire)
    assert judged.verdict.value == "error"
    assert "budget" in judged.findings[0].reason
    assert time.process_time() - before < 5


def test_a_missing_library_is_said_once_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python.cel", None)
    rules = "".join(f"- id: r{number}\n  when_expr: 'true'\n  expect: none\n" for number in range(3))
    document = yamlio.parse(f"version: 1\nname: p\nrules:\n{rules}".encode(), "p.yaml")
    with pytest.raises(PolicyError) as caught:
        load([(document, "")])
    assert str(caught.value) == (
        "p.yaml:5:14: `when_expr` needs the CEL library, which is not installed "
        "(pip install 'fleetaudit[cel]')"
    )
