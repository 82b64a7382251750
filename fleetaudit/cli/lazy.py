"""A group whose commands are modules, imported one at a time: start-up stays short."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands by name: `modules` says which module defines each as `command`, `summaries` what it is for.

    The overview is printed from the summaries alone.
    """

    def __init__(
        self,
        *args: Any,  # click's own
        modules: Mapping[str, str],
        summaries: Mapping[str, str],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.modules, self.summaries = modules, summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a newcomer meets them."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.modules:
            return None
        command = importlib.import_module(self.modules[cmd_name]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.modules[cmd_name]}.command is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click.Group does it, from the summaries."""
        limit = formatter.width - 6 - max(map(len, self.summaries))
        rows = [
            (name, click.Command(name, help=text).get_short_help_str(limit))
            for name, text in self.summaries.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
