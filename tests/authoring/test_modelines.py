"""Every shipped policy and policy test tells editors where its JSON Schema is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
