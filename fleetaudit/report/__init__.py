"""Report formats: the one table, and how to get a renderer from it.

A new format is one module with a factory and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.report.base import NOTICE, Renderer, RendererFactory, RenderOptions
from fleetaudit.report.fanout import drive

__all__ = ["NOTICE", "RENDERERS", "Format", "Part", "RenderOptions", "Renderer", "drive", "formats", "parts"]


@dataclass(frozen=True, slots=True)
class Format:
    """One format. `factory` is "module:function", imported on use.

    `sidecars` are files that go with the main one: what is added to its path, and their factory.
    `says_changes`: it makes use of `RenderOptions.past`.
    """

    about: str
    factory: str
    sidecars: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    says_changes: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a format: what to add to the user's path ("" for the main file), and its renderer."""

    suffix: str
    renderer: Renderer


RENDERERS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "text": Format("for a person, on a terminal", "fleetaudit.report.terminal:text"),
        "json": Format("everything, one document", "fleetaudit.report.json_document:json_document"),
        "jsonl": Format("everything, one object per line", "fleetaudit.report.json_lines:json_lines"),
        "csv": Format(
            "one row per finding, for a spreadsheet",
            "fleetaudit.report.csv_rows:csv_rows",
            MappingProxyType({".meta.json": "fleetaudit.report.csv_rows:csv_meta"}),
        ),
        "csv-listeners": Format(
            "the port register: one row per owner of each endpoint, and what approves it",
            "fleetaudit.report.listener_rows:listener_rows",
            MappingProxyType({".meta.json": "fleetaudit.report.csv_rows:csv_meta"}),
        ),
        "html": Format("a page for a browser, one file", "fleetaudit.report.html:html", says_changes=True),
        "junit": Format("for CI servers: one test case per rule and host", "fleetaudit.report.junit:junit"),
        "markdown": Format("a job summary, at most 1 MiB", "fleetaudit.report.markdown:markdown"),
        "github": Format("annotations of a GitHub job", "fleetaudit.report.annotations:github"),
        "sarif": Format("SARIF 2.1.0, for code scanning", "fleetaudit.report.sarif:sarif"),
        "prometheus": Format("metrics for node_exporter", "fleetaudit.report.prometheus:prometheus"),
        "oscal": Format("assessment results, for auditors' tools", "fleetaudit.report.oscal:oscal"),
        "ocsf": Format("events for a SIEM, one a line", "fleetaudit.report.ocsf:ocsf"),
        "hdf": Format("for Heimdall: InSpec's ExecJSON", "fleetaudit.report.hdf:hdf"),
        "xlsx": Format("a workbook (extra xlsx)", "fleetaudit.report.workbook:xlsx"),
        "parquet": Format(
            "csv as typed columns, for query engines (extra parquet)",
            "fleetaudit.report.parquet_rows:parquet",
        ),
        "parquet-listeners": Format(
            "csv-listeners as typed columns (extra parquet)",
            "fleetaudit.report.parquet_rows:parquet_listeners",
        ),
    }
)


def formats() -> tuple[str, ...]:
    """The names of all formats."""
    return tuple(RENDERERS)


def parts(name: str, options: RenderOptions) -> tuple[Part, ...]:
    """The files of a format, main file first; on standard output only the first has a place.

    Raises ConfigError for a format that does not exist.
    """
    chosen = RENDERERS.get(name)
    if chosen is None:
        close = get_close_matches(name, RENDERERS, 1)
        hint = f"did you mean {close[0]}?" if close else f"one of: {', '.join(RENDERERS)}"
        raise ConfigError(Problem(f"no report format '{name}'", hint=hint))
    files = {"": chosen.factory, **chosen.sidecars}
    return tuple(Part(suffix, _load(factory)(options)) for suffix, factory in files.items())


def _load(factory: str) -> RendererFactory:
    module, _, function = factory.partition(":")
    return cast("RendererFactory", getattr(import_module(module), function))
