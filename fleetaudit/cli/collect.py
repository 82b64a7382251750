"""`fleetaudit collect`: snapshots as JSON Lines, to be judged later."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.inventory import list_hosts
from fleetaudit.cli.options import CONNECTION, KEEPING, TARGETS, Connecting, Keeping, Targeting, pick
from fleetaudit.cli.outputs import require_free
from fleetaudit.cli.session import gather, targets
from fleetaudit.cli.state import recording
from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible


@click.command("collect")
@TARGETS
@CONNECTION
@KEEPING
@click.option(
    "--output", required=True, metavar="FILE", help="Where the JSON Lines go; - is standard output."
)
def command(output: str, **options: object) -> int:
    """Ask every host that PATTERN selects who listens there; one line per host, answered or not."""
    targeting, connecting, keeping = (
        pick(Targeting, options),
        pick(Connecting, options),
        pick(Keeping, options),
    )
    if connecting.list_hosts:
        list_hosts(targets(targeting, connecting))
        return ExitCode.COMPLIANT
    if output == "-" and sys.stdout is None:
        raise ConfigError(Problem("standard output is closed", hint="name a file: --output FILE"))
    require_free((output, keeping.retry_file))
    goal = targets(targeting, connecting)
    interrupt = Interrupt()
    quiet = targeting.local or connecting.progress == "json"
    with recording(goal.hosts, keeping, exclusive=not targeting.local, quiet=quiet) as run:
        complete = gather(run, connecting, interrupt)
        with lines_to(output) as put:
            for line in run.journal.lines_in_host_order():
                put(line + b"\n")
        written = run.write_retry_file()
        run.ended_well = complete and written
        answered = len(run.journal.answered)
    say(f"{answered} of {len(goal.hosts)} hosts answered")
    if interrupt.happened:
        return ExitCode.INTERRUPTED
    return ExitCode.COMPLIANT if answered == len(goal.hosts) and written else ExitCode.INCOMPLETE


@contextmanager
def lines_to(output: str) -> Iterator[Callable[[bytes], object]]:
    """Where lines go. A file appears under its name when it is whole; what is interrupted is still kept."""
    if output == "-":
        if sys.stdout is None:
            raise ReportError("standard output is closed")
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    try:
        file = WholeFile(output)
        try:
            yield file.write
            file.finish()
        finally:
            file.discard()
    except OSError as error:
        raise ReportError(f"{visible(output)}: {error.strerror or error}") from error
