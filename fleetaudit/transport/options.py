"""How to reach hosts over SSH, and when to trust their keys. Imports no SSH library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from fleetaudit.model import Secret

# Asks a person for something secret; None if nobody answers. One call at a time, from any thread.
Ask: TypeAlias = Callable[[str], Secret | None]


class HostKeyChecking(str, Enum):
    """What to do with a host key that no known_hosts file holds."""

    STRICT = "strict"
    ACCEPT_NEW = "accept-new"
    OFF = "off"


def usual_config() -> Path:
    """The user's own ssh_config(5)."""
    return Path("~/.ssh/config").expanduser()


def usual_known_hosts() -> tuple[str, ...]:
    """The user's and the machine's."""
    return (str(Path("~/.ssh/known_hosts").expanduser()), "/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Fixed for one run; paths may begin with `~`.

    `known_hosts` are read in this order, and `accept-new` writes to the first. `keys` are the private
    keys to try on hosts that name none; those that do not exist are passed over. `connect_timeout`, in
    seconds, bounds reaching one address; everything after that is bounded by the deadline of the run.
    `ssh_config` is read for whatever a host does not say itself. `ask` is for passphrases of key files and
    for what hosts ask at login, such as one-time codes.
    """

    known_hosts: tuple[str, ...] = ()
    host_key_checking: HostKeyChecking = HostKeyChecking.STRICT
    keys: tuple[str, ...] = ()
    use_agent: bool = True
    send_passwords_unverified: bool = False
    connect_timeout: float = 10.0
    ssh_config: str | None = None
    ask: Ask | None = None
