"""`fleetaudit listeners`: who listens where, all owners, over the fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.judging import say_left_out
from fleetaudit.cli.options import CONNECTION, TARGETS, WHERE, Connecting, Targeting, pick
from fleetaudit.cli.session import collecting, targets
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, PolicyError, Problem
from fleetaudit.inputs import open_snapshots
from fleetaudit.journal import Journal
from fleetaudit.model import Listener, Outcome, Owner
from fleetaudit.policy.fields import LISTENER_FIELDS
from fleetaudit.policy.matchers import OwnerMatcher, Trust, compile_owner
from fleetaudit.policy.values import Bindings, Kind, Test, ValueMistake, compile_value
from fleetaudit.report.record import listener_record, owner_record
from fleetaudit.report.wording import Holder, account, endpoint, origin, program
from fleetaudit.saved import index
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible
from fleetaudit.where import parse


@click.command("listeners")
@TARGETS
@CONNECTION
@click.option(
    "--from", "snapshots", multiple=True, metavar="SNAPSHOTS", help="Saved snapshots instead of hosts."
)
@click.option("--port", help="Only this port, or a range like 8000-8999.")
@click.option("--owner", help="Only what an executable with this name, path or glob holds.")
@WHERE
@click.option("--all", "everything", is_flag=True, help="Unix, raw and packet sockets too.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    *,
    port: str | None,
    owner: str | None,
    everything: bool,
    style: str,
    snapshots: tuple[str, ...],
    where: tuple[str, ...],
    **options: object,
) -> int:
    """List every listening socket with all its owners. Exit code 3 when a host is missing or partly seen."""
    wanted = _Filter(port, owner, everything=everything)
    chosen = parse(where)
    incomplete = seen = 0
    left_out = []
    for outcome in _outcomes(snapshots, pick(Targeting, options), pick(Connecting, options)):
        if chosen.leaves_out(outcome):
            left_out.append(outcome.host)
            continue
        if outcome.snapshot is None or not outcome.snapshot.coverage.complete:
            incomplete += 1
            say(f"{visible(outcome.host)}: {outcome.status.value}: {visible(outcome.detail)}")
        for listener in outcome.snapshot.listeners if outcome.snapshot else ():
            if wanted.takes(listener):
                click.echo(
                    _json(outcome.host, listener) if style == "json" else _text(outcome.host, listener)
                )
        seen += 1
    say_left_out(left_out)
    return ExitCode.INCOMPLETE if incomplete or not seen else ExitCode.COMPLIANT


class _Filter:
    """`--port` and `--owner` mean what they would mean in a policy."""

    def __init__(self, port: str | None, owner: str | None, *, everything: bool) -> None:
        try:
            self._port: Test | None = compile_value(port, Kind.PORT, (), Bindings({})) if port else None
            glob = owner if owner is None or "/" in owner or owner.startswith("~") else f"*/{owner}"
            self._owner: OwnerMatcher | None = (
                compile_owner({"exe": glob}, (), Bindings({})) if glob else None
            )
        except ValueMistake as mistake:
            raise PolicyError(Problem(mistake.message, hint=mistake.hint)) from None
        self._everything = everything

    def takes(self, listener: Listener) -> bool:
        if not self._everything and listener.protocol in ("unix", "raw", "packet"):
            return False
        if self._port and not self._port.match(LISTENER_FIELDS["port"].read(listener)):
            return False
        return self._owner is None or any(self._owner.match(item, Trust.DENY) for item in listener.owners)


def _outcomes(snapshots: tuple[str, ...], targeting: Targeting, connecting: Connecting) -> Iterator[Outcome]:
    """Derived outcomes in host order: from files, or from the hosts themselves."""
    with ExitStack() as stack:
        if snapshots:
            if targeting.inventory or targeting.local:
                raise ConfigError(Problem("--from reads saved snapshots", hint="leave out -i and --local"))
            yield from map(derive, index(open_snapshots(snapshots, stack)))
            return
        interrupt = Interrupt()
        hosts = targets(targeting, connecting).hosts
        folder = stack.enter_context(TemporaryDirectory(prefix="fleetaudit-"))
        journal = stack.enter_context(closing(Journal.create(Path(folder), "listeners")))
        with collecting(hosts, connecting, interrupt) as collection:
            for item in collection:
                journal.append(item.line, item.outcome.host)
        yield from (derive(decode_line(line)) for line in journal.lines_in_host_order())
        if interrupt.happened:
            raise KeyboardInterrupt


def _text(host: str, listener: Listener) -> str:
    owners = (
        "; ".join(_owner(owner) for owner in listener.owners) or f"no owner seen ({listener.owner_state})"
    )
    return visible(f"{host}  {endpoint(listener)}  {owners}")


def _owner(owner: Owner) -> str:
    process = owner.process
    how = origin(owner)
    came = f", {how}" if how not in ("", "original") else ""
    return f"{program(process)}[{process.pid}]({account(process)}{came})"


def _json(host: str, listener: Listener) -> str:
    row: Mapping[str, object] = {
        "host": host,
        "listener": listener_record(listener),
        "owners": [owner_record(Holder(owner, concerned=True, held_by=False)) for owner in listener.owners],
    }
    return json.dumps(row)
