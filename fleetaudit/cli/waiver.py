"""`fleetaudit waiver`: accept a violation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import click

from fleetaudit import schema, yamlio
from fleetaudit.cli.console import say
from fleetaudit.cli.wholefile import write_whole
from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.inputs import read_bytes
from fleetaudit.judgement import utc_now
from fleetaudit.policy import waiver_files
from fleetaudit.policy.waiver_writing import entry
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_Json: TypeAlias = dict[str, Any]
_WRITE = "write one with -o json=PATH"
_HEAD = """\
# Accepted violations. `fleetaudit schema waivers` prints the schema of this file.
version: 1
waivers:
"""


@click.group("waiver")
def command() -> None:
    """Accept violations, for a reason and for a time."""


@command.command("add")
@click.argument("file")
@click.option("--from", "report", required=True, metavar="REPORT.json", help="The report with the finding.")
@click.option("--host", required=True, help="Its host.")
@click.option("--rule", required=True, help="Its rule, or POLICY/RULE.")
@click.option("--fingerprint", help="Which finding, where the rule has several on that host.")
@click.option("--reason", required=True, help="Why it is accepted.")
@click.option("--expires", required=True, metavar="DATE", help="Its last day: 2027-03-31.")
@click.option("--approved-by", help="Who accepted it.")
@click.option("--ticket", help="Where it was decided.")
def add_command(
    *, file: str, report: str, host: str, rule: str, fingerprint: str | None, **facts: str | None
) -> int:
    """Add to FILE a waiver for one finding, as narrow as the finding is; look at it before you use it."""
    result, finding = _find(report, host, rule, fingerprint)
    told = {name: value or "" for name, value in facts.items()}
    written = entry(result, finding, told)
    path = Path(file)
    before = read_bytes(file).decode("utf-8") if path.exists() else _HEAD
    after = f"{before}{'' if before.endswith(chr(10)) else chr(10)}{written}"
    _check(before if path.exists() else "", after, file, written)
    write_whole(file, after.encode())
    say(f"{visible(file)}: added")
    click.echo(written, nl=False)
    return ExitCode.COMPLIANT


def _find(report: str, host: str, rule: str, fingerprint: str | None) -> tuple[_Json, _Json]:
    policy, _, name = rule.rpartition("/")
    found = [
        (result, finding)
        for result in _results(report)
        if result["host"] == host and result["rule"] == name and policy in ("", result["policy"])
        for finding in result["findings"]
        if finding["verdict"] == "fail" and fingerprint in (None, finding["fingerprint"])
    ]
    if not found:
        message = f"no failed finding of rule '{visible(rule)}' on host '{visible(host)}'"
        hint = "see `results` there; what is unknown cannot be waived"
        raise ConfigError(Problem(message, Place(report), hint))
    if len(found) > 1:
        listed = "; ".join(f"{item['fingerprint']} ({visible(item['reason'])})" for _, item in found[:10])
        message = f"{len(found)} findings of it: {listed}"
        raise ConfigError(Problem(message, Place(report), "name one with --fingerprint"))
    return found[0]


def _results(report: str) -> list[_Json]:
    """The results of a report, if that is what the file is."""
    document = yamlio.Document(report, _parsed(report))
    problems = schema.problems(document, "report")
    if problems:
        raise ConfigError([*problems[:1], Problem("this is no report in JSON", Place(report), _WRITE)])
    found: list[_Json] = document.value["results"]  # type: ignore[index]  # the schema says so
    return found


def _parsed(report: str) -> object:
    try:
        return json.loads(read_bytes(report))
    except (ValueError, RecursionError) as error:
        message = f"this is no JSON: {visible(str(error))[:200]}"
        raise ConfigError(Problem(message, Place(report), _WRITE)) from None


def _check(before: str, after: str, file: str, written: str) -> None:
    """That the file says one waiver more, and nothing else than it said."""
    try:
        document = yamlio.parse(after.encode(), file)
        waivers = waiver_files.load([document], [], utc_now())
        old = waiver_files.load([yamlio.parse(before.encode(), file)], [], utc_now()) if before else ()
    except ConfigError as error:
        hint = "mend the file, or add the entry by hand"
        raise ConfigError(
            [*error.problems, Problem(f"nothing was added:\n{written}", Place(file), hint)]
        ) from None
    if len(waivers) != len(old) + 1 or [str(item) for item in waivers[:-1]] != [str(item) for item in old]:
        message = f"the list of waivers does not end the file, nothing was added:\n{written}"
        raise ConfigError(Problem(message, Place(file), "add the entry by hand"))
