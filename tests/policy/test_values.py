"""Every form a value can take, and every field that can be named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.errors import PolicyError
from fleetaudit.model import UNKNOWN
from fleetaudit.policy.values import (
    Bindings,
    Kind,
    MissingVariable,
    ValueMistake,
    compile_value,
    glob_to_regex,
)
from tests.build import PYTHON, SHELL, policy, process, snapshot, socket, verdict, without


def match(spec: object, *candidates: object, kind: Kind = Kind.TEXT, **variables: object) -> bool | None:
    return compile_value(spec, kind, (), Bindings(variables)).match(candidates)


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ("nginx", "nginx", True),
        ("nginx", "Nginx", False),
        ("/usr/*/nginx", "/usr/local/sbin/nginx", True),
        ("/usr/?in/x", "/usr/bin/x", True),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[]x", "[]x", True),
        ("a.b", "axb", False),
        ("~^ng", "nginx", True),
        ("~gin", "nginx", True),
        ("~^gin", "nginx", False),
        (33, "33", True),
        (["a", "b"], "b", True),
        ({"not": ["a", "b"]}, "c", True),
        ({"not": "a"}, None, True),
        ({"not": {"not": "a"}}, "a", True),
        ("a", None, False),
        (None, None, True),
        (None, "a", False),
        ({"not": None}, "a", True),
        ("a", UNKNOWN, None),
        ({"not": "a"}, UNKNOWN, None),
        (None, UNKNOWN, None),
    ],
)
def test_text(spec: object, value: object, expected: bool | None) -> None:
    assert match(spec, value) is expected


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        (80, 80, True),
        ("80", 80, True),
        ("80-90", 85, True),
        ("80 - 90", 91, False),
        ({"not": "80-90"}, 80, False),
        ([22, "80-90"], 22, True),
        (80, "80", False),
        (80, UNKNOWN, None),
    ],
)
def test_numbers(spec: object, value: object, expected: bool | None) -> None:
    assert match(spec, value, kind=Kind.PORT) is expected


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "fe80::1%eth0", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("127.0.0.1", "not an address", False),
        ("127.*", "127.0.0.9", True),
        ("~^192\\.", "192.0.2.1", True),
        ("127.0.0.1", 5, False),
    ],
)
def test_addresses(spec: object, value: object, expected: bool | None) -> None:
    assert match(spec, value, kind=Kind.ADDRESS) is expected


def test_one_of_several_candidates_suffices_and_an_unknown_one_may() -> None:
    assert match("a", "b", "a") is True
    assert match("a", "b", UNKNOWN) is None
    assert match({"not": "a"}, "b", UNKNOWN) is None
    assert match({"not": "a"}, "b", "a") is False


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("", Kind.TEXT),
        (1.5, Kind.TEXT),
        (True, Kind.TEXT),
        ("yes", Kind.FLAG),
        ("eighty", Kind.PORT),
        ("٣", Kind.PORT),
        ("9-8", Kind.NUMBER),
        (65536, Kind.PORT),
        ("10.0.0.300", Kind.ADDRESS),
        ("10.0.0.1/8", Kind.ADDRESS),
        ("~(", Kind.TEXT),
        ("~\\1", Kind.TEXT),
        ("[z-a]", Kind.TEXT),
        ("a" * 2001, Kind.TEXT),
        ("{{ x", Kind.TEXT),
        ("{{ x.y }}", Kind.TEXT),
    ],
)
def test_mistakes_are_refused_with_a_remedy(spec: object, kind: Kind) -> None:
    with pytest.raises(ValueMistake) as caught:
        compile_value(spec, kind, ("rules", 0), Bindings({}))
    assert caught.value.path[:2] == ("rules", 0)
    assert caught.value.message


@pytest.mark.parametrize("value", ["", None, [], (), {}, ["a", ""], ("a", None)])
def test_variables_that_cannot_be_matched_are_errors(value: object) -> None:
    with pytest.raises(MissingVariable):
        compile_value("{{ x }}", Kind.TEXT, (), Bindings({"x": value}))


def test_a_list_variable_makes_sense_only_as_a_whole_value() -> None:
    assert match("{{ x }}", "b", x=("a", "b")) is True
    with pytest.raises(MissingVariable, match="list"):
        match("/srv/{{ x }}", "b", x=("a", "b"))
    assert match("{{ low }}-{{ high }}", 85, kind=Kind.PORT, low=80, high=90) is True


@given(st.text(alphabet="ab*?[]!^\\./-{}()|+$ \n", max_size=8), st.text(alphabet="ab[]!^\\./-\n", max_size=8))
def test_a_glob_is_a_pattern_or_a_mistake_never_a_crash(glob: str, text: str) -> None:
    try:
        found = match(glob, text) if glob else None
    except ValueMistake:
        return
    if glob and not set(glob) & set("*?[~") and "{{" not in glob:
        assert found is (glob == text)


def test_glob_translation_escapes_what_is_not_a_wildcard() -> None:
    assert match("a+b(c)|d$", "a+b(c)|d$") is True
    assert glob_to_regex("*") == "(?s:.*)"
    assert match("a*", "a\nb") is True


OWNERS = {80: process(PYTHON, gid=33, group="www-data", container=None), 81: process(SHELL, ppid=80)}
WIRE = snapshot([socket(8080, (80,))], OWNERS)


@pytest.mark.parametrize(
    "entry",
    [
        "{exe: '*/python3.11'}",
        "{comm: python3.11}",
        "{argv: python3.11}",
        "{pid: 80}",
        "{user: www-data}",
        "{user: 33}",
        "{uid: 33}",
        "{group: www-data}",
        "{group: '33'}",
        "{unit: web.service}",
        "{user_unit: null}",
        "{container: null}",
        "{cgroup: /system.slice/*}",
        "{shell: false}",
        "{self: false}",
        "{inherited: original}",
        "{parent: {exe: '*/systemd'}}",
    ],
)
def test_every_owner_field_can_allow_and_its_opposite_cannot(entry: str) -> None:
    assert verdict(f"allow_owners: [{entry}]", WIRE) == "pass"
    field, _, value = entry.strip("{}").partition(": ")
    if not value.startswith("{"):
        opposite = f"{{{field}: {{not: {value}}}}}"
        assert verdict(f"allow_owners: [{opposite}]", WIRE) == "fail"


@pytest.mark.parametrize(
    "selector",
    [
        "{protocol: tcp}",
        "{family: inet}",
        "{address: 0.0.0.0}",
        "{port: 8080}",
        "{scope: any}",
        "{state: LISTEN}",
        "{device: null}",
        "{ephemeral: false}",
        "{unit: web.service}",
        "{container: null}",
        "{netns: [host, blue]}",
        "{owner: {user: www-data}}",
        "{approved: false}",
    ],
)
def test_every_listener_field_can_select(selector: str) -> None:
    assert verdict(f"listeners: {selector}\ndeny_owners: [{{shell: true}}]", WIRE) == "pass"


def test_unit_of_a_listener_with_unseen_owners_is_unknown() -> None:
    wire = snapshot([socket(8080, (80,))], OWNERS, gaps=["denied_process"])
    assert verdict("listeners: {unit: web.service}\nexpect: some", wire) == "pass"
    assert verdict("listeners: {unit: other.service}\nexpect: none", wire) == "unknown"
    kernel = snapshot([socket(8080, (), owner_state="kernel")])
    assert verdict("listeners: {unit: other.service}\nexpect: none", kernel) == "pass"


def test_an_ipv4_mapped_address_is_its_ipv4_address_too() -> None:
    mapped = socket(80, family="inet6", address="::ffff:10.0.0.1", v6only=False)
    assert verdict("listeners: {address: 10.0.0.0/8}\nexpect: some", snapshot([mapped], OWNERS)) == "pass"
    odd = socket(80, family="inet6", address="nonsense")
    assert verdict("listeners: {address: 10.0.0.0/8}\nexpect: none", snapshot([odd], OWNERS)) == "unknown"
    assert verdict("listeners: {scope: public}\nexpect: none", snapshot([odd], OWNERS)) == "unknown"


def test_same_needs_proof_of_the_executable() -> None:
    two = [socket(80, (80, 81))]

    def judged(**fields: object) -> str:
        processes = {80: process(PYTHON), 81: process(PYTHON, ppid=80)}
        changed = {pid: item | fields for pid, item in processes.items()}
        return verdict("listeners: {port: 80}\nsame: [exe]", snapshot(two, changed))

    assert judged() == "pass"
    assert judged(exe_verified=False) == "pass"  # one file, whatever its path
    bare = {80: without(process(PYTHON), "exe_file"), 81: without(process(PYTHON, ppid=80), "exe_file")}
    assert verdict("listeners: {port: 80}\nsame: [exe]", snapshot(two, bare)) == "pass"
    unproved = {pid: item | {"exe_verified": False} for pid, item in bare.items()}
    assert verdict("listeners: {port: 80}\nsame: [exe]", snapshot(two, unproved)) == "unknown"


def test_owner_counts() -> None:
    wire = snapshot([socket(80, (80, 81))], OWNERS)
    for bounds, expected in [
        ("{min: 2}", "pass"),
        ("{min: 3}", "fail"),
        ("{max: 1}", "fail"),
        ("{min: 1, max: 2}", "pass"),
    ]:
        assert verdict(f"listeners: {{port: 80}}\nowners: {bounds}", wire) == expected


def test_a_policy_that_is_no_mapping() -> None:
    with pytest.raises(PolicyError):
        policy("version: 1\n")
