"""`fleetaudit policy test`: hosts written short or saved, reasons, coverage, JUnit, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml

from fleetaudit import schema
from fleetaudit.cli import main
from fleetaudit.derive import derive
from fleetaudit.model import Inherited, Outcome, Owner
from fleetaudit.policy.facts import FACTS
from fleetaudit.policy.shorthand import ShorthandError, line_of
from fleetaudit.snapshot import decode_line
from tests.build import PYTHON, SHELL, process, snapshot, socket

POLICY = """version: 1
name: p
rules:
- id: web
  listeners: {port: 8080}
  allow_owners: [{exe: /usr/bin/python3}, {exe: /usr/sbin/nginx, unit: nginx.service}]
- id: shells
  deny_owners: [{shell: true}]
"""
HEAD = "version: 1\npolicy: p.yaml\ntests:\n"
ORIGIN = "  listeners: [tcp 0.0.0.0:8080 python3(www-data) > sh(www-data)]\n"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Writes the tests beside the policy and runs them: (exit code, output, messages)."""
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(POLICY)

    def run(tests: str, *options: str) -> tuple[int, str, str]:
        Path("p.test.yaml").write_text(HEAD + tests)
        code = main(["policy", "test", "p.test.yaml", *options])
        told = capfd.readouterr()
        return code, told.out, told.err

    return run


def test_expected_verdicts_that_come_out(command: Command) -> None:
    code, out, _ = command(f"- name: origin\n{ORIGIN}  expect: {{web: fail, shells: fail}}\n")
    assert (code, out) == (0, "2 passed, 0 failed\n")


def test_a_failure_says_what_the_rule_said_instead(command: Command) -> None:
    code, out, _ = command(f"- name: origin\n{ORIGIN}  expect: {{web: pass, shells: fail}}\n")
    assert code == 1
    first, said, count = out.splitlines()
    assert first == "p.test.yaml:6:12: origin: web is fail, not pass"
    assert said.startswith("    fail: tcp 0.0.0.0:8080: ")
    assert "sh (pid 102, user www-data, leak)" in said
    assert count == "1 passed, 1 failed"


def test_a_pass_that_should_have_failed_says_how_many_were_judged(command: Command) -> None:
    listeners = "  listeners: [tcp 0.0.0.0:8080 python3]\n"
    _, out, _ = command(f"- name: clean\n{listeners}  expect: {{web: fail}}\n")
    assert out.splitlines()[1] == "    1 listeners judged, nothing to say against them"


@pytest.mark.parametrize(
    ("reason", "code"), [("sh (pid 102", 0), ("'~leak\\)'", 0), ("nothing of it", 1), ("'~^leak'", 1)]
)
def test_the_reason_can_be_expected_too(command: Command, reason: str, code: int) -> None:
    found, out, _ = command(f"- name: t\n{ORIGIN}  expect: {{web: {{verdict: fail, reason: {reason}}}}}\n")
    assert found == code
    assert ("web is fail, but not for" in out) == bool(code)


def test_a_snapshot_file_with_its_inventory(command: Command) -> None:
    web = snapshot(
        [socket(8080, [80, 81])],
        {80: process(PYTHON), 81: process(SHELL, ppid=80)},
        inventory={"groups": ["web"], "variables": {}},
    )
    other = snapshot([socket(9, [80])], {80: process(PYTHON)}) | {"host": {"name": "other"}}
    Path("s.jsonl").write_text(json.dumps(web) + "\n\n" + json.dumps(other) + "\n")
    tests = (
        "- {name: a, snapshot: s.jsonl, host: web1, expect: {shells: fail}}\n"
        "- {name: b, snapshot: s.jsonl, host: other, expect: {shells: pass, web: not_applicable}}\n"
    )
    assert command(tests)[0] == 0
    Path("p.yaml").write_text(POLICY.replace("rules:", "hosts: web\nrules:"))
    assert "shells is not selected, not pass" in command(tests)[1]
    narrowed = tests.replace("host: other,", "host: other, groups: [web],")
    assert command(narrowed)[0] == 0


@pytest.mark.parametrize(
    ("test", "place", "words"),
    [
        ("- {name: a, expect: {web: pass}}\n", "4:3", "write one of the two"),
        ("- {name: a, snapshot: no.jsonl, expect: {web: pass}}\n", "4:23", "no.jsonl"),
        ("- {name: a, snapshot: p.yaml, expect: {web: pass}}\n", "4:23", "p.yaml"),
        ("- {name: a, listeners: [tcp 1], expect: {web: pass}}\n", "4:25", "write: tcp 0.0.0.0:8080"),
        ("- {name: a, listeners: [], expect: {wbe: pass}}\n", "4:37", "did you mean web?"),
        ("- {name: a, listeners: [], expect: {web: passes}}\n", "4:42", "did you mean pass?"),
        (
            "- {name: a, listeners: [], expect: {web: {verdict: pass, reason: '~('}}}\n",
            "4:66",
            "RE2",
        ),
    ],
)
def test_a_mistake_names_its_place_and_remedy(command: Command, test: str, place: str, words: str) -> None:
    code, out, told = command(test)
    assert (code, out) == (2, "")
    assert told.startswith(f"error: p.test.yaml:{place}: ")
    assert words in told


def test_facts_of_the_host(command: Command) -> None:
    tests = "- {name: a, listeners: [], facts: {os.id: %s}, expect: {debian: %s}}\n"
    rule = "- {id: debian, when: {os.id: debian}, listeners: {port: 1}, expect: none}\n"

    def run(fact: str, verdict: str) -> int:
        Path("p.yaml").write_text(POLICY + rule)
        return command(tests % (fact, verdict))[0]

    assert run("debian", "pass") == 0
    assert run("rhel", "not_applicable") == 0
    assert command(tests.replace("facts: {os.id: %s}, ", "") % "unknown")[0] == 0
    assert command(tests % ("[]", "pass"))[0] == 2


def test_every_fact_that_when_knows_can_be_written() -> None:
    found = schema.load("policy-test")["properties"]
    assert isinstance(found, dict)
    assert list(found["tests"]["items"]["properties"]["facts"]["properties"]) == list(FACTS)
    line = line_of("h", [], (), {}, dict.fromkeys(FACTS, "x"))
    saved = derive(decode_line(json.dumps(line).encode())).snapshot
    assert saved is not None
    assert {read(saved) for read in FACTS.values()} == {"x"}


def test_every_mistake_of_every_file_at_once(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    command(
        "- {name: a, listeners: [x], expect: {web: pass}}\n- {name: b, listeners: [], expect: {no: pass}}\n"
    )
    Path("q.test.yaml").write_text("version: 1\n")
    assert main(["policy", "test", "."]) == 2
    assert [line.split(": ")[1] for line in capfd.readouterr().err.splitlines()] == [
        "p.test.yaml:4:25",
        "p.test.yaml:5:37",
        "q.test.yaml:1:1",
    ]


def test_coverage_counts_verdicts_of_rules_and_entries(command: Command) -> None:
    tests = f"- name: origin\n{ORIGIN}  expect: {{web: fail, shells: fail}}\n"
    code, out, _ = command(tests, "--coverage")
    assert code == 0
    assert out.splitlines() == [
        "2 passed, 0 failed",
        "p.yaml:4:3: rule web: no test expects it to pass",
        "p.yaml:4:3: rule web: entry 2 of allow_owners matches nobody in any test",
        "p.yaml:7:3: rule shells: no test expects it to pass",
        "coverage: 4 of 7 (57.1 %)",
    ]
    assert command(tests, "--require-coverage", "57")[0] == 0
    code, _, told = command(tests, "--require-coverage", "60")
    assert (code, told) == (1, "error: coverage is 57.1 %, wanted is 60 %\n")
    whole = tests + (
        "- name: clean\n  listeners: [tcp 0.0.0.0:8080 python3, "
        '"tcp [::]:8080 /usr/sbin/nginx[unit=nginx.service]"]\n  expect: {web: pass, shells: pass}\n'
    )
    assert command(whole, "--coverage", "--require-coverage", "100")[0] == 0


def test_a_test_that_fails_covers_nothing(command: Command) -> None:
    _, out, _ = command(f"- name: origin\n{ORIGIN}  expect: {{web: pass}}\n", "--coverage")
    assert out.splitlines()[-1] == "coverage: 0 of 7 (0.0 %)"


def test_a_policy_of_the_directory_without_tests_is_not_covered(
    command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    command(f"- name: origin\n{ORIGIN}  expect: {{web: fail}}\n")
    Path("q.yaml").write_text(POLICY.replace("name: p", "name: q"))
    main(["policy", "test", ".", "--coverage"])
    out = capfd.readouterr().out
    assert "q.yaml:7:3: rule shells: entry 1 of deny_owners matches nobody in any test" in out
    assert "coverage: 2 of 14" in out


def test_rules_taken_over_are_covered_where_they_are_written(
    command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    over = "version: 1\nname: q\nextends: p.yaml\nrules:\n- {id: shells, severity: low}\n"
    Path("q.yaml").write_text(over)
    Path("q.test.yaml").write_text(
        f"version: 1\npolicy: q.yaml\ntests:\n- name: o\n{ORIGIN}  expect: {{web: fail, shells: fail}}\n"
    )
    assert main(["policy", "test", "q.test.yaml", "--coverage"]) == 0
    assert capfd.readouterr().out.splitlines()[1:] == [
        "q.yaml:5:3: rule shells: no test expects it to pass",
        "coverage: 2 of 3 (66.7 %)",
    ]


def test_junit(command: Command) -> None:
    tests = f'- name: "or\\x1bigin"\n{ORIGIN}  expect: {{web: pass, shells: fail}}\n'
    code, _, _ = command(tests, "--junit", "out.xml")
    assert code == 1
    root = ElementTree.fromstring(Path("out.xml").read_text())  # noqa: S314  (our own)
    (suite,) = root.findall("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("p.test.yaml", "2", "1")
    (failed,) = suite.findall("testcase[failure]")
    assert failed.get("name") == "or\\u001bigin: web"
    assert "no allow entry matches" in (failed.findtext("failure") or "")
    assert [(suite.tests, suite.failures) for suite in JUnitXml.fromfile("out.xml")] == [(2, 1)]
    assert command(tests, "--junit", "no/where.xml")[0] == 2


# ---------------------------------------------------------------- listeners written short


def short(*listeners: str) -> Outcome:
    return derive(decode_line(json.dumps(line_of("h", listeners, (), {})).encode()))


def only(text: str) -> tuple[Owner, ...]:
    found = short(text).snapshot
    assert found is not None
    (listener,) = found.listeners
    return listener.owners


def test_facts_in_brackets() -> None:
    (owner,) = only("tcp 0.0.0.0:80 nginx(www-data)[unit=nginx.service pid=80 deleted group=adm argv='a b']")
    found = owner.process
    assert (found.pid, found.exe, found.user, found.unit) == (
        80,
        "/usr/bin/nginx",
        "www-data",
        "nginx.service",
    )
    assert (found.exe_deleted, found.group, found.argv) == (True, "adm", ("a", "b"))
    (owner,) = only("tcp 0.0.0.0:80 /x[unverified uid=7 container=abc exe_in_container=/y comm=z shell self]")
    found = owner.process
    assert (found.exe_verified, found.euid, found.container, found.exe_in_container) == (
        False,
        7,
        "abc",
        "/y",
    )
    assert (found.comm, found.shell, found.self_audit) == ("z", True, True)


def test_systemd_is_pid_1_and_an_ancestor_may_hold_nothing() -> None:
    init, server = only("tcp 0.0.0.0:80 /usr/lib/systemd/systemd[pid=1] > sshd")
    assert (init.process.pid, init.ancestors) == (1, ())
    assert server.inherited is Inherited.ACTIVATION
    (owner,) = only("tcp 0.0.0.0:80 /usr/sbin/cron[no-fd] > nc(nobody)")
    assert [item.exe for item in owner.ancestors] == ["/usr/sbin/cron", "/usr/lib/systemd/systemd"]


def test_network_namespaces_and_devices() -> None:
    found = short("tcp/blue 10.0.0.1:80 a", "tcp/blue 10.0.0.1:81 a", "udp [::]%eth0:546 b").snapshot
    assert found is not None
    listeners = {listener.port: listener for listener in found.listeners}
    blue, again, host = listeners[80], listeners[81], listeners[546]
    assert (blue.netns.name, blue.netns.host, again.netns) == ("blue", False, blue.netns)
    assert (host.netns.host, host.device, host.family, host.port) == (True, "eth0", "inet6", 546)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp 0.0.0.0:80", "write: tcp 0.0.0.0:8080"),
        ("tpc 0.0.0.0:80 a", "did you mean tcp?"),
        ("tcp/ 0.0.0.0:80 a", "tcp/blue"),
        ("tcp 0.0.0:80 a", "127.0.0.1:80"),
        ("tcp 0.0.0.0:80000 a", "127.0.0.1:80"),
        ("tcp 0.0.0.0:80 a >", "NAME"),
        ("tcp 0.0.0.0:80 a b", "NAME"),
        ("tcp 0.0.0.0:80 a[unti=x]", "did you mean unit=…?"),
        ("tcp 0.0.0.0:80 a[pid=x]", "pid=80"),
        ("tcp 0.0.0.0:80 a[argv='x]", "close the quotes"),
        ("tcp 0.0.0.0:80 a[pid=7], b[pid=7]", "another pid"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ShorthandError) as caught:
        short(text)
    assert words in str(caught.value)
