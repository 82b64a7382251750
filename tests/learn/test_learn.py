"""Baselines learnt from hosts: what is learnt passes there, what is odd is told and not allowed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError
from fleetaudit.model import HostAudit, Outcome, Verdict
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.learn import Learner, _comment, _flow
from fleetaudit.policy.learn_classes import classes
from fleetaudit.policy.learn_rules import Threshold
from fleetaudit.policy.learn_values import exactly, program, unit
from fleetaudit.policy.lint import lint
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from fleetaudit.policy.shorthand import line_of
from fleetaudit.policy.values import Bindings, Kind, compile_value
from fleetaudit.snapshot import decode_line

MASTER = "/usr/sbin/nginx(root)[unit=nginx.service]"
NGINX = f"tcp 0.0.0.0:443 {MASTER} > /usr/sbin/nginx(www-data)[unit=nginx.service]"
LOCAL = "tcp 127.0.0.1:5432"
SSH = "tcp 0.0.0.0:22 /usr/sbin/sshd(root)[unit=ssh.service]"


def host(
    name: str, *listeners: str, groups: Sequence[str] = (), gaps: Sequence[str] = (), **changes: Any
) -> Outcome:
    wire = line_of(name, listeners, gaps, {"groups": list(groups)} if groups else {})
    for pid, process in wire["processes"].items():
        if pid != "1":
            process.update(changes)
    return derive(decode_line(json.dumps(wire).encode()))


def learnt(outcomes: Sequence[Outcome], **options: Any) -> str:
    share = Threshold(options.pop("share", 10.0))
    targets = [(outcome.host, outcome.context.groups) for outcome in outcomes]
    learner = Learner(targets, threshold=share, **options)
    for outcome in outcomes:
        learner.add(outcome)
    return learner.policy()


def loaded(text: str) -> Policy:
    data = text.encode()
    document = yamlio.parse(data, "baseline.yaml")
    (policy,) = load([(document, hashlib.sha256(data).hexdigest())])
    assert lint(document, policy, text) == ()
    return policy


def rules(text: str) -> list[Mapping[str, object]]:
    return [rule.spec for rule in loaded(text).rules][:-2]


def failing(text: str, outcomes: Sequence[Outcome]) -> set[str]:
    policy = loaded(text)
    audits = [evaluate(outcome, [policy]) for outcome in outcomes]
    return {audit.outcome.host for audit in audits if _fails(audit)}


def _fails(audit: HostAudit) -> bool:
    return any(result.verdict in (Verdict.FAIL, Verdict.ERROR) for result in audit.results)


def test_prefork_is_folded_and_users_and_units_are_named() -> None:
    outcomes = [host(f"web{number}", SSH, NGINX) for number in range(3)]
    text = learnt(outcomes)
    ssh, nginx = rules(text)
    assert ssh["allow_owners"] == [{"exe": "/usr/sbin/sshd", "user": "root", "unit": "ssh.service"}]
    assert nginx["listeners"] == {"protocol": "tcp", "port": 443}
    assert nginx["allow_owners"] == [
        {"exe": "/usr/sbin/nginx", "user": ["root", "www-data"], "unit": "nginx.service"}
    ]
    assert failing(text, outcomes) == set()


def test_everything_else_is_denied() -> None:
    text = learnt([host(f"web{number}", SSH) for number in range(3)])
    assert failing(text, [host("new", SSH, "tcp 127.0.0.1:9999 /usr/bin/nc")]) == {"new"}
    assert failing(text, [host("new", "tcp 0.0.0.0:22 /usr/sbin/dropbear")]) == {"new"}
    assert failing(text, [host("new", SSH)]) == set()


def test_a_shell_on_one_host_is_told_and_not_learnt() -> None:
    outcomes = [host(f"web-{number}", NGINX) for number in range(36)]
    outcomes.append(
        host("web-99", "tcp 0.0.0.0:443 /usr/sbin/nginx(root)[unit=nginx.service] > dash(www-data)")
    )
    text = learnt(outcomes)
    assert "tcp 443: on 37 of 37 hosts, on 36 of them as below" in text
    assert "NOT LEARNT on 1 of 37 hosts, web-99: dash (www-data), a shell" in text
    assert "/usr/bin/dash" not in text
    assert failing(text, outcomes) == {"web-99"}


def test_a_shell_everywhere_is_learnt_only_when_asked() -> None:
    outcomes = [host(f"web{number}", "tcp 0.0.0.0:8080 dash(root)") for number in range(3)]
    assert rules(learnt(outcomes)) == []
    assert failing(learnt(outcomes), outcomes) == {"web0", "web1", "web2"}
    text = learnt(outcomes, allow_shells=True)
    (rule,) = rules(text)
    assert rule["allow_owners"] == [
        {"exe": "/usr/bin/dash", "user": "root", "reason": "a shell, learnt because --allow-shells was given"}
    ]
    assert failing(text, outcomes) == set()


def test_a_leak_is_never_learnt() -> None:
    leaky = (
        "tcp 0.0.0.0:80 /usr/sbin/app(www-data)[unit=app.service] > /usr/bin/tail(www-data)[unit=x.service]"
    )
    outcomes = [host(f"web{number}", leaky) for number in range(3)]
    for options in ({}, {"allow_shells": True}):
        text = learnt(outcomes, **options)
        assert "tail (www-data), which it leaked to (leak)" in text
        assert "exe: /usr/bin/tail" not in text
        assert failing(text, outcomes) == {"web0", "web1", "web2"}


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        ("tcp 0.0.0.0:80 /usr/sbin/app[deleted]", "deleted or replaced"),
        ("tcp 0.0.0.0:80 /usr/sbin/app[unverified]", "not verified"),
        ("tcp 0.0.0.0:80 /tmp/app", "users can write"),
        ("tcp 0.0.0.0:80 nobody-seen", "an owner that was not seen"),
    ],
)
def test_what_no_policy_should_trust_is_told_with_the_reason(listener: str, words: str) -> None:
    outcomes = [host(f"web{number}", listener) for number in range(2)]
    text = learnt(outcomes)
    assert words in text
    assert rules(text) == []


def test_thresholds() -> None:
    many = [host(f"h{number:02}", SSH) for number in range(19)]
    one = [host("odd1", SSH, "tcp 0.0.0.0:81 /usr/sbin/app")]
    two = [*one, host("odd2", SSH, "tcp 0.0.0.0:81 /usr/sbin/app")]
    assert len(rules(learnt([*many, *one]))) == 1
    assert "on 1 of 20 hosts, odd1: tcp 81 (any): app (root)" in learnt([*many, *one])
    assert len(rules(learnt([*many[:-1], *two]))) == 2  # two of twenty are ten percent
    assert len(rules(learnt([*many, *two]))) == 1  # two of twenty-one are less
    assert len(rules(learnt([*many, *one], share=0))) == 2
    assert len(rules(learnt([*many[:3], *one]))) == 2  # of four hosts, one is enough
    assert len(rules(learnt([*many[:4], *one]))) == 1  # of five it is not


def test_scope_is_learnt_and_where_it_is_wider_is_told() -> None:
    local = [host(f"db{number}", "tcp 127.0.0.1:6379 /usr/bin/redis-server(redis)") for number in range(9)]
    outcomes = [*local, host("db9", "tcp 0.0.0.0:6379 /usr/bin/redis-server(redis)")]
    text = learnt(outcomes)
    (rule,) = rules(text)
    assert rule["scope"] == ["loopback"]
    assert "NOT LEARNT on 1 of 10 hosts, db9: a socket bound to scope any" in text
    assert failing(text, outcomes) == {"db9"}


def test_ports_that_vary_are_one_rule_that_only_their_program_gets() -> None:
    outcomes = [
        host(
            f"h{number}",
            f"udp 0.0.0.0:{40000 + 7 * number} /usr/sbin/avahi-daemon(avahi)",
            f"tcp 0.0.0.0:{50000 + 3 * number} /usr/sbin/rpc.mountd(root)",
            "udp 0.0.0.0:51820 kernel",
        )
        for number in range(4)
    ]
    text = learnt(outcomes)
    by_protocol = {str(rule["listeners"]): rule["allow_owners"] for rule in rules(text)}
    assert len(by_protocol) == 3
    assert failing(text, outcomes) == set()
    later = host(
        "h9", "udp 0.0.0.0:33333 /usr/sbin/avahi-daemon(avahi)", "tcp 0.0.0.0:60001 /usr/sbin/rpc.mountd"
    )
    assert failing(text, [later]) == set()
    assert failing(text, [host("h9", "udp 0.0.0.0:33333 /usr/sbin/other(avahi)")]) == {"h9"}
    assert failing(text, [host("h9", "tcp 0.0.0.0:1111 /usr/sbin/rpc.mountd")]) == {"h9"}


def test_the_same_owners_on_several_ports_are_one_rule() -> None:
    ports = (80, 443, 8000, 8001, 8002)
    outcomes = [host("a", *(f"tcp 0.0.0.0:{port} /usr/sbin/nginx(root)" for port in ports))]
    (rule,) = rules(learnt(outcomes))
    assert rule["listeners"] == {"protocol": "tcp", "port": [80, 443, "8000-8002"]}


def test_versions_are_generalised() -> None:
    outcomes = [
        host(
            "a",
            f"{LOCAL} /usr/lib/postgresql/15/bin/postgres(postgres)[unit=postgresql@15-main.service]",
        ),
        host(
            "b",
            f"{LOCAL} /usr/lib/postgresql/16/bin/postgres(postgres)[unit=postgresql@16-main.service]",
        ),
    ]
    text = learnt(outcomes)
    (rule,) = rules(text)
    assert rule["allow_owners"] == [
        {"exe": "/usr/lib/postgresql/*/bin/postgres", "user": "postgres", "unit": "postgresql@*-main.service"}
    ]
    assert failing(text, outcomes) == set()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/*/bin/postgres"),
        ("/usr/bin/python3.11", "/usr/bin/python3.*"),
        ("/usr/sbin/php-fpm8.2", "/usr/sbin/php-fpm8.*"),
        ("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "/usr/lib/jvm/java-*-openjdk-amd64/bin/java"),
        ("/opt/jdk1.8.0_292/bin/java", "/opt/jdk1.*/bin/java"),
        ("/opt/app-1.2.3/bin/app", "/opt/app-*/bin/app"),
        ("/usr/lib/x86_64-linux-gnu/app", "/usr/lib/x86_64-linux-gnu/app"),
        ("/usr/sbin/nginx", "/usr/sbin/nginx"),
        ("/usr/bin/node18", "/usr/bin/node18"),
        ("/15/app", "/15/app"),
        ("/usr/bin/a[b]", r"~^\/usr\/bin\/a\[b\]$"),
    ],
)
def test_paths(path: str, value: str) -> None:
    assert program(path) == value
    assert compile_value(program(path), Kind.TEXT, (), Bindings()).match((path,)) is True


def test_units() -> None:
    assert unit("nginx.service") == "nginx.service"
    assert unit("session-12.scope") == "session-*.scope"
    assert unit("user@1000.service") == "user@1000.service"
    assert unit("run-u123.service") == "run-*.service"
    assert unit("docker-0123456789abcdef.scope") == "docker-*.scope"
    assert unit("nonsense") == ""


# ---------------------------------------------------------------- groups


def test_rules_for_the_groups_that_tell_hosts_apart() -> None:
    outcomes = [
        host("w1", SSH, NGINX, groups=["linux", "prod", "web"]),
        host("w2", SSH, NGINX, groups=["linux", "prod", "web"]),
        host("d1", SSH, "tcp 10.0.0.1:5432 /usr/bin/postgres(postgres)", groups=["db", "linux", "prod"]),
    ]
    text = learnt(outcomes, by_group=True)
    found = {str(rule["title"]): rule.get("hosts") for rule in rules(text)}
    assert found == {"tcp 22: only sshd": None, "tcp 443: only nginx": "web", "tcp 5432: only postgres": "db"}
    assert failing(text, outcomes) == set()
    assert failing(text, [host("d2", SSH, NGINX, groups=["db"])]) == {"d2"}


def test_groups_that_overlap_are_apart() -> None:
    targets = [("a", ["web"]), ("b", ["web", "prod"]), ("c", ["prod"]), ("d", [])]
    found = {item.pattern: item.hosts for item in classes(targets)}
    assert sorted(map(sorted, found.values())) == [["a"], ["b"], ["c"], ["d"]]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "d", "web", "h5", "h6"]),
        st.lists(st.sampled_from(["web", "db", "prod", "eu", "x:y", "!z", "all"]), unique=True),
        min_size=1,
    )
)
def test_every_host_is_in_exactly_the_class_whose_pattern_selects_it(hosts: dict[str, list[str]]) -> None:
    from fleetaudit.patterns import parse

    found = classes(sorted(hosts.items()))
    for name, groups in hosts.items():
        mine = [item for item in found if name in item.hosts]
        assert len(mine) == 1
        selecting = [item for item in found if parse(item.pattern or "all").matches(name, groups)]
        assert selecting == mine


# ---------------------------------------------------------------- properties

EXES = st.sampled_from(
    [
        "/usr/sbin/nginx",
        "/usr/bin/python3.11",
        "/usr/bin/python3.12",
        "/usr/lib/postgresql/15/bin/postgres",
        "/opt/a/x",
        "/opt/1/x",
        "/usr/bin/dash",
        "/tmp/evil",
        "/usr/bin/a*b",
        "/usr/bin/null",
    ]
)
OWNERS = st.lists(
    st.builds(
        "{}({}){}".format,
        EXES,
        st.sampled_from(["root", "www-data", "no", "1000"]),
        st.sampled_from(
            ["", "[unit=a.service]", "[unit=session-1.scope]", "[unit=session-2.scope]", "[deleted]"]
        ),
    ),
    min_size=1,
    max_size=2,
).flatmap(lambda owners: st.sampled_from([" > ".join(owners), ", ".join(owners)]))
LISTENERS = st.lists(
    st.builds(
        "{} {}:{} {}".format,
        st.sampled_from(["tcp", "udp"]),
        st.sampled_from(["0.0.0.0", "127.0.0.1", "10.0.0.1", "[::]"]),
        st.sampled_from([80, 443, 40000, 40001, 50000, 50001]),
        st.one_of(OWNERS, st.sampled_from(["kernel", "nobody-seen"])),
    ),
    max_size=5,
)
FLEETS = st.lists(
    st.tuples(LISTENERS, st.lists(st.sampled_from(["web", "db", "prod"]), unique=True)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(FLEETS, st.booleans(), st.booleans(), st.sampled_from([0.0, 10.0, 60.0]))
def test_a_baseline_passes_where_it_was_learnt_apart_from_the_outliers_it_names(
    fleet: list[tuple[list[str], list[str]]], by_group: bool, allow_shells: bool, share: float
) -> None:
    outcomes = [
        host(f"host{number}.example", *listeners, groups=groups)
        for number, (listeners, groups) in enumerate(fleet)
    ]
    text = learnt(outcomes, by_group=by_group, allow_shells=allow_shells, share=share)
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    for name in failing(text, outcomes):
        assert any(f"{name}" in line for line in comments), name
    if not allow_shells:
        assert "exe: /usr/bin/dash" not in text
    assert text == learnt(outcomes[::-1], by_group=by_group, allow_shells=allow_shells, share=share)


HOSTILE = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    [
        "# fleetaudit: ignore=allows-shell",
        "a\nrules: []",
        "\u2028x",
        "\x85x",
        "{{ web }}",
        "~x",
        "null",
        "1",
        "é:\t",
    ]
)


@settings(max_examples=50, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_whatever_hosts_say_is_read_back_the_same_and_breaks_out_of_nothing(
    exe: str, user: str, unit_name: str, name: str
) -> None:
    said: dict[str, Any] = {
        "exe": f"/usr/sbin/{exe}",
        "user": user,
        "unit": f"{unit_name}.service",
        "comm": exe,
    }
    outcomes = [host("a" + name, SSH, **said), host("b", "tcp 0.0.0.0:23 /x", **said | {"exe_deleted": True})]
    text = learnt(outcomes)
    policy = loaded(text)
    assert len(policy.rules) in (2, 3)
    for outcome in outcomes[:1]:
        (*learnt_rules, _, _) = evaluate(outcome, [policy]).results
        assert [result.verdict for result in learnt_rules] in ([], [Verdict.PASS])


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_scalars_and_comments(text: str) -> None:
    assert yamlio.parse(f"a: {{b: [{_flow(text)}]}}".encode(), "x").value == {"a": {"b": [text]}}
    (line,) = _comment(text)
    assert len((line + ".").splitlines()) == 1
    assert yamlio.parse(f"{line}\na: 1".encode(), "x").value == {"a": 1}
    assert compile_value(exactly(text), Kind.TEXT, (), Bindings()).match((text,)) is True


def test_partial_hosts_and_those_without_a_snapshot_are_named() -> None:
    lost = decode_line(
        b'{"schema": "fleetaudit.outcome/1", "host": {"name": "lost"}, "status": "timeout", "detail": ""}'
    )
    text = learnt([host("a", SSH), host("half", SSH, gaps=["not_root"]), lost])
    assert "Seen in part only, 1 host: half" in text
    assert "Without a snapshot, and so not counted, 1 host: lost" in text
    assert "tcp 22: on 2 of 2 hosts" in text


def test_a_name_that_no_policy_can_have_is_refused() -> None:
    learner = Learner([("a", ())])
    learner.add(host("a", SSH))
    with pytest.raises(ConfigError, match="no name for a policy"):
        learner.policy("x y")


def test_what_is_not_learnt_is_told_once_for_all_its_ports() -> None:
    text = learnt([host("a", *(f"tcp 0.0.0.0:{port} dash(root)" for port in range(100, 115)))])
    told = [line for line in text.splitlines() if "dash (root), a shell" in line]
    ports = ", ".join(map(str, range(100, 110)))
    assert told == [f"  #   on 1 of 1 host, a: tcp {ports} and 5 more (any): dash (root), a shell"]


def test_busybox_is_a_shell_whatever_applet_it_runs() -> None:
    text = learnt([host("a", "tcp 0.0.0.0:80 /bin/busybox(root)[no-shell]")])
    assert rules(text) == []
    assert "busybox (root), a shell" in text


def test_who_could_receive_a_socket_is_an_owner_too() -> None:
    wire = line_of("a", [SSH, "tcp 0.0.0.0:80 /usr/sbin/other(root)"], [], {})
    ssh, other = wire["sockets"]
    ssh["held_by"] = other["owners"]
    outcome = derive(decode_line(json.dumps(wire).encode()))
    ssh_rule = rules(learnt([outcome]))[0]
    assert ssh_rule["allow_owners"] == [
        {"exe": "/usr/sbin/other", "user": "root"},
        {"exe": "/usr/sbin/sshd", "user": "root", "unit": "ssh.service"},
    ]
    assert failing(learnt([outcome]), [outcome]) == set()


def test_no_entry_is_written_that_another_one_covers() -> None:
    outcomes = [host("a", "tcp 0.0.0.0:80 /opt/1/x(root), /opt/a/x(root), /opt/a/x(root)[unit=x.service]")]
    (rule,) = rules(learnt(outcomes))
    assert rule["allow_owners"] == [{"exe": "/opt/*/x", "user": "root"}]


def test_all_addresses_are_every_scope() -> None:
    outcomes = [host("a", "tcp 0.0.0.0:53 /usr/sbin/named", "tcp 127.0.0.1:53 /usr/sbin/named")]
    (rule,) = rules(learnt(outcomes))
    assert "scope" not in rule
