"""`fleetaudit policy test`: the unit tests of policies."""

from __future__ import annotations

from pathlib import Path

import click

from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.errors import PolicyError, Problem
from fleetaudit.inputs import read_bytes, read_policies
from fleetaudit.model import Outcome
from fleetaudit.policy.testing import TestCase, run
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible


@click.command("test")
@click.argument("paths", nargs=-1, required=True, metavar="TESTS…")
def command(paths: tuple[str, ...]) -> int:
    """Run policy unit tests: *.test.yaml files, or directories that hold some."""
    cases = [case for path in _test_files(paths) for case in _run(path)]
    failed = [case for case in cases if not case.passed]
    for case in failed:
        reason = visible(case.reason) or "no reason given"
        click.echo(
            f"{case.place}: {visible(case.name)}: {case.rule} is {case.found}, not {case.expected}: {reason}"
        )
    click.echo(f"{len(cases) - len(failed)} passed, {len(failed)} failed")
    return ExitCode.VIOLATIONS if failed else ExitCode.COMPLIANT


def _test_files(paths: tuple[str, ...]) -> list[str]:
    files: list[str] = []
    for path in paths:
        found = sorted(map(str, Path(path).glob("*.test.yaml"))) if Path(path).is_dir() else [path]
        if not found:
            raise PolicyError(Problem(f"{visible(path)}: no *.test.yaml in this directory"))
        files += found
    return files


def _run(path: str) -> tuple[TestCase, ...]:
    document = yamlio.parse(read_bytes(path), path)
    name = document.value.get("policy") if isinstance(document.value, dict) else None
    if not isinstance(name, str):
        raise PolicyError(Problem("the test names no policy", document.place(()), "write policy: FILE.yaml"))
    (policy,) = read_policies([str(Path(path).parent / name)])
    return run(document, policy, _read)


def _read(line: bytes) -> Outcome:
    return derive(decode_line(line))
