"""Whether what a manifest names is still what it was. Pure: who calls reads the files.

Nothing that a manifest says is believed about where a file is: a path that leads out of the folder, or to
anything but a file in it, is not followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import IO, Final

from fleetaudit.evidence.manifest import Manifest, ManifestHost, ManifestInput
from fleetaudit.evidence.signing import Signed

MOST_LINE: Final = 64 * 1024 * 1024  # bytes of one host's snapshot
_CHUNK: Final = 1 << 20


class State(str, Enum):
    """What became of something that was checked. Only `INTACT` is good."""

    INTACT = "intact"
    CHANGED = "changed"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: `what` is signature, chain, order, history, report, snapshot,
    snapshots, bundle, file, or a kind of input.

    `optional`: nobody asked for it, and that it is unchecked is no fault.
    """

    state: State
    what: str
    name: str
    detail: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a file: its digest and size in bytes."""

    sha256: str
    size: int


def content_of(stream: IO[bytes], most: int) -> Content:
    """Digest and size, of at most one byte more than `most`."""
    digest, size = hashlib.sha256(), 0
    while size <= most and (chunk := stream.read(min(_CHUNK, most + 1 - size))):
        digest.update(chunk)
        size += len(chunk)
    return Content(digest.hexdigest(), size)


def inside(path: str) -> PurePosixPath | None:
    """The path, if it stays in the folder that it starts from."""
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or not found.parts or "\0" in path:
        return None
    return found


def check_reports(manifest: Manifest, found: Mapping[str, Content | None]) -> Iterator[Check]:
    """Each report; `found` has those that were looked for, None: there is none. The rest is not checked."""
    for report in manifest.reports:
        if report.path not in found:
            yield Check(State.UNCHECKED, "report", report.path, "it is not in the manifest's folder")
            continue
        content = found[report.path]
        if content is None:
            yield Check(State.MISSING, "report", report.path)
        elif content == Content(report.sha256, report.bytes):
            yield Check(State.INTACT, "report", report.path)
        else:
            yield Check(State.CHANGED, "report", report.path)


def check_inputs(
    inputs: Iterable[ManifestInput], found: Mapping[str, str | None], kinds: frozenset[str]
) -> Iterator[Check]:
    """Each input of these kinds; `found` has the digest by path, None where nothing could be read."""
    for item in inputs:
        if item.kind in kinds:
            sha256 = found.get(item.path)
            state = State.MISSING if sha256 is None else State.CHANGED
            yield Check(State.INTACT if sha256 == item.sha256 else state, f"{item.kind} file", item.path)


def check_snapshots(hosts: Iterable[ManifestHost], lines: Iterable[bytes]) -> Iterator[Check]:
    """Every line of a snapshot file; what is intact is counted."""
    expected = {host.sha256: host.host for host in hosts if host.sha256 is not None}
    total, intact = len(expected), 0
    for number, line in enumerate(lines, 1):
        if number > 2 * total + 1:  # empty ones too: a little of gzip is a great many of them
            yield Check(State.UNEXPECTED, "snapshots", f"line {number}", "and what follows it")
            break
        if not line.strip():
            continue
        if expected.pop(hashlib.sha256(line.rstrip(b"\r\n")).hexdigest(), None) is None:
            yield Check(State.UNEXPECTED, "snapshot", f"line {number}", "it is of no host as the run saw it")
        else:
            intact += 1
    for host in expected.values():
        yield Check(State.MISSING, "snapshot", host, "not as the run saw it")
    if intact:
        yield Check(State.INTACT, "snapshots", f"{intact} of {total} hosts")


def check_signature(signed: Signed | None, *, wanted: bool) -> Check:
    """The manifest's signature; None: it has none, which is a fault where somebody's was `wanted`."""
    if signed is None:
        state = State.MISSING if wanted else State.UNCHECKED
        return Check(state, "signature", "manifest", "it is not signed", optional=not wanted)
    if signed.good is None:
        detail = f"{signed.words}; whose that is was not checked (--allowed-signers)"
        return Check(State.UNCHECKED, "signature", "manifest", detail, optional=True)
    return Check(State.INTACT if signed.good else State.CHANGED, "signature", "manifest", signed.words)


def exit_code(checks: Iterable[Check]) -> int:
    """1 when anything is not as it was; 3 when something could not be checked that should have been; else 0.

    A signature that nobody asked for is no reason for 3, nor is a run before that nobody gave.
    """
    found = list(checks)
    if any(it.state in (State.CHANGED, State.MISSING, State.UNEXPECTED) for it in found):
        return 1
    return 3 if any(it.state is State.UNCHECKED and not it.optional for it in found) else 0
