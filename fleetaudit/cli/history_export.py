"""`fleetaudit history export`: a run in one file, for those who have no history to look into."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import click
from sqlalchemy import Connection

from fleetaudit.cli.console import say
from fleetaudit.cli.outputs import Output, require_free, write
from fleetaudit.cli.report import reported
from fleetaudit.cli.retrospect import asked_for, past
from fleetaudit.cli.storing import usual_place
from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.errors import ConfigError, Problem, StoreError
from fleetaudit.evidence import bundle
from fleetaudit.evidence.manifest import Manifest, decode, digest
from fleetaudit.history.reading import StoredRun, find_manifest, find_run, proof_of
from fleetaudit.history.rebuilding import Rebuilt, outcomes, rebuilt
from fleetaudit.history.store import open_store
from fleetaudit.rejudging import files_of
from fleetaudit.report import RENDERERS
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_CHUNK = 1 << 20


@click.command("export")
@click.argument("run")
@click.argument("file", metavar="BUNDLE.tar.gz")
@click.option("--store", default="", metavar="PATH|URL", help="The history (default: the usual file).")
@click.option("--state", metavar="DIRECTORY", help="Where the usual file is.")
@click.option(
    "--chain",
    type=click.IntRange(0, 9999),
    default=100,
    show_default=True,
    metavar="N",
    help="Put the manifests of up to N runs before it in, too.",
)
def command(*, run: str, file: str, store: str, state: str | None, chain: int) -> int:
    """Write all of RUN into one file: manifest and signature, snapshots, policies, waivers, reports.

    The same run gives the same bytes each time. `fleetaudit verify` checks the file, without a history.
    Exit code 3 when a report of the run cannot be made again: it is not in the file then.
    """
    if file == "-":
        raise ConfigError(Problem("a bundle goes into a file", hint="such as run.tar.gz"))
    require_free([file])
    with (
        open_store(usual_place(store, state), create=False) as history,
        history.reading() as connection,
        tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder,
    ):
        stored = find_run(connection, run)
        manifest, signature = proof_of(connection, stored)
        with (Path(folder) / "bundle").open("w+b") as packed:
            writer = bundle.Writer(packed)
            _prove(connection, manifest, signature, chain, writer)
            whole = _pack(connection, stored, manifest, writer, Path(folder))
            packed.seek(0)
            _copy(packed, file)
    return ExitCode.COMPLIANT if whole else ExitCode.INCOMPLETE


def _prove(
    connection: Connection, manifest: bytes, signature: str | None, chain: int, writer: bundle.Writer
) -> None:
    """What proves the run, and as much of the chain as was asked for and is still kept."""
    writer.add(bundle.MANIFEST, manifest)
    if signature is not None:
        writer.add(bundle.SIGNATURE, signature.encode())
    for number, before in enumerate(islice(_chain(connection, manifest), chain), 1):
        writer.add(bundle.chain_name(number), before)


def _chain(connection: Connection, manifest: bytes) -> Iterator[bytes]:
    """The manifests of the runs before, latest first, until one is not kept any more."""
    link = decode(manifest, "manifest").previous
    while link is not None:
        before = find_manifest(connection, link.run)
        if before is None or digest(before) != link.manifest_sha256:
            return
        yield before
        link = decode(before, f"run {link.run}").previous


def _pack(
    connection: Connection,
    stored: StoredRun,
    proof: bytes,
    writer: bundle.Writer,
    folder: Path,
) -> bool:
    """Returns whether everything is in it that the manifest names."""
    found = rebuilt(connection, stored)
    manifest = decode(proof, f"run {stored.run_id}")
    contents = files_of(found.inputs)
    for number, item in enumerate(manifest.inputs, 1):
        if item.kind in bundle.KINDS and item.path in contents:
            writer.add(bundle.input_name(number, item.path), contents[item.path])
    whole = True
    files = _reports(connection, stored, found, manifest, folder)
    for number, (report, path) in enumerate(zip(manifest.reports, files, strict=True), 1):
        if path is None or digest(path.read_bytes()) != report.sha256:
            say(f"warning: {visible(report.path)} cannot be made again as it was: it is not in the bundle")
            whole = False
            continue
        writer.add(bundle.report_name(number, report), path.read_bytes())
    with (folder / "snapshots").open("w+b") as lines:
        for outcome in outcomes(connection, stored, found):
            lines.write((outcome.line or b"") + b"\n")
        size = lines.tell()
        lines.seek(0)
        writer.add_stream(bundle.SNAPSHOTS, lines, size)
    writer.finish()
    return whole


def _reports(
    connection: Connection, stored: StoredRun, found: Rebuilt, manifest: Manifest, folder: Path
) -> Iterator[Path | None]:
    """The files of the manifest's reports, made again in one pass; None for one of no known format."""
    made: dict[tuple[str, str], Path] = {}
    outputs = []
    for number, report in enumerate(manifest.reports):
        if report.format in RENDERERS and (report.format, report.path) not in made:
            outputs.append(Output(report.format, str(folder / f"report{number}")))
            for suffix in ("", *RENDERERS[report.format].sidecars):
                made[report.format, report.path + suffix] = folder / f"report{number}{suffix}"
    if outputs:
        include_pass = any(report.include_pass for report in manifest.reports)
        whole = reported(connection, stored, found)
        before = past(connection, stored) if asked_for(outputs) else None
        for failure in write(whole(), outputs, include_pass=include_pass, past=before).failures:
            raise StoreError(str(failure))
    for report in manifest.reports:
        path = made.get((report.format, report.path))
        yield path if path is not None and path.exists() else None


def _copy(packed: BinaryIO, file: str) -> None:
    try:
        out = WholeFile(file)
        try:
            while chunk := packed.read(_CHUNK):
                out.write(chunk)
            out.finish()
        finally:
            out.discard()
    except OSError as error:
        raise ConfigError(Problem(f"{visible(file)}: {error.strerror or error}")) from error
