"""Reading the user's files: policies, snapshots, inventories, with messages that name what is missing."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from fleetaudit import inventory, yamlio
from fleetaudit.errors import ConfigError, Place, PolicyError, Problem
from fleetaudit.files import Files
from fleetaudit.model import HostContext, Source
from fleetaudit.policy import waiver_files
from fleetaudit.policy.load import load, resolve
from fleetaudit.policy.model import Policy
from fleetaudit.policy.resolve import Reader, Resolved
from fleetaudit.policy.waivers import Waiver
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

_PACK: Final = "pack:"


def read_bytes(path: str) -> bytes:
    """The file's content. Raises ConfigError naming the file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error


class Disk:
    """The files of this machine."""

    def expand(self, path: str) -> list[str]:
        """The policy files that a `-p` argument stands for. Raises PolicyError."""
        return _files_of(path)

    def read(self, path: str, most: int | None = None) -> bytes:
        """What is in a file; of one with more than `most` bytes, one byte more. Raises ConfigError."""
        if most is None:
            return read_bytes(path)
        try:
            with Path(path).open("rb") as stream:
                return stream.read(most + 1)
        except OSError as error:
            raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error


DISK: Final = Disk()


def policy_files(paths: Sequence[str], files: Files = DISK) -> tuple[str, ...]:
    """The policy files of `-p` arguments: a directory stands for the *.yaml directly in it, less tests."""
    found: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found += files.expand(path)
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    return tuple(dict.fromkeys(found))


def _files_of(path: str) -> list[str]:
    name = path.removeprefix(_PACK)
    place = Path(path) if name == path else _pack(name)
    if not place.is_dir():
        return [str(place) if name != path else path]
    found = sorted(str(item) for item in place.glob("*.yaml") if not item.name.endswith(".test.yaml"))
    if not found:
        raise PolicyError(Problem(f"{visible(path)}: no *.yaml policy in this directory"))
    return found


def _pack(name: str) -> Path:
    """A policy, or a directory of them, that ships with fleetaudit. Raises PolicyError."""
    package = Path(__file__).parent
    # In a wheel they are in the package, in the repository beside it.
    shipped = next(
        (folder for folder in (package / "policies", package.parent / "policies") if folder.is_dir()), None
    )
    known = packs(shipped) if shipped else []
    if shipped is None or name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean pack:{near[0]}?" if near else f"packs are: {', '.join(known)}"
        raise PolicyError(Problem(f"no pack is called '{visible(name)}'", hint=hint))
    return shipped / name if (shipped / name).is_dir() else shipped / f"{name}.yaml"


def packs(folder: Path) -> list[str]:
    """The names of the policies below a folder, and of the folders that hold some, sorted."""
    found = [item for item in folder.rglob("*.yaml") if not item.name.endswith(".test.yaml")]
    names = {str(item.relative_to(folder).with_suffix("")) for item in found}
    return sorted(names | {str(item.parent.relative_to(folder)) for item in found if item.parent != folder})


def read_policies(paths: Sequence[str], *, bases: bool = False, files: Files = DISK) -> tuple[Policy, ...]:
    """Every policy named, less those that another one extends, unless `bases` asks for them too.

    Raises ConfigError with every problem of every file.
    """
    documents, problems = _documents(policy_files(paths, files), files)
    beside = _beside(files)
    try:
        policies = load(documents, beside, bases=bases) if documents or not problems else ()
    except PolicyError as error:
        problems += error.problems
        policies = ()
    if problems:
        raise PolicyError(dict.fromkeys(problems))
    return policies


def read_waivers(
    paths: Sequence[str], policies: Sequence[Policy], now: datetime, files: Files = DISK
) -> tuple[tuple[Waiver, ...], tuple[Source, ...]]:
    """The waivers of these files, and the files by content. Raises ConfigError with every problem of each."""
    problems: list[Problem] = []
    documents, sources = [], []
    for file in dict.fromkeys(paths):
        try:
            data = files.read(file)
            documents.append(yamlio.parse(data, file))
            sources.append(Source(file, hashlib.sha256(data).hexdigest()))
        except ConfigError as error:
            problems += error.problems
    try:
        waivers = waiver_files.load(documents, policies, now)
    except ConfigError as error:
        problems += error.problems
        waivers = ()
    if problems:
        raise ConfigError(problems)
    return waivers, tuple(sources)


def resolve_policy(path: str) -> Resolved:
    """The policy in a file, with what it extends and includes. Raises ConfigError with every problem."""
    documents, problems = _documents(policy_files([path]), DISK)
    if len(documents) + len(problems) > 1:
        raise PolicyError(
            Problem(f"{visible(path)}: {len(documents)} policies", hint="name one file of them")
        )
    read_policies([path])
    (found,) = resolve(documents, [], _beside(DISK))
    return found


def _beside(files: Files) -> Reader:
    """Reads the policies that a file extends or includes by a path beside it, of a file or a directory."""

    def read(name: str, file: str) -> list[tuple[Document, str]]:
        place = os.path.normpath(Path(file).parent / name)
        documents, problems = _documents(policy_files([place], files), files)
        if problems:
            raise PolicyError(problems)
        return documents

    return read


def _documents(names: Sequence[str], files: Files) -> tuple[list[tuple[Document, str]], list[Problem]]:
    documents: list[tuple[Document, str]] = []
    problems: list[Problem] = []
    for file in names:
        try:
            data = _read_policy(file, files)
            documents.append((yamlio.parse(data, file), hashlib.sha256(data).hexdigest()))
        except ConfigError as error:
            problems += error.problems
    return documents, problems


def _read_policy(file: str, files: Files) -> bytes:
    """The file's content. Raises ConfigError for one that is too big to be a policy, without reading it."""
    data = files.read(file, yamlio.MAX_BYTES)
    if len(data) > yamlio.MAX_BYTES:
        message = f"a policy file has {yamlio.MAX_BYTES} bytes at most, and this one has more"
        raise ConfigError(Problem(message, Place(file), "split it, and `include` the parts"))
    return data


def open_snapshots(paths: Sequence[str], stack: ExitStack) -> list[tuple[str, BinaryIO]]:
    """The snapshot files, open and seekable; `-` is standard input, spooled to an unnamed file."""
    opened: list[tuple[str, BinaryIO]] = []
    for path in paths:
        if path == "-":
            spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (likewise)
            while chunk := sys.stdin.buffer.read(1 << 20):
                spool.write(chunk)
            spool.seek(0)
            opened.append(("<stdin>", spool))
            continue
        try:
            opened.append((path, stack.enter_context(Path(path).open("rb"))))  # noqa: SIM115  (the stack closes it)
        except OSError as error:
            raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error
    return opened


def contexts_of(sources: Sequence[str]) -> tuple[dict[str, HostContext], tuple[Source, ...]]:
    """What an inventory given now says of hosts; it overrides what was saved with their snapshots."""
    if not sources:
        return {}, ()
    found = inventory.load(sources, home=str(Path.home()))
    return {host.name: host.context for host in found.hosts}, found.sources
