"""A run's manifest: everything that went into it and came out of it, by SHA-256. Pure.

A manifest names the run before it by that one's digest: runs that follow each other are a chain, in which
none can be changed or left out unseen by who has a later one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible

SCHEMA: Final = "fleetaudit.manifest/1"
MOST_BYTES: Final = 256 * 1024 * 1024  # of a manifest: a million hosts

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
Count = Annotated[int, Meta(ge=0)]


class ManifestRun(Struct, frozen=True):
    """Which run. Times are RFC 3339 UTC; `complete` is false when it was cut short."""

    id: str
    started_at: str
    finished_at: str
    version: str
    agent_sha256: str
    complete: bool


class ManifestInput(Struct, frozen=True):
    """What the run was judged by: `kind` policy, waivers, baseline or inventory, `path` as it was given."""

    kind: str
    path: str
    sha256: str


class ManifestHost(Struct, frozen=True):
    """A host, how far its audit came, and the digest of its line in a snapshot file (null: there is none)."""

    host: str
    status: str
    sha256: Digest | None


class ManifestReport(Struct, frozen=True):
    """A report that was written; `path` is relative to the manifest's own folder, unless it is outside."""

    format: str
    path: str
    sha256: Digest
    bytes: Count
    include_pass: bool


class Link(Struct, frozen=True):
    """The run before."""

    run: str
    manifest_sha256: Digest


class Manifest(Struct, frozen=True):
    """One run. `results` counts verdicts, `exit_code` is how it ended."""

    schema: str
    run: ManifestRun
    exit_code: int
    results: dict[str, Count]
    inputs: tuple[ManifestInput, ...]
    hosts: tuple[ManifestHost, ...]
    reports: tuple[ManifestReport, ...]
    previous: Link | None


_DECODER: Final = msgspec.json.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    """The manifest as the file that is signed: the same bytes for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes, name: str) -> Manifest:
    """The manifest in a file called `name`. Raises ConfigError for what is none."""
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"not a manifest: {visible(str(error))[:200]}"
        raise ConfigError(Problem(message, Place(name), "audit --manifest writes one")) from None
    if manifest.schema != SCHEMA:
        message = f"schema is {visible(manifest.schema)[:80]!r}; this version reads {SCHEMA!r}"
        raise ConfigError(Problem(message, Place(name)))
    return manifest


def digest(data: bytes) -> str:
    """SHA-256 as manifests have it."""
    return hashlib.sha256(data).hexdigest()


def link_to(run: str, manifest: bytes) -> Link:
    """What the manifest of the next run says of this one."""
    return Link(run, digest(manifest))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, generated from the structs that validate it."""
    schema = msgspec.json.schema(Manifest)
    root = schema["$defs"].pop("Manifest")
    root["properties"]["schema"] = {"const": SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://fleetaudit.example/schemas/manifest.schema.json",
        **root,
        "title": "fleetaudit manifest",
        "description": "Everything that went into a run and came out of it, by SHA-256.",
        "$defs": schema["$defs"],
    }
