"""The table of formats."""

from __future__ import annotations

import pytest

from fleetaudit.errors import ConfigError
from fleetaudit.report import RENDERERS, RenderOptions, formats, parts


def test_every_format_loads_and_its_main_file_has_no_suffix() -> None:
    assert (
        formats()
        == tuple(RENDERERS)
        == (
            "text",
            "json",
            "jsonl",
            "csv",
            "csv-listeners",
            "html",
            "junit",
            "markdown",
            "github",
            "sarif",
            "prometheus",
            "oscal",
            "ocsf",
            "hdf",
            "xlsx",
            "parquet",
            "parquet-listeners",
        )
    )
    for name in formats():
        suffixes = [part.suffix for part in parts(name, RenderOptions())]
        assert suffixes[0] == ""
        assert "" not in suffixes[1:]


@pytest.mark.parametrize("name", ["csv", "csv-listeners"])
def test_csv_brings_its_denominators_along(name: str) -> None:
    assert [part.suffix for part in parts(name, RenderOptions())] == ["", ".meta.json"]


@pytest.mark.parametrize(
    ("name", "hint"), [("jsom", "did you mean json"), ("epub", "one of: text, json, jsonl, csv")]
)
def test_an_unknown_format_is_refused_with_a_remedy(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no report format '{name}'.*{hint}"):
        parts(name, RenderOptions())
