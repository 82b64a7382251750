"""The contract of a report format.

A renderer turns a `Report` into chunks of bytes. It is pure: it opens no file, reads no clock and chooses
no exit code. It yields at least one chunk (which may be empty) for every `HostAudit` it takes from
`report.audits`, so that several renderers can be driven in step over one pass (`fanout.drive`), and it
calls `report.summary()` only once the audits are exhausted. All of its output is derived in the order
in which values arrive: the same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from fleetaudit.model import Report

NOTICE: Final = "listening sockets only, at this moment; packet-filter forwarding not examined"
CONTAINER_NOTICE: Final = "coverage was judged inside the container: owners outside it are not examined"


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation that an earlier run found."""

    host: str
    policy: str
    rule: str
    severity: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """What an earlier run came to: results that passed, `of` how many that count (`figures.FORMULA`)."""

    run_id: str
    started_at: str
    passed: int
    of: int


@dataclass(frozen=True, slots=True)
class Past:
    """What the history knows of the time before a run: the run before it, and how it went until then.

    `hosts` are those that the run reached, `violations` what it found, by fingerprint; `trend` is earliest
    first and ends with that run.
    """

    run_id: str
    started_at: str
    hosts: frozenset[str]
    violations: Mapping[str, Violation]
    trend: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How a format that leaves a choice is to look.

    `width` is in columns. `entries` is how many entries one list shows before it says how many more there
    are. `include_pass` lists what passed; JSON and CSV always do. `past` is for formats that say what
    changed; None: there is no history, or nothing in it.
    """

    include_pass: bool = False
    width: int = 80
    colour: bool = False
    entries: int = 20
    past: Past | None = None


Renderer: TypeAlias = Callable[[Report], Iterator[bytes]]
RendererFactory: TypeAlias = Callable[[RenderOptions], Renderer]
