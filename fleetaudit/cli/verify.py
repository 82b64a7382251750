"""`fleetaudit verify`: whether a run's manifest, and everything that it names, is as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from fleetaudit.cli.evidence import SIGNATURE
from fleetaudit.cli.storing import usual_place
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.evidence import bundle
from fleetaudit.evidence.chain import Chained, as_kept, chained, check_chain, check_gap, check_kept
from fleetaudit.evidence.checking import (
    Check,
    Content,
    State,
    check_inputs,
    check_reports,
    check_signature,
    check_snapshots,
    content_of,
    exit_code,
    inside,
)
from fleetaudit.evidence.manifest import MOST_BYTES, Link, Manifest, decode
from fleetaudit.evidence.signing import MOST_BYTES as MOST_SIGNATURE
from fleetaudit.evidence.signing import check as check_signed
from fleetaudit.evidence.signing import require_signers
from fleetaudit.report.record import encode
from fleetaudit.text import visible

_GZIP = b"\x1f\x8b"
_FILES = frozenset({"policy", "waivers", "inventory"})


@dataclass(frozen=True, slots=True)
class _Given:
    """One manifest that was named, and what was found beside it."""

    name: str
    data: bytes
    manifest: Manifest
    signature: bytes | None
    checks: tuple[Check, ...]
    chain: tuple[Chained, ...] | None = None  # of a bundle

    @property
    def place(self) -> Chained:
        """Where it is in the chain."""
        return chained(self.manifest, self.data)


@click.command("verify")
@click.argument("paths", nargs=-1, required=True, metavar="MANIFEST|BUNDLE…")
@click.option(
    "--allowed-signers", metavar="FILE", help="Whose signatures count (ssh-keygen(1), ALLOWED SIGNERS)."
)
@click.option("--signer", metavar="IDENTITY", help="Only this one's signature counts.")
@click.option("--snapshots", metavar="FILE", help="Check snapshots that audit --snapshots kept, too.")
@click.option(
    "--inputs", is_flag=True, help="Check policies, waivers and inventory where they were read, too."
)
@click.option(
    "--store",
    is_flag=False,
    flag_value="",
    metavar="[PATH|URL]",
    help="Check the place in this history's chain, too; alone (last, or before an option): the usual file.",
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
def command(
    *,
    paths: tuple[str, ...],
    allowed_signers: str | None,
    signer: str | None,
    snapshots: str | None,
    inputs: bool,
    store: str | None,
    style: str,
) -> int:
    """Say what is intact, changed or missing of what a run's manifest names.

    Of several manifests or bundles it is also checked whether they follow each other.

    \b
    Exit codes: 0 all intact, 1 something is not, 2 no manifest or bundle,
    3 nothing is wrong, but not everything could be checked.
    """
    if signer is not None and allowed_signers is None:
        raise ConfigError(Problem("--signer: whose key is that?", hint="add --allowed-signers FILE"))
    if allowed_signers is not None:
        require_signers(allowed_signers)
    if snapshots is not None and len(paths) > 1:
        raise ConfigError(Problem("--snapshots: of which run?", hint="name one manifest"))
    given = [_given(path) for path in dict.fromkeys(paths)]
    places = [it.place for it in given]
    kept = _kept(store) if store is not None else []
    held = [it for one in given for it in one.chain or ()]
    known = {place.sha256: place for place in [*kept, *held, *places]}
    found: list[Check] = []
    for it, place in zip(given, places, strict=True):
        checks = [_signature(it, allowed_signers, signer), check_chain(place, known)]
        gap = check_gap(place, places, known)
        checks += [*([gap] if gap else ()), *it.checks]
        checks += [check_kept(place, kept)] if store is not None else ()
        checks += _snapshots(it, snapshots)
        checks += _inputs(it.manifest) if inputs else ()
        _print(it, checks, style)
        found += checks
    return exit_code(found)


def _kept(store: str) -> list[Chained]:
    """The history's own chain; who does not ask for it does not wait for the database library."""
    from fleetaudit.history.reading import links  # noqa: PLC0415
    from fleetaudit.history.store import open_store  # noqa: PLC0415

    with open_store(usual_place(store, None), create=False) as history, history.reading() as connection:
        return as_kept([Link(*link) for link in links(connection)])


def _given(path: str) -> _Given:
    try:
        with Path(path).open("rb") as stream:
            if stream.read(2) == _GZIP:
                stream.seek(0)
                opened = bundle.read(stream, path)
                rest = opened.signature, opened.checks, opened.chain
                return _Given(path, opened.data, opened.manifest, *rest)
            stream.seek(0)
            data = stream.read(MOST_BYTES)
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error
    manifest = decode(data, path)
    folder = Path(path).resolve().parent
    found = {
        report.path: _content(folder, report.path, report.bytes)
        for report in manifest.reports
        if inside(report.path) is not None
    }
    return _Given(path, data, manifest, _beside(path), tuple(check_reports(manifest, found)))


def _beside(path: str) -> bytes | None:
    try:
        with _plain(Path(path + SIGNATURE), follow=True) as stream:
            return stream.read(MOST_SIGNATURE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path + SIGNATURE)}: {error.strerror or error}")) from error


def _content(folder: Path, path: str, size: int) -> Content | None:
    """Of a plain file in the folder; a link that leads out of it, a pipe or a device is none."""
    place = folder / path
    try:
        if not place.resolve().is_relative_to(folder):
            return None
        with _plain(place) as stream:
            return content_of(stream, size)
    except OSError:
        return None


def _plain(place: Path, *, follow: bool = False) -> BinaryIO:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(place, flags if follow else flags | os.O_NOFOLLOW)
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise OSError("no plain file")
    return stream


def _signature(it: _Given, signers: str | None, signer: str | None) -> Check:
    try:
        signed = None if it.signature is None else check_signed(it.data, it.signature, signers, signer)
    except ReportError as error:
        return Check(State.UNCHECKED, "signature", "manifest", str(error))
    return check_signature(signed, wanted=signers is not None)


def _snapshots(it: _Given, path: str | None) -> Iterable[Check]:
    """Those of a bundle were checked with it; others only where somebody says where they are."""
    if path is not None:
        return check_snapshots(it.manifest.hosts, _lines(path))
    count = sum(host.sha256 is not None for host in it.manifest.hosts)
    if it.chain is not None or not count:
        return ()
    return [Check(State.UNCHECKED, "snapshots", f"{count} hosts", "see --snapshots FILE", optional=True)]


def _lines(path: str) -> Iterator[bytes]:
    try:
        with Path(path).open("rb") as stream:
            yield from bundle.lines_of(stream)
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error


def _inputs(manifest: Manifest) -> Iterable[Check]:
    """Inputs are where they were read, not beside the manifest: who asks for it trusts the paths."""
    found: dict[str, str | None] = {}
    for item in manifest.inputs:
        if item.kind in _FILES:
            try:
                with _plain(Path(item.path)) as stream:
                    found[item.path] = content_of(stream, MOST_BYTES).sha256
            except OSError:
                found[item.path] = None
    return check_inputs(manifest.inputs, found, _FILES)


def _print(it: _Given, checks: Iterable[Check], style: str) -> None:
    run = it.manifest.run
    if style == "text":
        click.echo(visible(f"{it.name}: run {run.id}, {run.started_at}, exit {it.manifest.exit_code}"))
    for check in checks:
        if style == "json":
            row = {"file": it.name, "run": run.id, "state": check.state.value, "what": check.what}
            click.echo(encode(row | {"name": check.name, "detail": check.detail}))
        else:
            detail = f": {check.detail}" if check.detail else ""
            click.echo(visible(f"  {_shown(check)}  {check.what} {check.name}{detail}"))


def _shown(check: Check) -> str:
    longest = max(len(state.value) for state in State)
    return f"{check.state.value:{longest}}"
