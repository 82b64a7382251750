"""The published schema of the JSON report, made strict: a key that it does not describe is a mistake."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator


def published() -> dict[str, Any]:
    text = files("fleetaudit").joinpath("schemas/report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def strict(schema: object) -> Any:
    """A copy in which no object may have keys beyond those described."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        copy.setdefault("additionalProperties", False)
    return copy


_VALIDATOR = Draft202012Validator(strict(published()))


def problems(document: object) -> list[str]:
    """What the strict schema has against a report."""
    return [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(document)]
