"""`fleetaudit inventory`: what would be audited."""

from __future__ import annotations

import json

import click

from fleetaudit.cli.options import CONNECTION, TARGETS, Connecting, Targeting, pick
from fleetaudit.cli.session import Targets, targets
from fleetaudit.model import Host
from fleetaudit.text import visible


@click.group("inventory")
def command() -> None:
    """Look at the inventory as fleetaudit reads it."""


@command.command("list")
@TARGETS
@CONNECTION
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_command(style: str, **options: object) -> None:
    """List the hosts that PATTERN selects, with their groups and how they are reached."""
    hosts = targets(pick(Targeting, options), pick(Connecting, options)).hosts
    click.echo(_json(hosts) if style == "json" else _text(hosts))


def _text(hosts: tuple[Host, ...]) -> str:
    width = max(len(visible(host.name)) for host in hosts)
    return "\n".join(f"{visible(host.name):<{width}}  {_reached(host)}  {_groups(host)}" for host in hosts)


def _reached(host: Host) -> str:
    if host.transport == "local":
        return "local"
    user = f"{host.user}@" if host.user else ""
    address = f"[{host.address}]" if ":" in host.address else host.address
    become = f" become {host.become.user} by {host.become.method}" if host.become else ""
    return visible(f"ssh {user}{address}:{host.port}{become}")


def _groups(host: Host) -> str:
    return visible(",".join(host.context.groups))


def _json(hosts: tuple[Host, ...]) -> str:
    """The shape of `ansible-inventory --list`, without connection variables and secrets."""
    groups: dict[str, list[str]] = {}
    for host in hosts:
        for group in host.context.groups:
            groups.setdefault(group, []).append(host.name)
    variables = {host.name: dict(host.context.variables) for host in hosts}
    document: dict[str, object] = {name: {"hosts": sorted(names)} for name, names in sorted(groups.items())}
    document["all"] = {"children": sorted(groups)}
    document["_meta"] = {"hostvars": variables}
    return json.dumps(document, indent=2, sort_keys=True, default=list)


def list_hosts(goal: Targets) -> None:
    """`--list-hosts` of the other commands: the names, and nothing is asked."""
    click.echo(f"  hosts ({len(goal.hosts)}):")
    for host in goal.hosts:
        click.echo(f"    {visible(host.name)}")
