"""`fleetaudit inventory`: what would be audited."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

import click

from fleetaudit.cli import scan_keys
from fleetaudit.cli.options import CONNECTION, TARGETS, Connecting, Targeting, pick
from fleetaudit.cli.session import Targets, targets
from fleetaudit.inventory import ALL, Variable, secret_name
from fleetaudit.model import Host
from fleetaudit.text import visible

_INDENT: Final = "  |"


@click.group("inventory")
def command() -> None:
    """Look at the inventory as fleetaudit reads it."""


command.add_command(scan_keys.command)


@command.command("list")
@TARGETS
@CONNECTION
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--vars", "with_variables", is_flag=True, help="Every variable too, and where it was set.")
def list_command(style: str, with_variables: bool, **options: object) -> None:
    """List the hosts that PATTERN selects, with their groups and how they are reached."""
    goal = targets(pick(Targeting, options), pick(Connecting, options))
    click.echo(_json(goal, with_variables) if style == "json" else _text(goal, with_variables))


@command.command("graph")
@TARGETS
@CONNECTION
@click.option("--vars", "with_variables", is_flag=True, help="Every variable too, and where it was set.")
def graph_command(with_variables: bool, **options: object) -> None:
    """Draw the groups, each below its parents, with the hosts that PATTERN selects."""
    goal = targets(pick(Targeting, options), pick(Connecting, options))
    chosen = {host.name for host in goal.hosts}
    click.echo("\n".join(_graph(goal, ALL, 0, chosen, with_variables)))


def _graph(goal: Targets, group: str, depth: int, chosen: set[str], with_variables: bool) -> Iterator[str]:
    """As `ansible-inventory --graph` draws it; a host stands in each group that names it."""
    yield f"{_INDENT * (depth - 1)}{'  |--' if depth else ''}@{visible(group)}:"
    branch = goal.branches.get(group)
    if branch is None:
        return
    for child in sorted(branch.children):
        yield from _graph(goal, child, depth + 1, chosen, with_variables)
    for host in sorted(branch.hosts) if group != ALL else ():
        if host in chosen:
            yield f"{_INDENT * depth}  |--{visible(host)}"
            if with_variables:
                for line in _variables(goal, host):
                    yield f"{_INDENT * (depth + 1)}  |--{{{line}}}"


def _text(goal: Targets, with_variables: bool) -> str:
    width = max(len(visible(host.name)) for host in goal.hosts)
    lines = []
    for host in goal.hosts:
        lines.append(f"{visible(host.name):<{width}}  {_reached(host)}  {_groups(host)}")
        if with_variables:
            lines += [f"    {line}" for line in _variables(goal, host.name)]
    return "\n".join(lines)


def _variables(goal: Targets, host: str) -> Iterator[str]:
    said = goal.variables.get(host, {})
    return (_variable(name, said[name]) for name in sorted(said))


def _variable(name: str, variable: Variable) -> str:
    """The variable and its origin; a value that could be a secret is not shown."""
    value = json.dumps(_without_secrets(name, variable.value), default=_plain, ensure_ascii=False)
    return visible(f"{name} = {value}  ({variable.place})")


def _without_secrets(name: str, value: object) -> object:
    if secret_name(name):
        return "***"
    if isinstance(value, Mapping):
        return {key: _without_secrets(key, inner) for key, inner in value.items()}
    return [_without_secrets("", inner) for inner in value] if isinstance(value, list) else value


def _reached(host: Host) -> str:
    if host.transport == "local":
        return "local"
    user = f"{host.user}@" if host.user else ""
    address = f"[{host.address}]" if ":" in host.address else host.address
    become = f" become {host.become.user} by {host.become.method}" if host.become else ""
    return visible(f"ssh {user}{address}:{host.port or 22}{become}")


def _groups(host: Host) -> str:
    return visible(",".join(host.context.groups))


def _json(goal: Targets, with_variables: bool) -> str:
    """The shape of `ansible-inventory --list`, with the variables that policies see or, if asked for, all.

    What could be a secret is not shown.
    """
    chosen = {host.name for host in goal.hosts}
    document: dict[str, object] = {}
    for name, branch in goal.branches.items():
        parts = {
            # As with Ansible: those that are in no other group are in `ungrouped`.
            "hosts": sorted(host for host in branch.hosts if host in chosen and name != ALL),
            "children": sorted(branch.children),
        }
        document[name] = {key: value for key, value in parts.items() if value}
    variables: dict[str, Mapping[str, object]] = {}
    for host in goal.hosts:
        said = goal.variables.get(host.name, {})
        every = {name: _without_secrets(name, variable.value) for name, variable in said.items()}
        variables[host.name] = every if with_variables else host.context.variables
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
