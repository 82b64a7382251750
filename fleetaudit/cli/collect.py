"""`fleetaudit collect`: snapshots as JSON Lines, to be judged later."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.inventory import list_hosts
from fleetaudit.cli.options import CONNECTION, TARGETS, Connecting, Targeting, pick
from fleetaudit.cli.outputs import require_writable, say
from fleetaudit.cli.session import collecting, targets
from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.errors import ReportError
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible


@click.command("collect")
@TARGETS
@CONNECTION
@click.option(
    "--output", required=True, metavar="FILE", help="Where the JSON Lines go; - is standard output."
)
def command(output: str, **options: object) -> int:
    """Ask every host that PATTERN selects who listens there; one line per host, answered or not."""
    targeting, connecting = pick(Targeting, options), pick(Connecting, options)
    if connecting.list_hosts:
        list_hosts(targets(targeting, connecting))
        return ExitCode.COMPLIANT
    if output != "-":
        require_writable(Path(output))
    goal = targets(targeting, connecting)
    interrupt = Interrupt()
    failed = 0
    with lines_to(output) as put, collecting(goal.hosts, connecting, interrupt) as collection:
        for collected in collection:
            put(collected.line + b"\n")
            failed += collected.outcome.snapshot is None
    say(f"{len(goal.hosts) - failed} of {len(goal.hosts)} hosts answered")
    if interrupt.happened:
        return ExitCode.INTERRUPTED
    return ExitCode.INCOMPLETE if failed else ExitCode.COMPLIANT


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
