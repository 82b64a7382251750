"""`fleetaudit schedule`: the files that make an audit run again and again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fleetaudit.cli import audit
from fleetaudit.cli.wholefile import WholeFile
from fleetaudit.errors import ConfigError, Problem, ReportError
from fleetaudit.schedule import K8S_DIRECTORY, SCHEDULERS, Job, ScheduleFile
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")
# What needs a terminal, asks nothing, or makes sense once; with what to do instead.
_NOT_SCHEDULED = {
    "ask_pass": ("-k", "use a key"),
    "ask_become_pass": ("-K", "let the account become without a password, for the agent alone"),
    "list_hosts": ("--list-hosts", "leave it out"),
    "resume": ("--resume", "leave it out: every run is a new one"),
}


@click.command("schedule", context_settings={"ignore_unknown_options": False})
@click.argument("scheduler", type=click.Choice([*SCHEDULERS]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-- [AUDIT OPTIONS]...")
@click.option("--name", default="fleetaudit", show_default=True, help="Of the unit, or the file of cron.")
@click.option("--user", help="Who runs it (systemd: fleetaudit; cron: a line for your own crontab).")
@click.option("--when", metavar="TIME", help="OnCalendar of systemd, or five fields (default: daily).")
@click.option("--image", metavar="IMAGE:TAG", help="The container to run it in (k8s).")
@click.option("--output", metavar="DIRECTORY", help="Write the files there instead of printing them.")
def command(scheduler: str, arguments: tuple[str, ...], output: str | None, **options: str | None) -> int:
    """Print what makes systemd, cron or Kubernetes run `fleetaudit audit` again and again.

    The options behind -- are those of `audit`, and checked as it would. With k8s all paths are those inside
    the container.
    """
    job = _job(scheduler, arguments, options)
    files = SCHEDULERS[scheduler].files(job)
    if output is not None:
        _write(files, Path(output))
    else:
        click.echo("\n".join(f"# {file.path}\n{file.text}" for file in files), nl=False)
    return ExitCode.COMPLIANT


def _job(scheduler: str, arguments: tuple[str, ...], options: Mapping[str, str | None]) -> Job:
    """The audit to schedule. Raises ConfigError, and click's errors as `audit` would."""
    name, user, when = options["name"] or "", options["user"], options["when"]
    if not _NAME.match(name):
        hint = "write a-z, 0-9, - and _, a letter first"
        raise ConfigError(Problem(f"--name {visible(name)} is no name for a unit", hint=hint))
    if user is not None and not _USER.match(user):
        raise ConfigError(Problem(f"--user {visible(user)} is no name of a user"))
    if scheduler == "systemd" and when is not None:
        _check_calendar(when)
    in_container = scheduler == "k8s"
    if options["image"] is not None and not in_container:
        raise ConfigError(Problem(f"--image means nothing to {scheduler}", hint="leave it out"))
    asked = _asked(scheduler, arguments)
    here = Path(K8S_DIRECTORY) if in_container else Path.cwd()
    state = asked["state"]
    return Job(
        name=name,
        command=(*(["fleetaudit"] if in_container else _program()), "audit", *arguments),
        directory=_checked(str(here)),
        user=user,
        when=when,
        state=_checked(str(here / state)) if state else None,
        writes=tuple(sorted({_checked(str((here / path).parent)) for path in _written(asked)})),
        image=options["image"],
    )


def _asked(scheduler: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What `audit` makes of the arguments, if it can be scheduled."""
    for word in arguments:
        if not word.isprintable():
            raise ConfigError(
                Problem(f"{visible(word)!r} has a control character, which no schedule can hold")
            )
    with audit.command.make_context("audit", list(arguments)) as context:
        options = dict(context.params)
    for key, (option, instead) in _NOT_SCHEDULED.items():
        if options[key]:
            raise ConfigError(Problem(f"{option} cannot be scheduled", hint=instead))
    if options["local"] and scheduler != "cron":
        raise ConfigError(
            Problem(
                "--local cannot be scheduled in a hardened service or pod: it could not see this machine",
                hint="use cron, or audit this machine over SSH like any other",
            )
        )
    return options


def _written(options: dict[str, Any]) -> Iterator[str]:
    """The files that an audit with these options writes."""
    for output in options["outputs"]:
        path = output.partition("=")[2]
        if path and path != "-":
            yield path
    for key in ("snapshots", "retry_file", "manifest", "store"):
        if options[key] and options[key] != "-" and "://" not in options[key]:
            yield options[key]


def _checked(path: str) -> str:
    if not path.isprintable() or any(char in path for char in "\\\"'") or path != path.strip():
        message = f"the path {visible(path)} cannot be written in a unit without being read as another"
        raise ConfigError(
            Problem(message, hint="use a path without quotation marks, backslashes and controls")
        )
    return path


def _program() -> tuple[str, ...]:
    """fleetaudit as it was called, by its absolute path."""
    called = shutil.which(sys.argv[0])
    if called and Path(called).name == "fleetaudit":
        return (str(Path(called).absolute()),)
    return (sys.executable, "-m", "fleetaudit")


def _check_calendar(when: str) -> None:
    """Let systemd judge its own expression, where it is installed."""
    if not when.isprintable():
        raise ConfigError(Problem(f"--when {visible(when)!r} has a control character"))
    if shutil.which("systemd-analyze") is None:
        return
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--", when], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        hint = "see systemd.time(7): daily, Mon..Fri 03:00, *-*-1 04:30"
        raise ConfigError(Problem(f"--when {visible(when)}: systemd cannot read it", hint=hint))


def _write(files: tuple[ScheduleFile, ...], folder: Path) -> None:
    for file in files:
        path = folder / (Path(file.path).name if " " not in file.path else "crontab")
        try:
            whole = WholeFile(str(path))
            try:
                whole.write(file.text.encode())
                whole.finish()
            finally:
                whole.discard()
        except OSError as error:
            raise ReportError(f"{visible(str(path))}: {error.strerror or error}") from error
        click.echo(visible(str(path)))
