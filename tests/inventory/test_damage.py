"""A damaged inventory gives hosts or an InventoryError, nothing else; the documentation's examples load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import Disk, Inventory, load

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = re.findall(
    r"```yaml inventory\n(.*?)```", (ROOT / "docs" / "inventory.md").read_text(encoding="utf-8"), re.S
)
SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parent / "good").iterdir())]
PIECES = [
    b"{",
    b"}",
    b": ",
    b"\n",
    b"  ",
    b"'",
    b"[1:3]",
    b"[a:",
    b"null",
    b"{{ x }}",
    b"all:",
    b"-",
    b"~",
    b"&",
    b"99999",
]
NAMES = st.sampled_from(["all", "ungrouped", "a", "b", "w[1:2]", "ansible_port", "hosts", "vars", "children"])
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 70000)
    | st.text("a{-~\n", max_size=4)
    | st.lists(NAMES, max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def outcome(text: bytes) -> Inventory | InventoryError:
    try:
        return load(["f.yaml"], Disk(lambda _: text, lambda _: None), home="/")
    except InventoryError as error:
        return error


@settings(max_examples=200, deadline=3000)
@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 4))] = data.draw(
            st.sampled_from(PIECES) | st.binary(max_size=2)
        )
    found = outcome(bytes(text))
    assert found.hosts if isinstance(found, Inventory) else found.problems


@settings(max_examples=200, deadline=3000)
@given(TREES)
def test_any_shape(tree: object) -> None:
    found = outcome(json.dumps(tree).encode())
    if isinstance(found, Inventory):
        assert found.hosts
    else:
        assert all(problem.place and problem.place.file == "f.yaml" for problem in found.problems)
        assert str(found).replace("\n", "").isprintable()


@pytest.mark.parametrize("text", EXAMPLES)
def test_documented_example_loads(text: str) -> None:
    assert isinstance(outcome(text.encode()), Inventory)


def test_the_documentation_has_examples() -> None:
    assert len(EXAMPLES) >= 2
