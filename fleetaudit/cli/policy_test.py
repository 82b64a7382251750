"""`fleetaudit policy test`: the unit tests of policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import click

from fleetaudit import yamlio
from fleetaudit.cli.console import say
from fleetaudit.cli.options import Finite
from fleetaudit.cli.wholefile import write_whole
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, PolicyError, Problem
from fleetaudit.inputs import policy_files, read_bytes, read_policies
from fleetaudit.model import Outcome
from fleetaudit.policy.testing import Coverage, TestCase, run
from fleetaudit.report.wording import endpoint
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_TESTS = ".test.yaml"


@click.command("test")
@click.argument("paths", nargs=-1, required=True, metavar="TESTS…")
@click.option("--coverage", "shown", is_flag=True, help="Say what no test shows of rules and owner lists.")
@click.option(
    "--require-coverage", type=Finite(0, 100), metavar="PCT", help="Exit code 1 when the tests show less."
)
@click.option("--junit", metavar="PATH", help="Write the results as JUnit XML too.")
def command(paths: tuple[str, ...], shown: bool, require_coverage: float | None, junit: str | None) -> int:
    """Run policy unit tests: *.test.yaml files, or directories that hold some."""
    coverages: dict[str, Coverage] = {}
    tested = _run_all(_test_files(paths), coverages)
    cases = [case for found in tested.values() for case in found]
    failed = [case for case in cases if not case.passed]
    for case in failed:
        click.echo(_failure(case))
    click.echo(f"{len(cases) - len(failed)} passed, {len(failed)} failed")
    enough = True
    if shown or require_coverage is not None:
        _add_untested(paths, coverages)
        reached = _tell_coverage(list(coverages.values()), shown=shown)
        if require_coverage is not None and reached < require_coverage:
            say(f"error: coverage is {reached:.1f} %, wanted is {require_coverage:g} %")
            enough = False
    if junit is not None:
        write_whole(junit, _junit(tested))
    return ExitCode.VIOLATIONS if failed or not enough else ExitCode.COMPLIANT


# ---------------------------------------------------------------- running


def _test_files(paths: Sequence[str]) -> list[str]:
    files: list[str] = []
    for path in paths:
        found = sorted(map(str, Path(path).glob(f"*{_TESTS}"))) if Path(path).is_dir() else [path]
        if not found:
            raise PolicyError(Problem(f"{visible(path)}: no *{_TESTS} in this directory"))
        files += found
    return list(dict.fromkeys(files))


def _run_all(files: Sequence[str], coverages: dict[str, Coverage]) -> dict[str, tuple[TestCase, ...]]:
    """The cases of each file. Raises PolicyError with every mistake of every file."""
    problems: list[Problem] = []
    tested: dict[str, tuple[TestCase, ...]] = {}
    for file in files:
        try:
            tested[file] = _run(file, coverages)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise PolicyError(dict.fromkeys(problems))
    return tested


def _run(path: str, coverages: dict[str, Coverage]) -> tuple[TestCase, ...]:
    document = yamlio.parse(read_bytes(path), path)
    name = document.value.get("policy") if isinstance(document.value, dict) else None
    if not isinstance(name, str):
        raise PolicyError(Problem("the test names no policy", document.place(()), "write policy: FILE.yaml"))
    beside = Path(path).parent
    (policy,) = read_policies([str(beside / name)])
    coverage = coverages.setdefault(str((beside / name).resolve()), Coverage(policy))
    return run(
        document,
        policy,
        _read,
        lines=lambda file: [line for line in read_bytes(str(beside / file)).splitlines() if line.strip()],
        coverage=coverage,
    )


def _read(line: bytes) -> Outcome:
    return derive(decode_line(line))


# ---------------------------------------------------------------- telling


def _failure(case: TestCase) -> str:
    """What was expected, and everything that the rule said instead."""
    head = f"{case.place}: {case.name}: {case.rule} is {case.found}, not {case.expected}"
    if case.found == case.expected:
        head = f"{case.place}: {case.name}: {case.rule} is {case.found}, but not for '{case.wanted_reason}'"
    said = [f"    {_finding_words(case, place)}" for place in range(len(case.findings))]
    if not said:
        judged = f"{case.checked} listeners judged, nothing to say against them"
        said = [f"    {case.reason or judged}"]
    return "\n".join(visible(line) for line in [head, *said])


def _finding_words(case: TestCase, place: int) -> str:
    finding = case.findings[place]
    where = f"{endpoint(finding.listener)}: " if finding.listener else ""
    return f"{finding.verdict.value}: {where}{finding.reason}"


def _add_untested(paths: Sequence[str], coverages: dict[str, Coverage]) -> None:
    """The policies of a directory that no test is about: nothing is shown of them."""
    folders = [path for path in paths if Path(path).is_dir()]
    files = [str(file) for folder in folders for file in _policies_of(folder)]
    for file in files:
        resolved = str(Path(file).resolve())
        if resolved not in coverages:
            (policy,) = read_policies([file])
            coverages[resolved] = Coverage(policy)


def _policies_of(folder: str) -> Sequence[str]:
    try:
        return policy_files([folder])
    except PolicyError:
        return ()  # tests alone: their policies are elsewhere


def _tell_coverage(coverages: Sequence[Coverage], *, shown: bool) -> float:
    """Print what is not covered, and how much is, which is returned in percent."""
    points = [point for coverage in coverages for point in coverage.points()]
    for point in points:
        if shown and not point.covered:
            click.echo(visible(f"{point.place}: {point.text}"))
    covered = sum(point.covered for point in points)
    reached = 100.0 * covered / len(points) if points else 100.0
    click.echo(f"coverage: {covered} of {len(points)} ({reached:.1f} %)")
    return reached


def _junit(tested: dict[str, tuple[TestCase, ...]]) -> bytes:
    """The results in the form that Jenkins and GitLab read: a suite per file, a case per expectation."""
    suites = ElementTree.Element("testsuites", name="fleetaudit policy test")
    for file, cases in tested.items():
        suite = ElementTree.SubElement(suites, "testsuite", name=visible(file), tests=str(len(cases)))
        suite.set("failures", str(sum(not case.passed for case in cases)))
        suite.set("errors", "0")
        for case in cases:
            name = visible(f"{case.name}: {case.rule}")
            item = ElementTree.SubElement(suite, "testcase", classname=visible(file), name=name)
            if not case.passed:
                message = visible(f"{case.rule} is {case.found}, not {case.expected}")
                ElementTree.SubElement(item, "failure", message=message).text = _failure(case)
    ElementTree.indent(suites)
    document: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
