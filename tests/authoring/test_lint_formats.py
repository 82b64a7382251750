"""`fleetaudit policy lint`: formats and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fleetaudit.cli import main
from fleetaudit.cli.lint_formats import FORMATS, Linted
from fleetaudit.errors import Place, Problem

SARIF = json.loads((Path(__file__).with_name("sarif-2.1.0.schema.json")).read_text())
CLEAN = "version: 1\nname: clean\nrules:\n- id: a\n  listeners: {port: 80}\n  expect: none\n"
WIDE = "version: 1\nname: wide\nrules:\n- id: a\n  listeners: {port: 80}\n  allow_owners: [{user: root}]\n"
BROKEN = "version: 1\nname: broken\nrules:\n- id: a\n  exepct: none\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"clean": CLEAN, "wide": WIDE, "broken": BROKEN}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize("style", list(FORMATS))
@pytest.mark.parametrize(
    ("names", "code"), [(["clean"], 0), (["wide"], 1), (["broken"], 2), (["wide", "broken"], 2)]
)
def test_exit_codes_do_not_depend_on_the_format(
    files: Path, capfd: pytest.CaptureFixture[str], style: str, names: list[str], code: int
) -> None:
    assert main(["policy", "lint", "--format", style, *(f"{name}.yaml" for name in names)]) == code


def test_a_broken_file_does_not_hide_what_is_questionable_in_another(
    files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["policy", "lint", "."])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["broken.yaml:5:3", "wide.yaml:6:18"]


def test_json(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["policy", "lint", "--format", "json", "wide.yaml", "broken.yaml"])
    report = json.loads(capfd.readouterr().out)
    problems = {(item["file"], item["id"], item["level"]): item for item in report["problems"]}
    assert problems["wide.yaml", "wide-allow", "warning"]["line"] == 6
    assert ("broken.yaml", "invalid", "error") in problems
    assert report["summary"] == {"policies": 1, "rules": 1, "errors": len(problems) - 1, "warnings": 1}


HOSTILE = Linted(
    broken=(Problem("a 100%\nbad\x1b[31m: thing, \u202e", Place("a b:c,%é.yaml", 3, 0)),),
    questionable=(
        Problem("m", Place("/etc/p#1.yaml", 2, 7), "do this", "wide-allow"),
        Problem("no place", code="made-up"),
    ),
    policies=1,
    rules=2,
)


def test_github_annotations_escape_what_would_end_them() -> None:
    lines = FORMATS["github"](HOSTILE).splitlines()
    assert lines == [
        "::warning title=fleetaudit made-up::no place",
        "::warning file=/etc/p#1.yaml,line=2,col=7,title=fleetaudit wide-allow::m (do this)",
        "::error file=a b%3Ac%2C%25é.yaml,line=3,title=fleetaudit invalid::"
        "a 100%25\\u000abad\\u001b[31m: thing, \\u202e",
    ]


def test_sarif_is_valid_and_points_at_the_place() -> None:
    document: dict[str, Any] = json.loads(FORMATS["sarif"](HOSTILE))
    jsonschema.Draft202012Validator(SARIF).validate(document)
    (run,) = document["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    places = [result.get("locations") for result in run["results"]]
    assert places[0] is None
    assert places[1][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "file:///etc/p%231.yaml"},
        "region": {"startLine": 2, "startColumn": 7},
    }
    assert places[2][0]["physicalLocation"]["artifactLocation"] == {"uri": "a%20b%3Ac%2C%25%C3%A9.yaml"}


def test_the_sarif_schema_would_find_a_mistake() -> None:
    document = json.loads(FORMATS["sarif"](HOSTILE))
    document["runs"][0]["results"][0]["level"] = "grave"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SARIF).validate(document)


def test_text_shows_no_control_character() -> None:
    assert "\x1b" not in FORMATS["text"](HOSTILE)
    assert len(FORMATS["text"](HOSTILE).splitlines()) == 3


def test_as_a_command(files: Path) -> None:
    command = [sys.executable, "-m", "fleetaudit", "policy", "lint", "wide.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=files)
    assert (done.returncode, done.stdout[:29]) == (1, "wide.yaml:6:18: wide-allow: t")
    assert done.stderr == "1 policies, 1 rules, 1 problems\n"
