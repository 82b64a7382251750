"""`--manifest` and `--sign`: what proves a run, put together while it passes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fleetaudit.cli.outputs import WrittenFile
from fleetaudit.cli.wholefile import write_whole
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.evidence.manifest import (
    SCHEMA,
    Link,
    Manifest,
    ManifestHost,
    ManifestInput,
    ManifestReport,
    ManifestRun,
    decode,
    digest,
    encode,
    link_to,
)
from fleetaudit.evidence.signing import require_key, sign
from fleetaudit.inputs import read_bytes
from fleetaudit.judges import Judges
from fleetaudit.model import HostAudit, Report, Run, Summary
from fleetaudit.rejudging import baseline_bytes

SIGNATURE = ".sig"  # beside the manifest


@dataclass(frozen=True, slots=True)
class Proof:
    """Where the manifest goes, whose key signs it, and the run before, as the file of that name had it."""

    path: str | None = None
    key: str | None = None
    previous: Link | None = None


NO_PROOF: Final = Proof()


def proof_of(manifest: str | None, key: str | None, *, kept: bool) -> Proof:
    """What `--manifest` and `--sign` say; `kept` runs have a manifest in any case.

    Raises ConfigError, before anything runs.
    """
    if key is not None:
        require_key(key)
        if manifest is None and not kept:
            raise ConfigError(Problem("--sign: sign what?", hint="add --manifest FILE, or --store"))
    return Proof(manifest, key, _link(manifest) if manifest is not None else None)


def _link(path: str) -> Link | None:
    """The run whose manifest is there; None when nothing is. Raises ConfigError for anything else."""
    if not Path(path).exists():
        return None
    before = read_bytes(path)
    return link_to(decode(before, path).run.id, before)


def manifest_files(manifest: str | None) -> tuple[str, ...]:
    """Every file that `--manifest` writes or takes away: nothing else may be written there."""
    return () if manifest is None else (manifest, manifest + SIGNATURE)


@dataclass(slots=True)
class Evidence:
    """One run's manifest in the making."""

    run: Run
    judges: Judges
    proof: Proof
    reports: tuple[WrittenFile, ...] = ()
    made: bytes | None = None
    signature: bytes | None = None
    _hosts: list[ManifestHost] = field(default_factory=list)

    def over(self, report: Report) -> Report:
        """The same report; its hosts are noted as they pass."""
        return replace(report, audits=self._noted(report.audits))

    def _noted(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        for audit in audits:
            outcome = audit.outcome
            sha256 = outcome.snapshot_sha256
            if sha256 is None and outcome.line is not None:
                sha256 = digest(outcome.line.rstrip(b"\r\n"))
            self._hosts.append(ManifestHost(outcome.host, outcome.status.value, sha256))
            yield audit

    def make(self, summary: Summary, previous: tuple[str, str] | None) -> bytes:
        """The manifest. It follows the history's last run, or else that of the file whose place it takes."""
        run = self.run
        self.made = encode(
            Manifest(
                schema=SCHEMA,
                run=ManifestRun(
                    run.id, run.started_at, run.finished_at, run.version, run.agent_sha256, run.complete
                ),
                exit_code=int(summary.exit_code),
                results=dict(summary.results),
                inputs=tuple(self._inputs()),
                hosts=tuple(self._hosts),
                reports=tuple(map(self._report, self.reports)),
                previous=Link(*previous) if previous else self._before(),
            )
        )
        return self.made

    def _before(self) -> Link | None:
        """The manifest whose place this one takes: another run may have written it since this one began."""
        try:
            found = _link(self.proof.path) if self.proof.path is not None else None
        except ConfigError:
            found = None
        return found or self.proof.previous

    def finish(self, summary: Summary) -> list[ReportError]:
        """Write and sign the manifest, as far as that was asked for. Returns what could not be done."""
        proof = self.proof
        if proof.path is None and proof.key is None:
            return []
        made = self.made or self.make(summary, None)
        try:
            self.signature = sign(made, proof.key) if proof.key is not None else None
        except ReportError as error:
            return [*self._written(made), error]
        return self._written(made)

    def _written(self, made: bytes) -> list[ReportError]:
        path = self.proof.path
        if path is None:
            return []
        try:
            # A signature of another manifest is none of this one: it goes first.
            Path(path + SIGNATURE).unlink(missing_ok=True)
            write_whole(path, made)
            if self.signature is not None:
                write_whole(path + SIGNATURE, self.signature)
        except ConfigError as error:
            return [ReportError(str(error))]
        except OSError as error:
            return [ReportError(f"{path + SIGNATURE}: {error.strerror or error}")]
        return []

    def _inputs(self) -> Iterator[ManifestInput]:
        judges = self.judges
        waivers = {source.path for source in judges.waiver_files}
        contents: Mapping[str, bytes] = judges.files.contents
        for path in sorted(contents):
            kind = "waivers" if path in waivers else "policy"
            yield ManifestInput(kind, path, digest(contents[path]))
        if judges.baseline is not None:
            yield ManifestInput("baseline", judges.baseline.name, digest(baseline_bytes(judges.baseline)))
        for source in self.run.inventory:
            yield ManifestInput("inventory", source.path, source.sha256)

    def _report(self, file: WrittenFile) -> ManifestReport:
        path = file.path
        if self.proof.path is not None:
            near = os.path.relpath(path, Path(self.proof.path).resolve().parent)
            path = near if not near.startswith("..") else str(Path(path).resolve())
        return ManifestReport(file.format, path, file.sha256, file.size, file.include_pass)
