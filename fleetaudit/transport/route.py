"""One hop of the way to a host, and what is to be known of it before it is reached."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from fleetaudit.errors import ConnectError
from fleetaudit.model import Host
from fleetaudit.text import visible

# What neither a shell nor ssh takes for anything but part of a name (IPv6 and its zones included).
_HARMLESS = re.compile(r"(?!-)[\w.:%@+-]*")


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way, the target being the last.

    `proxy_command`, for a first hop only, is complete: nothing in it is left to be replaced. The rest is what
    ssh_config says, None where it does not: `keys` to try instead of the usual ones, alone of the agent's if
    `identities_only`; `certificates` for any of these keys; `agent_socket`, empty for no agent; `key_name`,
    by which its host key is on record; address `family`; `source` address; `timeout` to connect, in seconds.
    """

    address: str
    port: int
    user: str
    private_key: str | None = None
    proxy_command: str | None = None
    keys: tuple[str, ...] | None = None
    identities_only: bool = False
    certificates: tuple[str, ...] = ()
    agent_socket: str | None = None
    key_name: str | None = None
    family: int = socket.AF_UNSPEC
    source: str | None = None
    timeout: float | None = None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        name = visible(self.address)
        return name if self.port == 22 else f"{name} port {self.port}"

    @property
    def recorded_as(self) -> tuple[str, int]:
        """Name and port of its host key in known_hosts; an alias is never with a port."""
        return (self.key_name, 22) if self.key_name else (self.address, self.port)

    def as_host(self) -> Host:
        """The same as a host, one without any password."""
        return Host(self.address, self.address, self.port, self.user, private_key=self.private_key)


def refuse_circle(way: tuple[Hop, ...]) -> None:
    """Raise ConnectError if the way passes one server twice."""
    places = [(hop.address.lower(), hop.port, hop.user) for hop in way]
    if len(set(places)) < len(places):
        shown = " → ".join(hop.label for hop in way)
        raise ConnectError(f"the jump hosts go in a circle: {shown}")


def command_line(template: str, hop: Hop, original: str) -> str:
    """A proxy command with its tokens replaced; `original` is the name before any HostName.

    Raises ConnectError for an unknown token, and for a name that the shell would not take as it is.
    """
    values = {"%": "%", "h": hop.address, "n": original, "p": str(hop.port), "r": hop.user}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            raise ConnectError(f"proxy command: unknown token %{visible(name)} (known: %% %h %n %p %r)")
        if name != "%" and not _HARMLESS.fullmatch(values[name]):
            raise ConnectError(
                f"proxy command: %{name} is '{visible(values[name])}', which a shell may not be given"
            )
        return values[name]

    return re.sub(r"%(.?)", value, template, flags=re.DOTALL)
