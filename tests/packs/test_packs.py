"""The shipped policies: they load, lint clean, have unit tests, and name controls that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.errors import PolicyError
from fleetaudit.inputs import packs, read_policies
from fleetaudit.model import Severity
from fleetaudit.policy.controls import frameworks, title
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.lint import lint
from fleetaudit.policy.testing import run
from fleetaudit.snapshot import decode_line
from tests.build import outcome, policy, snapshot

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "policies"
FILES = sorted(path for path in SHIPPED.rglob("*.yaml") if not path.name.endswith(".test.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHIPPED)))
def test_a_shipped_policy(path: Path) -> None:
    (loaded,) = read_policies([str(path)])
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=")
    schema = text.splitlines()[0].partition("$schema=")[2]
    assert (path.parent / schema).resolve() == ROOT / "fleetaudit" / "schemas" / "policy.schema.json"
    assert lint(yamlio.parse(text.encode(), str(path)), loaded, text) == ()
    assert "ertif" not in loaded.description.replace("never certif", "")
    for rule in loaded.rules:
        assert rule.title != rule.id
        assert len(rule.remediation) > 20
        assert rule.controls or path.parent.name == "common"
        assert all(title(name, control) for name, ids in (rule.controls or {}).items() for control in ids)
        assert rule.severity is not Severity.INFO


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHIPPED)))
def test_every_rule_is_tested_and_some_test_of_it_is_no_pass(path: Path) -> None:
    beside = path.with_name(f"{path.stem}.test.yaml")
    (loaded,) = read_policies([str(path)])
    document = yamlio.parse(beside.read_bytes(), str(beside))
    cases = run(document, loaded, lambda line: derive(decode_line(line)))
    assert [str(case) for case in cases if not case.passed] == []
    own = {rule.id for rule in loaded.rules if rule.place.file == str(path)}
    assert own <= {case.rule for case in cases}
    failing = {case.rule for case in cases if case.expected in ("fail", "unknown")}
    assert own <= failing


def test_all_of_them_together_are_one_set_of_policies() -> None:
    loaded = read_policies([str(path) for path in FILES])
    assert len({policy.name for policy in loaded}) == len(loaded)


def test_packs_are_named_wherever_fleetaudit_is() -> None:
    names = packs(SHIPPED)
    assert {"hygiene", "hygiene/owners", "roles", "roles/web", "cis/ubuntu-24-04", "ssh"} <= set(names)
    assert {item.name for item in read_policies(["pack:hygiene"])} == {
        *("hygiene-owners", "hygiene-programs", "hygiene-local-only")
    }
    with pytest.raises(PolicyError, match=r"no pack is called 'roles/wbe' \(did you mean pack:roles/web\?\)"):
        read_policies(["pack:roles/wbe"])
    for odd in ("pack:", "pack:..", "pack:../README", "pack:/etc/passwd", "pack:\x1b[2J"):
        with pytest.raises(PolicyError, match="no pack is called"):
            read_policies([odd])


def test_the_page_is_what_the_policies_say() -> None:
    done = subprocess.run([sys.executable, "docs/packs.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run `python docs/packs.py`"


def test_the_catalogue() -> None:
    assert title("cis_ubuntu_24_04", "2.1.22") == "Only approved services listen on a network interface"
    assert title("cis_ubuntu_24_04", "9") is None
    assert title("acme", "1") is None
    for name, framework in frameworks().items():
        assert framework.url.startswith("https://")
        assert all(words and len(words) < 100 for words in framework.controls.values()), name


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ('{cis_ubuntu_2404: ["1"]}', "no framework is called 'cis_ubuntu_2404' (did you mean cis_ubuntu"),
        ('{acme: ["1"]}', "no framework is called 'acme' (a framework of your own begins with x_)"),
        ('{nist_800_53_r5: ["CM7"]}', "no control 'CM7' of NIST SP 800-53 Rev. 5 (did you mean CM-7?)"),
        ('{x_acme: ["1"]}', None),
    ],
)  # fmt: skip
def test_controls_that_no_catalogue_has(controls: str, message: str | None) -> None:
    text = f"version: 1\nname: p\ncontrols: {controls}\nrules: [{{id: r, deny_owners: [{{shell: true}}]}}]\n"
    found = lint(yamlio.parse(text.encode(), "p.yaml"), policy(text))
    assert [problem.code for problem in found] == (["unknown-control"] if message else [])
    assert message is None or message in str(found[0])


def test_nothing_that_listens_breaks_no_hygiene() -> None:
    audit = evaluate(outcome(snapshot()), read_policies(["pack:hygiene"]))
    assert {result.verdict.value for result in audit.results} == {"not_applicable"}
