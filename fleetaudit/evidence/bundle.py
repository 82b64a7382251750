"""A run in one file: its manifest, signature, snapshots, inputs and reports, the same bytes each time.

A gzip'ed tar file of plain files: `manifest.json` first, `manifest.json.sig`, `chain/` (manifests of runs
before, latest first), `inputs/`, `reports/`, and `snapshots.jsonl` last. Reading one believes nothing:
members are read in their order, never put on a disk, and reading stops behind what the manifest names.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, Final

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.evidence.chain import Chained, chained
from fleetaudit.evidence.checking import (
    MOST_LINE,
    Check,
    Content,
    State,
    check_inputs,
    check_reports,
    check_snapshots,
    content_of,
)
from fleetaudit.evidence.manifest import MOST_BYTES, Manifest, ManifestReport, decode, digest
from fleetaudit.evidence.signing import MOST_BYTES as MOST_SIGNATURE
from fleetaudit.text import visible

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"
SNAPSHOTS: Final = "snapshots.jsonl"
KINDS: Final = frozenset({"policy", "waivers"})  # inputs that are in a bundle
_MOST_INPUT: Final = 64 * 1024 * 1024
_MOST_UNEXPECTED: Final = 100  # members that no run has in its bundle, until the rest is not read
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")


def report_name(number: int, report: ManifestReport) -> str:
    """Where a report is in a bundle."""
    return f"reports/{number:03}-{_tame(report.path)}"


def input_name(number: int, path: str) -> str:
    """Where an input is in a bundle."""
    return f"inputs/{number:03}-{_tame(path)}"


def _tame(path: str) -> str:
    return _ODD.sub("_", path.rpartition("/")[2])[:80]


def chain_name(number: int) -> str:
    """Where the manifest of the run that is `number` runs before is in a bundle."""
    return f"chain/{number:04}.json"


class Writer:
    """Puts files into a bundle, in the order in which they are given."""

    def __init__(self, stream: BinaryIO) -> None:
        self._packed = gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0)
        self._tar = tarfile.TarFile(fileobj=self._packed, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, name: str, data: bytes) -> None:
        """One file. Nothing but its name and its bytes is in the bundle: no time, no owner."""
        self.add_stream(name, io.BytesIO(data), len(data))

    def add_stream(self, name: str, stream: IO[bytes], size: int) -> None:
        """One file of `size` bytes."""
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o644, 0
        self._tar.addfile(member, stream)

    def finish(self) -> None:
        """That was all."""
        self._tar.close()
        self._packed.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle that was read: its manifest as bytes and as a value, its signature, and what was found."""

    data: bytes
    manifest: Manifest
    signature: bytes | None
    checks: tuple[Check, ...]
    chain: tuple[Chained, ...]


def read(stream: BinaryIO, name: str) -> Opened:
    """Read a bundle and check what is in it. Raises ConfigError for what does not begin as one."""
    with _reported(name), tarfile.open(fileobj=stream, mode="r|gz", tarinfo=_Plain) as tar:
        members = iter(tar)
        first = next(members, None)
        if first is None or not first.isreg() or first.name != MANIFEST or first.size > MOST_BYTES:
            raise ConfigError(Problem(f"{visible(name)} does not begin with a manifest", Place(name)))
        data = _bytes(tar, first)
        reading = _Reading(decode(data, name))
        try:
            for member in members:
                if not reading.take(member, _file(tar, member)):
                    detail = "more than a run has: the rest was not read"
                    reading.checks.append(Check(State.UNEXPECTED, "bundle", name, detail))
                    break
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            detail = f"damaged: {visible(str(error))[:100]}"
            reading.checks.append(Check(State.CHANGED, "bundle", name, detail))
    return Opened(data, reading.manifest, reading.signature, tuple(reading.ended()), tuple(reading.chain))


class _Plain(tarfile.TarInfo):
    """A member that is a plain file. Headers that say more, which could be of any size, are not read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise tarfile.ReadError(f"{visible(self.name)[:80]} is no plain file")
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]  # meant to be overridden


class _Reading:
    """One pass over the members behind the manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.signature: bytes | None = None
        self.checks: list[Check] = []
        self.chain: list[Chained] = []
        self._before = manifest.previous
        self._seen = {MANIFEST}
        self._odd = 0
        self._reports: dict[str, Content | None] = {}
        self._inputs: dict[str, str | None] = {}
        self._snapshots = False
        self._wanted: Mapping[str, Callable[[IO[bytes]], None]] = {
            **{
                report_name(number, report): self._report(report)
                for number, report in enumerate(manifest.reports, 1)
            },
            **{
                input_name(number, item.path): self._input(item.path)
                for number, item in enumerate(manifest.inputs, 1)
                if item.kind in KINDS
            },
            SIGNATURE: self._sign,
            SNAPSHOTS: self._lines,
        }

    def take(self, member: tarfile.TarInfo, stream: IO[bytes] | None) -> bool:
        """One member. Returns whether to go on: what a bomb holds is not even passed over."""
        use = self._wanted.get(member.name)
        if self._before is not None and member.name == chain_name(len(self.chain) + 1):
            use = self._link
        if use is None or stream is None or not member.isreg() or member.name in self._seen:
            self.checks.append(Check(State.UNEXPECTED, "file", member.name, "no run has it in its bundle"))
            self._odd += 1
            return self._odd < _MOST_UNEXPECTED and member.size <= _MOST_INPUT
        self._seen.add(member.name)
        use(stream)
        return stream.tell() == member.size

    def ended(self) -> Iterator[Check]:
        """Everything that was found, when there is no more."""
        reports = {report.path: self._reports.get(report.path) for report in self.manifest.reports}
        yield from check_reports(self.manifest, reports)
        yield from check_inputs(self.manifest.inputs, self._inputs, KINDS)
        yield from self.checks
        if not self._snapshots:
            yield from check_snapshots(self.manifest.hosts, ())

    def _report(self, report: ManifestReport) -> Callable[[IO[bytes]], None]:
        def use(stream: IO[bytes]) -> None:
            self._reports[report.path] = content_of(stream, report.bytes)

        return use

    def _input(self, path: str) -> Callable[[IO[bytes]], None]:
        def use(stream: IO[bytes]) -> None:
            self._inputs[path] = content_of(stream, _MOST_INPUT).sha256

        return use

    def _link(self, stream: IO[bytes]) -> None:
        """The run before, if it is the one that was named: only then it says which was before that."""
        expected, self._before = self._before, None
        data = stream.read(MOST_BYTES)
        run = expected.run if expected is not None else ""
        if expected is not None and digest(data) == expected.manifest_sha256:
            try:
                manifest = decode(data, run)
            except ConfigError:
                pass
            else:
                self.chain.append(chained(manifest, data))
                self._before = manifest.previous
                return
        self.checks.append(
            Check(State.CHANGED, "chain", run, "its manifest is not the one that was followed")
        )

    def _sign(self, stream: IO[bytes]) -> None:
        self.signature = stream.read(MOST_SIGNATURE)

    def _lines(self, stream: IO[bytes]) -> None:
        self._snapshots = True
        self.checks += check_snapshots(self.manifest.hosts, lines_of(stream))


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines; one that is longer than any snapshot comes in pieces, none of which is one."""
    while line := stream.readline(MOST_LINE):
        yield line


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return stream.read(MOST_BYTES) if stream is not None else b""


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    return tar.extractfile(member) if member.isreg() else None


@contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        message = f"{visible(name)} is no bundle: {visible(str(error))[:100]}"
        raise ConfigError(Problem(message, hint="history export writes one")) from None
