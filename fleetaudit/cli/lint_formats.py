"""What lint found, in the forms that people, programs, GitHub and code scanners read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import quote

from fleetaudit import __version__
from fleetaudit.errors import Problem
from fleetaudit.policy.lint import LINT_RULES
from fleetaudit.text import visible

INVALID: Final = "invalid"  # the code of what keeps a policy from loading
_SARIF_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


@dataclass(frozen=True, slots=True)
class Linted:
    """What was looked at, and what was found: `broken` keeps a policy from loading."""

    broken: tuple[Problem, ...]
    questionable: tuple[Problem, ...]
    policies: int
    rules: int

    @property
    def everything(self) -> tuple[tuple[str, Problem], ...]:
        """(level, problem) in reading order; the level is error or warning."""
        found = [("error", problem) for problem in self.broken]
        found += [("warning", problem) for problem in self.questionable]
        return tuple(sorted(found, key=lambda item: _place(item[1])))


Formatter: TypeAlias = Callable[[Linted], str]


def _place(problem: Problem) -> tuple[str, int, int, str]:
    place = problem.place
    return (place.file, place.line, place.column, problem.code) if place else ("", 0, 0, problem.code)


def _text(found: Linted) -> str:
    return "".join(f"{visible(str(problem))}\n" for _, problem in found.everything)


def _json(found: Linted) -> str:
    problems = [
        {
            "id": problem.code or INVALID,
            "level": level,
            "file": _place(problem)[0] or None,
            "line": _place(problem)[1] or None,
            "column": _place(problem)[2] or None,
            "message": problem.message,
            "hint": problem.hint or None,
        }
        for level, problem in found.everything
    ]
    summary = {
        "policies": found.policies,
        "rules": found.rules,
        "errors": len(found.broken),
        "warnings": len(found.questionable),
    }
    return (
        json.dumps({"schema": "fleetaudit.lint/1", "problems": problems, "summary": summary}, indent=2) + "\n"
    )


# ---------------------------------------------------------------- GitHub: workflow commands


def _github(found: Linted) -> str:
    """Annotations: docs.github.com, "Workflow commands for GitHub Actions"."""
    return "".join(_annotation(level, problem) for level, problem in found.everything)


def _annotation(level: str, problem: Problem) -> str:
    file, line, column, code = _place(problem)
    properties: dict[str, object] = {
        "file": file,
        "line": line,
        "col": column,
        "title": f"fleetaudit {code or INVALID}",
    }
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    remedy = f" ({problem.hint})" if problem.hint else ""
    return f"::{level} {told}::{_data(visible(problem.message + remedy))}\n"


def _data(text: str) -> str:
    """Escaped as GitHub's own toolkit does it (actions/toolkit, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# ---------------------------------------------------------------- SARIF 2.1.0


def _sarif(found: Linted) -> str:
    """One run in the Static Analysis Results Interchange Format 2.1.0 (OASIS)."""
    known = [INVALID, *LINT_RULES]
    codes = [*known, *sorted({problem.code for problem in found.questionable} - set(known))]
    run = {
        "tool": {
            "driver": {
                "name": "fleetaudit policy lint",
                "semanticVersion": __version__,
                "version": __version__,
                "rules": [_sarif_rule(code) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(level, problem, codes) for level, problem in found.everything],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_rule(code: str) -> dict[str, object]:
    rule = LINT_RULES.get(code)
    summary = rule.summary if rule else "the policy cannot be loaded" if code == INVALID else code
    level = "error" if code == INVALID else "warning"
    return {"id": code, "shortDescription": {"text": summary}, "defaultConfiguration": {"level": level}}


def _sarif_result(level: str, problem: Problem, codes: Sequence[str]) -> dict[str, object]:
    code = problem.code or INVALID
    remedy = f" ({problem.hint})" if problem.hint else ""
    result: dict[str, object] = {
        "ruleId": code,
        "ruleIndex": codes.index(code),
        "level": level,
        "message": {"text": visible(problem.message + remedy)},
    }
    if problem.place is not None:
        physical: dict[str, object] = {"artifactLocation": {"uri": _uri(problem.place.file)}}
        if problem.place.line:
            region = {"startLine": problem.place.line, "startColumn": problem.place.column or 1}
            physical["region"] = region
        result["locations"] = [{"physicalLocation": physical}]
    return result


def _uri(file: str) -> str:
    """A path as a URI reference: absolute ones as file URIs, others relative to where lint ran (RFC 3986)."""
    raw = file.encode("utf-8", "surrogateescape")
    return f"file://{quote(raw)}" if PurePath(file).is_absolute() else quote(raw)


FORMATS: Final[Mapping[str, Formatter]] = MappingProxyType(
    {"text": _text, "json": _json, "github": _github, "sarif": _sarif}
)
