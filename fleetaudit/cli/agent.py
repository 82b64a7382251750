"""`fleetaudit agent`: the script that hosts are asked to run, and the file that they may have instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.model import PINNED_AGENT
from fleetaudit.text import plain_path, visible

_MAX_KEY = 65536  # bytes of a public key's file


@click.group("agent", invoke_without_command=True)
@click.option("--sh", is_flag=True, help="The one for hosts without Python, for POSIX sh; it sees less.")
@click.option("--bpf", is_flag=True, help="The one of --agent-mode bpf.")
@click.pass_context
def command(context: click.Context, *, sh: bool, bpf: bool) -> None:
    """Print the agent: read it, or run it by hand with `fleetaudit agent | python3 -I -S -`.

    It writes nothing on the host and prints one framed JSON document.
    """
    if context.invoked_subcommand is None:
        from fleetaudit.agent.payload import script, sh_script  # noqa: PLC0415  (start-up time)

        if sh and bpf:
            raise click.UsageError("--sh and --bpf are two agents: print one at a time")
        click.echo(sh_script() if sh else script("bpf" if bpf else "walk"), nl=False)


@command.command("install")
@click.option(
    "--output",
    metavar="FILE|-",
    default=PINNED_AGENT,
    show_default=True,
    help="Where it is to be; - prints it.",
)
@click.option(
    "--interpreter", metavar="PATH", default="/usr/bin/python3", show_default=True, help="For its first line."
)
@click.option(
    "--print-sudoers", "user", metavar="USER", help="Print the sudoers rule with its digest; install nothing."
)
@click.option(
    "--print-authorized-keys",
    "key",
    metavar="KEYFILE",
    help="Print the authorized_keys line of this public key; install nothing.",
)
def install_command(output: str, interpreter: str, user: str | None, key: str | None) -> None:
    """Write the agent as an executable for pinned mode on this machine, and print its sha256.

    Hosts where no code may be sent to root run this file and nothing else (docs/least-privilege.md). With
    both --print options the key's line runs it by sudo.
    """
    from fleetaudit.agent.installing import install  # noqa: PLC0415  (start-up time)
    from fleetaudit.agent.pinned import executable, executable_sha256  # noqa: PLC0415  (start-up time)

    try:
        content, digest = executable(interpreter), executable_sha256(interpreter)
        path = PINNED_AGENT if output == "-" else plain_path(output)
        if user is not None or key is not None:
            click.echo("\n".join(_rules(path, digest, user, key)))
            return
    except ValueError as error:
        raise ConfigError(Problem(str(error), hint="see fleetaudit agent install --help")) from error
    if output == "-":
        click.echo(content, nl=False)
        return
    try:
        install(content, path)
    except OSError as error:
        what = error.strerror or str(error)
        raise ConfigError(Problem(what, Place(path), "root installs it; --output - prints it")) from error
    click.echo(f"{digest}  {path}")  # as sha256sum has it, and takes it with -c


def _rules(path: str, digest: str, user: str | None, key: str | None) -> Iterator[str]:
    from fleetaudit.agent.pinned import authorized_keys_line, sudoers_line  # noqa: PLC0415  (start-up time)

    if user is not None:
        yield sudoers_line(user, path, digest)
    if key is not None:
        yield authorized_keys_line(_public_key(key), path, sudo=user is not None)


def _public_key(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_MAX_KEY).decode("utf-8", "replace")
    except OSError as error:
        what = error.strerror or str(error)
        raise ConfigError(Problem(what, Place(visible(file)), "name a .pub file")) from error
