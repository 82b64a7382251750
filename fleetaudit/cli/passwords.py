"""Where the passwords that hosts ask for come from: a terminal, a command, a keyring or the environment."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass

import click

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import Secret
from fleetaudit.text import visible

BECOME_VARIABLE = "FLEETAUDIT_BECOME_PASSWORD"
SSH_VARIABLE = "FLEETAUDIT_PASSWORD"
_MAX_OUTPUT = 4096  # bytes a password command may print: the first line is the password


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say of one password: to ask for it, a command, SERVICE:USER of a keyring."""

    ask: bool = False
    command: str | None = None
    keyring: str | None = None


def passwords(ssh: Wanted, become: Wanted) -> tuple[Secret | None, Secret | None]:
    """The one password for SSH and the one for become, for hosts whose inventory has none; None: no password.

    Raises ConfigError. The variables are taken out of the environment first, so that no command that
    fleetaudit starts (a password command, a proxy command, ansible-inventory) inherits them.
    """
    variables = {name: os.environ.pop(name, None) for name in (SSH_VARIABLE, BECOME_VARIABLE)}
    _refuse_contradiction(ssh, "-k", "--pass")
    _refuse_contradiction(become, "-K", "--become-pass")

    def first(wanted: Wanted, what: str, option: str, variable: str) -> Secret | None:
        if wanted.ask:
            return ask_for(what)
        if wanted.command is not None:
            return run_for_password(wanted.command, f"{option}-command")
        if wanted.keyring is not None:
            return look_up(wanted.keyring, f"{option}-keyring")
        stated = variables[variable]
        return None if stated is None else _checked(stated, variable)

    return (
        first(ssh, "SSH password", "--pass", SSH_VARIABLE),
        first(become, "become password", "--become-pass", BECOME_VARIABLE),
    )


def _refuse_contradiction(wanted: Wanted, letter: str, option: str) -> None:
    given = {
        letter: wanted.ask or None,
        f"{option}-command": wanted.command,
        f"{option}-keyring": wanted.keyring,
    }
    said = [name for name, value in given.items() if value is not None]
    if len(said) > 1:
        raise ConfigError(
            Problem(f"{' and '.join(said)} contradict each other", hint="leave all but one out")
        )


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


def look_up(name: str, option: str) -> Secret:
    """What the user's keyring has for `SERVICE:USER`. Raises ConfigError if there is nothing."""
    service, colon, user = name.rpartition(":")
    if not (service and colon and user):
        problem = f"{option}: '{visible(name)}' is not SERVICE:USER"
        raise ConfigError(Problem(problem, hint=f"write for example {option} fleet:audit"))
    try:
        keyring = importlib.import_module("keyring")
    except ImportError as error:
        hint = "pip install 'fleetaudit[keyring]', or use the command option for another store"
        raise ConfigError(Problem(f"{option}: there is no keyring: {error}", hint=hint)) from error
    try:
        found = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        message = f"{option}: the keyring does not answer: {visible(str(error))[:300]}"
        raise ConfigError(Problem(message, hint="unlock it, or use the command option")) from error
    if found is None:
        message = f"{option}: the keyring has no password of '{visible(user)}' for '{visible(service)}'"
        raise ConfigError(Problem(message, hint=f"keyring set {shlex.quote(service)} {shlex.quote(user)}"))
    return _checked(found, option)


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
