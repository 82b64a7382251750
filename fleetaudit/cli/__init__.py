"""The command line: parse, build frozen options, run. The only place that prints and exits."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from fleetaudit import __version__
from fleetaudit.cli.console import say
from fleetaudit.cli.lazy import LazyGroup
from fleetaudit.errors import ConfigError, FleetauditError
from fleetaudit.summary import ExitCode

# name -> module that defines the click command of that name; imported when it is asked for.
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "audit": "fleetaudit.cli.audit",
        "collect": "fleetaudit.cli.collect",
        "evaluate": "fleetaudit.cli.evaluate",
        "listeners": "fleetaudit.cli.listeners",
        "history": "fleetaudit.cli.history",
        "report": "fleetaudit.cli.report",
        "verify": "fleetaudit.cli.verify",
        "policy": "fleetaudit.cli.policy",
        "waiver": "fleetaudit.cli.waiver",
        "inventory": "fleetaudit.cli.inventory",
        "schema": "fleetaudit.cli.schema",
        "agent": "fleetaudit.cli.agent",
        "schedule": "fleetaudit.cli.schedule",
        "demo": "fleetaudit.cli.demo",
    }
)


# What the overview says of each, so that it need not import them all; a test holds it to their own words.
SUMMARIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "audit": "Ask every host that PATTERN selects who listens there, judge the policies, "
        "write the reports.",
        "collect": "Ask every host that PATTERN selects who listens there; one line per host, "
        "answered or not.",
        "evaluate": "Judge policies over saved snapshots: the same report and exit codes as the "
        "audit that took them.",
        "listeners": "List every listening socket with all its owners.",
        "history": "Ask past runs, kept with --store: what changed, since when, who listened then.",
        "report": "Write the reports of a run that was kept with --store, byte for byte as they were.",
        "verify": "Say what is intact, changed or missing of what a run's manifest names.",
        "policy": "Author policies: check them, test them, explain what they say.",
        "waiver": "Accept violations, for a reason and for a time.",
        "inventory": "Look at the inventory as fleetaudit reads it.",
        "schema": "Print the JSON Schema NAME; without NAME, list them.",
        "agent": "Print the agent: read it, or run it by hand with `fleetaudit agent | python3 -I -S -`.",
        "schedule": "Print what makes systemd, cron or Kubernetes run `fleetaudit audit` again and again.",
        "demo": "Start six hosts on this machine's loopback with things planted on them, audit "
        "them, show what to try.",
    }
)


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    summaries=SUMMARIES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fleetaudit")
def cli() -> None:
    """Every owner of every listening socket, judged by policy, for a whole fleet.

    \b
    Exit codes: 0 compliant, 1 violations, 2 usage, inventory or policy wrong (nothing run),
    3 incomplete (a host failed, a verdict unknown or error), 4 internal error, 130 interrupted.
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every error is mapped here and nowhere else."""
    code = _run(args)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _lost_output(error)
    return code


def _lost_output(error: OSError) -> int:
    """Standard output is full or gone; Python would complain once more when it flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not isinstance(error, BrokenPipeError):
        say(f"error: cannot write: {error}")
    return ExitCode.INCOMPLETE


def _run(args: Sequence[str] | None) -> int:
    try:
        result = cli.main(args=None if args is None else list(args), standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.COMPLIANT
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except ConfigError as error:
        for problem in error.problems:
            say(f"error: {problem}")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SystemExit:  # click's answer to a closed pipe, with the code that means violations here
        return _lost_output(BrokenPipeError())
    except OSError as error:  # files are the commands' own business: what is left is standard output
        return _lost_output(error)
    except FleetauditError as error:
        say(f"error: {error}")
        return ExitCode.INCOMPLETE
    except Exception:  # the last border: a bug is exit code 4 with its traceback, never a verdict
        say(f"internal error in fleetaudit {__version__}; please report this:")
        say(traceback.format_exc())
        return ExitCode.INTERNAL
