"""The system's own ssh: which it is, and what it makes of the user's configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.text import visible
from fleetaudit.transport.options import usual_config

_SYSTEM = "/etc/ssh/ssh_config"
_ASK_SECONDS = 20.0
_MOST_MISTAKES = 20
_MOST_SHOWN = 300
# What else stands between the mistakes that ssh -v reports.
_NO_MISTAKE = re.compile(r"^(?:debug\d: |OpenSSH_|Pseudo-terminal )|: terminating, ")
_READ = re.compile(r"^debug1: Reading configuration data (.+?)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Installed:
    """An ssh, the arguments that name its configuration, and what it reads then.

    `roots` are the files it begins with, of which some may not exist; `files` those it found, with all that
    they include.
    """

    program: str
    version: tuple[int, int]
    configuration: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def find(ssh_config: str | None) -> Installed:
    """The ssh to run, told to read this configuration file, None for none.

    Raises ConfigError when there is no OpenSSH, or it cannot read the configuration: every mistake in it.
    """
    program = shutil.which("ssh")
    if program is None:
        raise ConfigError(Problem("there is no ssh on this machine", hint="install the OpenSSH client"))
    said = _ask([program, "-V"]).stderr.strip()
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    if found is None:
        problem = f"{visible(program)} is not OpenSSH: {visible(said)[:_MOST_SHOWN]}"
        raise ConfigError(Problem(problem, hint="use ansible_connection: ssh"))
    configuration, roots = _configuration(ssh_config)
    done = _ask([program, "-vG", *configuration, "-o", "RemoteCommand=none", "localhost", "true"])
    if done.returncode:
        wrong = [line for line in done.stderr.splitlines() if line and not _NO_MISTAKE.search(line)]
        raise ConfigError(map(_mistake, wrong[:_MOST_MISTAKES] or ["ssh does not say what is wrong"]))
    version = int(found[1]), int(found[2])
    return Installed(program, version, configuration, roots, tuple(_READ.findall(done.stderr)))


def _configuration(file: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The usual one is not named: naming it would leave the machine's own out."""
    usual = usual_config()
    if file is None and usual.exists():
        return ("-F", "none"), ()
    if file is None or Path(file).expanduser() == usual:
        return (), (str(usual), _SYSTEM)
    path = str(Path(file).expanduser().absolute())
    return ("-F", path), (path,)


def _ask(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """What ssh says at once, before it reaches any host. Raises ConfigError."""
    try:
        return subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"cannot ask ssh about itself: {visible(str(error))}") from error


def _mistake(line: str) -> Problem:
    found = re.fullmatch(r"(.+?):? line (\d+): (.*)", line)
    place, said = (Place(visible(found[1]), int(found[2])), found[3]) if found else (None, line)
    return Problem(visible(said), place, "mend it, or name another file by --ssh-config FILE|none")
