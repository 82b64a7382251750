"""The overview of commands, which is printed without importing them."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from fleetaudit.cli import COMMANDS, cli, policy
from fleetaudit.cli.lazy import LazyGroup


@pytest.mark.parametrize("group", [cli, policy.command], ids=["fleetaudit", "policy"])
def test_the_overview_says_what_the_commands_say_of_themselves(group: click.Command) -> None:
    assert isinstance(group, LazyGroup)
    context = click.Context(group)
    assert list(group.summaries) == list(group.modules)
    for name, summary in group.summaries.items():
        command = group.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(limit=500) == summary


def test_help_imports_no_command() -> None:
    code = "import sys; from fleetaudit.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *overview, modules = done.stdout.splitlines()
    assert [line.split()[0] for line in overview[overview.index("Commands:") + 1 :]] == list(COMMANDS)
    assert not {"fleetaudit.cli.audit", "fleetaudit.collection", "paramiko", "yaml"} & set(modules.split())
