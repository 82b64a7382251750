"""`fleetaudit report`: the reports of a run of the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import click
from sqlalchemy import Connection

from fleetaudit.cli.console import say
from fleetaudit.cli.outputs import parse_outputs, streams, write
from fleetaudit.cli.retrospect import asked_for, past
from fleetaudit.cli.storing import usual_place
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.history.reading import StoredRun, find_run
from fleetaudit.history.rebuilding import Rebuilt, as_before, outcomes, rebuilt
from fleetaudit.history.store import open_store
from fleetaudit.model import Report
from fleetaudit.rejudging import report_again
from fleetaudit.report.record import summary_record
from fleetaudit.summary import ExitCode


@click.command("report")
@click.argument("run")
@click.option("-o", "--output", "outputs", multiple=True, metavar="FORMAT=PATH", help="Report; - is stdout.")
@click.option("--include-pass", is_flag=True, help="Passing results too, in formats that leave them out.")
@click.option("-q", "--quiet", is_flag=True, help="No text report on standard output.")
@click.option("--store", default="", metavar="PATH|URL", help="The history (default: the usual file).")
@click.option("--state", metavar="DIRECTORY", help="Where the usual file is.")
def command(
    *, run: str, outputs: tuple[str, ...], include_pass: bool, quiet: bool, store: str, state: str | None
) -> int:
    """Write the reports of a run that was kept with --store, byte for byte as they were.

    RUN is a run's id, the beginning of one, `latest` or `latest~1`. The run is judged again by the policies,
    waivers and baseline of then, at the time of then; nothing is written unless that gives what it gave then.
    Exit code 0 when everything was written, whatever was found in the run.
    """
    wanted = parse_outputs(outputs, quiet=quiet)
    if not wanted:
        raise ConfigError(Problem("report: write what?", hint="add -o FORMAT=PATH, or leave out -q"))
    with open_store(usual_place(store, state), create=False) as history, history.reading() as connection:
        stored = find_run(connection, run)
        found = rebuilt(connection, stored)
        checked = reported(connection, stored, found)
        if any(map(streams, wanted)):
            for _ in checked().audits:
                pass  # what is on standard output cannot be taken back
        before = past(connection, stored) if asked_for(wanted) else None
        failures = write(checked(), wanted, include_pass=include_pass, past=before).failures
    for failure in failures:
        say(f"error: {failure}")
    return ExitCode.INCOMPLETE if failures else ExitCode.COMPLIANT


def reported(connection: Connection, stored: StoredRun, found: Rebuilt) -> Callable[[], Report]:
    """Makes the report of the run, each time anew; on the way StoreError for what is not as it was then."""
    make = report_again(stored.record, found.inputs, lambda: outcomes(connection, stored, found))

    def checked() -> Report:
        whole = make()
        audits = as_before(whole, stored, found.digests, lambda: summary_record(whole.summary()))
        return replace(whole, audits=audits)

    return checked
