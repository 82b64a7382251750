"""`extends` and `include`: what policies of several files come to, and where their mistakes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetaudit.errors import PolicyError
from fleetaudit.inputs import read_policies, resolve_policy
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy, Rule
from fleetaudit.policy.show import show
from tests.build import outcome, process, snapshot, socket

BASE = """
version: 1
name: base
description: for all
hosts: web
tags: [base]
references: [https://example.org/base]
controls: {cis: ["1"], pci: ["2"]}
max_waiver_days: 30
rules:
  - id: ssh
    title: SSH is up
    severity: high
    listeners: {port: 22}
    expect: some
  - id: no-shells
    deny_owners: [{shell: true}]
"""
CHILD = """
version: 1
name: child
extends: base.yaml
controls: {pci: ["3"]}
rules:
  - id: ssh
    severity: low
    listeners: {port: 2222}
  - id: own
    listeners: {port: 1}
    expect: none
"""


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def load(folder: Path, name: str) -> Policy:
    (policy,) = read_policies([str(folder / f"{name}.yaml")])
    return policy


def problems(folder: Path, *names: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        read_policies([str(folder / f"{name}.yaml") for name in names])
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def by_id(policy: Policy) -> dict[str, Rule]:
    return {rule.id: rule for rule in policy.rules}


def test_a_rule_overrides_the_extended_one_of_its_id_key_by_key(tmp_path: Path) -> None:
    child = load(put(tmp_path, base=BASE, child=CHILD), "child")
    assert [rule.id for rule in child.rules] == ["ssh", "no-shells", "own"]
    ssh = by_id(child)["ssh"]
    assert (ssh.title, ssh.severity.value) == ("SSH is up", "low")
    assert (ssh.spec["listeners"], ssh.spec["expect"]) == ({"port": 2222}, "some")
    assert ssh.place.file.endswith("child.yaml")
    assert by_id(child)["no-shells"].place.file.endswith("base.yaml")


def test_what_the_extended_policy_says_for_all_its_rules_is_taken_over(tmp_path: Path) -> None:
    child = load(put(tmp_path, base=BASE, child=CHILD), "child")
    assert (child.hosts.text, child.max_waiver_days) == ("web", 30)
    assert (child.name, child.description) == ("child", "")
    for rule in child.rules:
        assert rule.controls == {"cis": ("1",), "pci": ("3",)}
        assert rule.tags == frozenset({"base"})
        assert rule.references == ("https://example.org/base",)


def test_an_extended_policy_does_not_also_apply_by_itself(tmp_path: Path) -> None:
    put(tmp_path, base=BASE, child=CHILD)
    assert [policy.name for policy in read_policies([str(tmp_path)])] == ["child"]
    assert [policy.name for policy in read_policies([str(tmp_path)], bases=True)] == ["base", "child"]
    (tmp_path / "link.yaml").symlink_to(tmp_path / "base.yaml")
    paths = [str(tmp_path / "link.yaml"), str(tmp_path / "child.yaml")]
    assert [policy.name for policy in read_policies(paths)] == ["child"]


def test_an_included_policy_keeps_applying_by_itself(tmp_path: Path) -> None:
    """Its rules are for its own hosts still, which those of the policy that includes it may not be."""
    user = "version: 1\nname: user\nhosts: db\ninclude: [base.yaml]\n"
    put(tmp_path, base=BASE, user=user)
    assert [policy.name for policy in read_policies([str(tmp_path)])] == ["base", "user"]


def test_included_rules_bring_what_their_policy_says_for_them(tmp_path: Path) -> None:
    pack = BASE.replace("hosts: web", "hosts: web:&prod\nwhen: {os.id: debian}").replace(
        "deny_owners", "hosts: linux\n    when: {arch: x86_64}\n    deny_owners"
    )
    user = (
        "version: 1\nname: user\ntags: [mine]\ninclude: [packs/base.yaml]\nrules:\n- {id: a, expect: some}\n"
    )
    (tmp_path / "packs").mkdir()
    put(tmp_path / "packs", base=pack)
    policy = load(put(tmp_path, user=user), "user")
    rules = by_id(policy)
    assert list(rules) == ["ssh", "no-shells", "a"]
    assert [rule.hosts and rule.hosts.text for rule in policy.rules[:2]] == ["web:&prod", "web:&prod:&linux"]
    assert rules["no-shells"].spec["when"] == {"os.id": "debian", "arch": "x86_64"}
    assert (rules["a"].hosts, rules["a"].tags) == (None, frozenset({"mine"}))
    assert rules["ssh"].tags == frozenset({"mine", "base"})
    assert rules["ssh"].controls == {"cis": ("1",), "pci": ("2",)}
    assert policy.max_waiver_days is None


def test_a_directory_is_included_file_by_file_and_one_file_once(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    other = "version: 1\nname: other\ninclude: [base.yaml]\nrules:\n- {id: x, expect: some}\n"
    put(tmp_path / "packs", base=BASE, other=other)
    user = "version: 1\nname: user\ninclude: [packs, packs/../packs/base.yaml]\n"
    policy = load(put(tmp_path, user=user), "user")
    assert [rule.id for rule in policy.rules] == ["ssh", "no-shells", "x"]


def test_without_leaves_rules_out(tmp_path: Path) -> None:
    child = load(put(tmp_path, base=BASE, child=f"{CHILD}without: [no-shells]\n"), "child")
    assert [rule.id for rule in child.rules] == ["ssh", "own"]


def test_the_digest_of_a_policy_is_that_of_all_its_files(tmp_path: Path) -> None:
    put(tmp_path, base=BASE, child=CHILD)
    before = load(tmp_path, "child").sha256
    put(tmp_path, base=BASE.replace("high", "medium"))
    assert load(tmp_path, "child").sha256 != before


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": "version: 1\nname: a\nextends: a.yaml\n"}, "a.yaml:3:10: policies take each other in: a.yaml"),
        (
            {"a": "version: 1\nname: a\nextends: b.yaml\n", "b": "version: 1\nname: b\ninclude: [a.yaml]\n"},
            "b.yaml:3:11: policies take each other in: a.yaml -> b.yaml -> a.yaml",
        ),
        (
            {"a": "version: 1\nname: a\nextends: base.yaml\nrules:\n- {id: shs, severity: low}\n"},
            "a.yaml:5:3: rule 'shs' asserts nothing, and there is none of this id to override "
            "(did you mean ssh?)",
        ),
        (
            {"a": "version: 1\nname: a\ninclude: [base.yaml]\nrules:\n- {id: ssh, expect: some}\n"},
            "a.yaml:5:8: rule 'ssh' shadows the included one of base.yaml:11:5",
        ),
        (
            {
                "a": "version: 1\nname: a\ninclude: [base.yaml, more.yaml]\n",
                "more": "version: 1\nname: m\nrules:\n- id: no-shells\n  scope: [any]\n",
            },
            "a.yaml:3:10: rule 'no-shells' (more.yaml:4:3) is shadowed by that of base.yaml:16:5",
        ),
        (
            {"a": "version: 1\nname: a\nextends: base.yaml\nwithout: [no-shell]\n"},
            "a.yaml:4:11: no rule 'no-shell' is extended or included, so it cannot be left out "
            "(did you mean no-shells?)",
        ),
        (
            {"a": "version: 1\nname: a\nextends: base.yaml\nwithout: [no-shells, ssh]\n"},
            "a.yaml:4:10: no rule is left of this policy",
        ),
        ({"a": "version: 1\nname: a\nextends: none.yaml\n"}, "a.yaml:3:10: none.yaml: No such file"),
        ({"a": "version: 1\nname: a\n"}, "a.yaml:1:1: 'rules' is missing"),
        (
            {"a": "version: 1\nname: a\ninclude: [b.yaml]\n", "b": "version: 1\nname: b\nrules: [{id: x, }"},
            "b.yaml:4:1: this is not valid YAML",
        ),
        (
            {"a": "version: 1\nname: a\nextends: b.yaml\n", "b": BASE.replace("22", "99999")},
            "b.yaml:14:23: 99999 is not a port",
        ),
        (
            {
                "a": "version: 1\nname: a\nextends: b.yaml\n",
                "b": BASE.replace("hosts: web", "hosts: 'web:::'"),
            },
            "b.yaml:5:8: host pattern",
        ),
        (
            {
                "a": "version: 1\nname: a\ninclude: [b.yaml]\n",
                "b": BASE.replace("hosts: web", "hosts: web:db").replace(
                    "    title", "    hosts: x:y\n    title"
                ),
            },
            "b.yaml:12:12: the hosts of rule 'ssh' cannot be said beside those of its policy",
        ),
    ],
)
def test_a_mistake_is_told_in_the_file_where_it_is(tmp_path: Path, files: dict[str, str], words: str) -> None:
    found = problems(put(tmp_path, base=BASE, **files), "a")
    assert found[0].startswith(words), found
    assert len(found) == 1


def test_a_long_chain_is_refused_and_a_wide_diamond_is_quick(tmp_path: Path) -> None:
    def layer(number: int) -> str:
        head = f"version: 1\nname: n{number}\n"
        below = [f"n{number + 1}.yaml", f"./n{number + 1}.yaml"]
        return head + (f"include: {below}\n" if number < 15 else "rules: [{id: a, expect: some}]\n")

    put(tmp_path, **{f"n{number}": layer(number) for number in range(16)})
    assert [rule.id for rule in load(tmp_path, "n0").rules] == ["a"]
    deep = {f"n{number}": f"version: 1\nname: n\nextends: n{number + 1}.yaml\n" for number in range(30)}
    (found,) = problems(put(tmp_path, **deep), "n0")
    assert "n19.yaml:3:10: policies are nested deeper than 20" in found


def test_what_show_prints_loads_again_and_means_the_same(tmp_path: Path) -> None:
    odd = '"yes: #1 \\u2028\\t {x}"'
    user = f"""
version: 1
name: user
description: {odd}
include: [base.yaml]
when: {{os.id: [debian, "{{{{ os }}}}"]}}
rules:
  - id: own
    title: "true"
    listeners: {{port: ["1-9", 22], owner: {{exe: "~^/opt/.*\\"$", container: null}}, netns: any}}
    allow_owners: {[{"exe": f"/usr/bin/a-rather-long-name-{n}"} for n in range(9)]}
"""
    put(tmp_path, base=BASE.replace("hosts: web\n", ""), user=user)
    lines = list(show(resolve_policy(str(tmp_path / "user.yaml"))))
    assert f"  # from {tmp_path}/base.yaml:10" in lines
    put(tmp_path, shown="\n".join(lines))
    one, other = load(tmp_path, "user"), load(tmp_path, "shown")
    assert (one.name, one.description, one.hosts) == (other.name, other.description, other.hosts)
    for rule, again in zip(one.rules, other.rules, strict=True):
        assert rule.spec == again.spec
        assert (rule.controls, rule.tags, rule.references) == (again.controls, again.tags, again.references)
        assert rule.when == again.when


def test_show_says_what_is_overridden(tmp_path: Path) -> None:
    put(tmp_path, base=BASE, child=CHILD)
    lines = list(show(resolve_policy(str(tmp_path / "child.yaml"))))
    assert f"# from {tmp_path}/base.yaml:5" in lines
    assert f"  # from {tmp_path}/base.yaml:11; {tmp_path}/child.yaml:7 overrides severity, listeners" in lines


def test_an_overridden_rule_is_judged_as_resolved(tmp_path: Path) -> None:
    child = load(put(tmp_path, base=BASE.replace("hosts: web", "hosts: all"), child=CHILD), "child")
    host = outcome(snapshot([socket(2222)], {80: process()}))
    verdicts = {result.rule: result.verdict.value for result in evaluate(host, [child]).results}
    assert verdicts == {"ssh": "pass", "no-shells": "pass", "own": "pass"}
