"""Every shipped policy and policy test tells editors where its JSON Schema is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleetaudit import schema
from fleetaudit.cli import main
from fleetaudit.inputs import read_policies

ROOT = Path(__file__).parents[2]
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "policies").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_first_line_names_the_schema(file: Path) -> None:
    found = MODELINE.match(file.read_text())
    assert found is not None
    name = "policy-test" if file.name.endswith(".test.yaml") else "policy"
    assert (file.parent / found[1]).resolve() == ROOT / "fleetaudit" / "schemas" / f"{name}.schema.json"


def test_what_show_prints_has_one_too_and_loads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(ROOT / "policies" / "ssh.yaml")]) == 0
    printed = capfd.readouterr().out
    found = MODELINE.match(printed)
    assert found is not None
    assert found[1].removesuffix(".schema.json") in schema.names()
    (tmp_path / "p.yaml").write_text(printed)
    assert read_policies([str(tmp_path / "p.yaml")])[0].name == "ssh"
