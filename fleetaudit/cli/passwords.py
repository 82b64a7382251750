"""Where the passwords that hosts ask for come from: a terminal, a command or an environment variable."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import click

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import Secret
from fleetaudit.text import visible

BECOME_VARIABLE = "FLEETAUDIT_BECOME_PASSWORD"
_MAX_OUTPUT = 4096  # bytes a password command may print: the first line is the password


def become_password(*, ask: bool, pass_command: str | None) -> Secret | None:
    """The one password for become: from the terminal, else the command, else the environment, else None.

    Raises ConfigError. The variable is taken out of the environment, so that no command that fleetaudit
    starts (a proxy command, ansible-inventory) inherits it.
    """
    stated = os.environ.pop(BECOME_VARIABLE, None)
    if ask and pass_command is not None:
        raise ConfigError(Problem("-K and --become-pass-command contradict each other", hint="leave one out"))
    if ask:
        return ask_for("become password")
    if pass_command is not None:
        return run_for_password(pass_command, "--become-pass-command")
    return _checked(stated, BECOME_VARIABLE) if stated is not None else None


def ask_for(what: str) -> Secret:
    """A password typed at the terminal. Raises ConfigError when there is none."""
    if not sys.stdin.isatty():
        message = f"there is no terminal to ask for the {what} on"
        raise ConfigError(Problem(message, hint="use a key, or sudo without password"))
    return Secret(click.prompt(what, hide_input=True, err=True))


def run_for_password(line: str, option: str) -> Secret:
    """The first line that a command prints. Raises ConfigError for one that fails, or prints no password.

    The line is split as a shell would, but no shell runs it. The command keeps fleetaudit's stdin and
    stderr: it may ask at the terminal, and its complaints stand above the error.
    """
    arguments = _split(line, option)
    try:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            output = process.stdout.read(_MAX_OUTPUT + 1) if process.stdout else b""
            if len(output) > _MAX_OUTPUT:
                process.kill()
    except (OSError, ValueError) as error:
        problem = Problem(f"{option}: {visible(str(error))}", hint="give the whole path of a program")
        raise ConfigError(problem) from error
    if len(output) > _MAX_OUTPUT:
        raise ConfigError(Problem(f"{option}: it printed more than {_MAX_OUTPUT} bytes"))
    if process.returncode:
        message = f"{option}: it ended with status {process.returncode}"
        raise ConfigError(Problem(message, hint="run it by hand; what it complained about stands above"))
    try:
        text = output.partition(b"\n")[0].removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ConfigError(Problem(f"{option}: what it printed is not UTF-8")) from None
    return _checked(text, option)


def _split(line: str, option: str) -> list[str]:
    try:
        arguments = shlex.split(line)
    except ValueError as error:
        raise ConfigError(Problem(f"{option}: {error}", hint="close the quote")) from error
    if not arguments:
        raise ConfigError(Problem(f"{option} is empty", hint="name a program that prints the password"))
    return arguments


def _checked(text: str, where: str) -> Secret:
    if not text or any(char in text for char in "\0\r\n"):
        raise ConfigError(
            Problem(f"{where}: the password is empty or has more than one line", hint="write it on one line")
        )
    return Secret(text)
