"""The way to a host: every hop of it, and what is to be known of each before it is reached."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass

from fleetaudit.errors import ConnectError
from fleetaudit.model import Host
from fleetaudit.text import visible

# What neither a shell nor ssh takes for anything but part of a name (IPv6 and its zones included).
_HARMLESS = re.compile(r"(?!-)[\w.:%@+-]*")


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way, the target being the last.

    `key_name` is what its host key is on record by, if not by address and port. `proxy_command`, for a
    first hop only, is complete: nothing in it is left to be replaced.
    """

    address: str
    port: int
    user: str
    private_key: str | None = None
    proxy_command: str | None = None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        name = visible(self.address)
        return name if self.port == 22 else f"{name} port {self.port}"

    def as_host(self) -> Host:
        """The same as a host, one without any password."""
        return Host(self.address, self.address, self.port, self.user, private_key=self.private_key)


def route(host: Host) -> tuple[Hop, ...]:
    """The hops to a host, the host itself being the last. Raises ConnectError for a way in a circle."""
    user = host.user or pwd.getpwuid(os.getuid()).pw_name
    hops = [Hop(jump.address, jump.port, jump.user or user, host.private_key) for jump in host.jumps]
    command = host.proxy_command
    target = Hop(host.address, host.port, user, host.private_key)
    if command is not None and command.lower() != "none":
        target = Hop(
            host.address, host.port, user, host.private_key, command_line(command, target, host.address)
        )
    way = (*hops, target)
    refuse_circle(way)
    return way


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
