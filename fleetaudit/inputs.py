"""Reading the user's files: policies, snapshots, inventories, with messages that name what is missing."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from fleetaudit import inventory, yamlio
from fleetaudit.errors import ConfigError, PolicyError, Problem
from fleetaudit.model import HostContext, Source
from fleetaudit.policy import waiver_files
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from fleetaudit.policy.waivers import Waiver
from fleetaudit.text import visible


def read_bytes(path: str) -> bytes:
    """The file's content. Raises ConfigError naming the file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(Problem(f"{visible(path)}: {error.strerror or error}")) from error


def policy_files(paths: Sequence[str]) -> tuple[str, ...]:
    """The policy files of `-p` arguments: a directory stands for the *.yaml directly in it, less tests."""
    files: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        if not Path(path).is_dir():
            files.append(path)
            continue
        found = sorted(
            str(item) for item in Path(path).glob("*.yaml") if not item.name.endswith(".test.yaml")
        )
        if not found:
            problems.append(Problem(f"{visible(path)}: no *.yaml policy in this directory"))
        files.extend(found)
    if problems:
        raise PolicyError(problems)
    return tuple(dict.fromkeys(files))


def read_policies(paths: Sequence[str]) -> tuple[Policy, ...]:
    """Every policy named. Raises ConfigError with every problem of every file."""
    problems: list[Problem] = []
    documents = []
    for file in policy_files(paths):
        try:
            data = read_bytes(file)
            documents.append((yamlio.parse(data, file), hashlib.sha256(data).hexdigest()))
        except ConfigError as error:
            problems += error.problems
    try:
        policies = load(documents) if documents or not problems else ()
    except PolicyError as error:
        problems += error.problems
        policies = ()
    if problems:
        raise PolicyError(problems)
    return policies


def read_waivers(
    paths: Sequence[str], policies: Sequence[Policy], now: datetime
) -> tuple[tuple[Waiver, ...], tuple[Source, ...]]:
    """The waivers of these files, and the files by content. Raises ConfigError with every problem of each."""
    problems: list[Problem] = []
    documents, sources = [], []
    for file in dict.fromkeys(paths):
        try:
            data = read_bytes(file)
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
