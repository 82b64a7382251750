"""Schema mistakes as sentences: each keyword's wording, places, order, and the published schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

import jsonschema
import pytest

from fleetaudit import schema, yamlio
from fleetaudit.errors import ConfigError


def told(text: str, name: str = "policy") -> list[str]:
    return [str(problem) for problem in schema.problems(yamlio.parse(text.encode(), "p.yaml"), name)]


def rule(text: str) -> list[str]:
    return told(f"version: 1\nname: n\nrules:\n  - {{id: a, {text}}}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "severity: critcal",
            "p.yaml:4:23: rules[0].severity: 'critcal' is not a value of severity "
            "(did you mean critical? write one of critical, high, medium, low, info)",
        ),
        ("severity: ", "rules[0].severity: an empty value is not a value of severity"),
        (
            "sevrity: high",
            "p.yaml:4:13: rules[0]: unknown key 'sevrity' (did you mean severity? write one of id, title",
        ),
        (
            "title: 5",
            "p.yaml:4:20: rules[0].title: 5 cannot stand here (write text, in quotes where it looks like",
        ),
        (
            "listeners: {approved: no}",
            "'no' cannot stand here (write true or false: yes, no, on and off are text",
        ),
        ("listeners: []", "rules[0].listeners: an empty list cannot stand here (write a mapping)"),
        ("allow_owners: []", "rules[0].allow_owners: nothing is written here"),
        ("owners: {min: -1}", "rules[0].owners.min: -1 is too small (the least is 0)"),
        ("same: [exe, exe]", "rules[0].same: a list repeats an entry (write each entry once)"),
        ("same: [exe, foo]", "rules[0].same[1]: 'foo' is not a value of same (write one of exe, comm"),
        (
            "expect: nonw",
            "rules[0].expect: 'nonw' is not a value of expect (did you mean none? write one of none, some)",
        ),
        (
            "deny_owners: [{exe_in_container: x}]",
            "deny_owners[0]: 'container' is missing beside 'exe_in_container'",
        ),
        ("controls: {cis: 1}", "rules[0].controls.cis: 1 cannot stand here (write a list)"),
    ],
)
def test_wording(text: str, expected: str) -> None:
    found = rule(text)
    assert len(found) == 1
    assert expected in found[0]


def test_every_mistake_in_reading_order() -> None:
    text = "version: 2\nname: a b\nrulez: []\nrules:\n  - severity: bad\n  - text\n"
    places = [line.split(": ")[0] for line in told(text)]
    assert places == ["p.yaml:1:10", "p.yaml:2:7", "p.yaml:3:1", "p.yaml:5:5", "p.yaml:5:15", "p.yaml:6:5"]


def test_missing_key_says_what_it_is_for() -> None:
    assert told("version: 1\nname: n\n") == [
        "p.yaml:1:1: 'rules' is missing (rules: The rules; each is judged on its own.)"
    ]


def test_an_empty_document() -> None:
    assert told("# nothing\n") == ["p.yaml: the file is empty (its form: fleetaudit schema policy)"]


def test_values_are_shown_short_and_visible() -> None:
    found = rule('severity: "\\e[2J' + "x" * 500 + '"')[0]
    assert "\\u001b[2Jxxx" in found
    assert "…" in found
    assert len(found) < 300


@pytest.fixture
def alternatives(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema with oneOf, which the published ones avoid."""
    ports = {
        "type": "object",
        "required": ["from"],
        "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}},
    }
    own: dict[str, object] = {
        "properties": {
            "port": {
                "oneOf": [{"type": "integer", "maximum": 65535}, {**ports, "additionalProperties": False}]
            },
            "size": {"anyOf": [{"enum": ["small"]}, {"type": "integer"}]},
            "nested": {
                "oneOf": [{"type": "integer"}, {"type": "array", "items": {"anyOf": [{"maximum": 9}]}}]
            },
            "length": {"maxLength": 2, "minLength": 2},
            "odd": {"multipleOf": 2, "description": "An even number."},
        },
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }
    monkeypatch.setattr(schema, "load", lambda name: own)
    schema._validator.cache_clear()
    yield
    schema._validator.cache_clear()


@pytest.mark.usefixtures("alternatives")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 70000", "port: 70000 is too big (the most is 65535)"),
        ("port: {from: 1, too: 2}", "port: unknown key 'too' (did you mean to? write one of from, to)"),
        ("port: {from: a}", "port.from: 'a' cannot stand here (write a whole number)"),
        ("port: [1]", "port: a list cannot stand here (write a whole number or a mapping)"),
        ("size: big", "size: 'big' cannot stand here (write one of small or a whole number)"),
        ("nested: [10]", "nested[0]: 10 is too big (the most is 9)"),
        ("length: a", "length: 'a' is too short (write at least 2)"),
        ("length: abc", "length: 'abc' is too long (write at most 2)"),
        ("odd: 3", "odd: 3 cannot stand here: 3 is not a multiple of 2 (An even number.)"),
        (
            "x-any: 1\ny-any: 1",
            "p.yaml:2:1: unknown key 'y-any' (write one of port, size, nested, length, odd)",
        ),
    ],
)
def test_of_alternatives_the_one_that_was_meant(text: str, expected: str) -> None:
    found = told(text)
    assert len(found) == 1
    assert expected in found[0]


def test_unknown_schema_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="did you mean policy") as caught:
        schema.load("polcy")
    assert all(name in str(caught.value) for name in schema.names())
    with pytest.raises(ConfigError):
        schema.load("../schemas/policy")


def test_names_are_sorted_and_bare() -> None:
    assert list(schema.names()) == sorted(schema.names())
    assert {"inventory", "policy"} <= set(schema.names())


@pytest.mark.parametrize("name", schema.names())
def test_published_schema_is_valid_and_described(name: str) -> None:
    published = schema.load(name)
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert str(published["$id"]).endswith(f"/{name}.schema.json")
    assert published["title"]
    assert published["description"]
    json.dumps(published)


def test_the_inventory_schema_describes_every_property() -> None:
    assert [path for path, value in _properties(schema.load("inventory")) if "description" not in value] == []


def _properties(value: object, path: str = "") -> Iterator[tuple[str, Mapping[str, object]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "properties" and isinstance(inner, dict):
                yield from ((f"{path}.{name}", described) for name, described in inner.items())
            yield from _properties(inner, f"{path}.{key}")


def test_the_validator_is_not_imported_before_it_is_used() -> None:
    code = "import sys, fleetaudit.schema; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
