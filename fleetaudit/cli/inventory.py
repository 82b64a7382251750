"""`fleetaudit inventory`: what would be audited."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from fleetaudit.cli.options import CONNECTION, TARGETS, Connecting, Targeting, pick
from fleetaudit.cli.session import Targets, targets
from fleetaudit.inventory import ALL
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
    goal = targets(pick(Targeting, options), pick(Connecting, options))
    click.echo(_json(goal) if style == "json" else _text(goal.hosts))


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


def _json(goal: Targets) -> str:
    """The shape of `ansible-inventory --list`, without connection variables and secrets."""
    chosen = {host.name for host in goal.hosts}
    document: dict[str, object] = {}
    for name, branch in goal.branches.items():
        parts = {
            # As with Ansible: those that are in no other group are in `ungrouped`.
            "hosts": [host for host in branch.hosts if host in chosen and name != ALL],
            "children": list(branch.children),
        }
        document[name] = {key: value for key, value in parts.items() if value}
    variables = {host.name: host.context.variables for host in goal.hosts}
    document["_meta"] = {"hostvars": variables}
    return json.dumps(document, indent=2, sort_keys=True, default=_plain)


def _plain(value: object) -> object:
    """Frozen values of the model, which json does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def list_hosts(goal: Targets) -> None:
    """`--list-hosts` of the other commands: the names, and nothing is asked."""
    click.echo(f"  hosts ({len(goal.hosts)}):")
    for host in goal.hosts:
        click.echo(f"    {visible(host.name)}")
