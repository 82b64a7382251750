"""`fleetaudit policy`: author policies. One file a command, `policy_NAME.py`, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from fleetaudit.cli.lazy import LazyGroup

# name -> (module that defines the click command of that name, what the overview says of it)
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "lint": (
            "policy_lint",
            "Check policy files and directories: every problem at once, with place and remedy.",
        ),
        "show": (
            "policy_show",
            "Print a policy with all that it extends and includes, and where each rule is from.",
        ),
        "test": ("policy_test", "Run policy unit tests: *.test.yaml files, or directories that hold some."),
        "explain": (
            "policy_explain",
            "Explain a RULE on a HOST: each listener and owner, what matched or how nearly, what to do.",
        ),
        "learn": (
            "policy_learn",
            "Write a baseline policy from recorded hosts: what listens there, nothing else.",
        ),
        "replay": (
            "policy_replay",
            "Say which host x rule verdicts flip when policies change, on hosts recorded before.",
        ),
    }
)


@click.group(
    "policy",
    cls=LazyGroup,
    modules={name: f"fleetaudit.cli.{module}" for name, (module, _) in _COMMANDS.items()},
    summaries={name: summary for name, (_, summary) in _COMMANDS.items()},
)
def command() -> None:
    """Author policies: check them, test them, explain what they say."""
