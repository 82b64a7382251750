"""Which way a host is reached: what the inventory says, then what ssh_config says."""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fleetaudit.errors import ConfigError, ConnectError, Problem
from fleetaudit.model import Host, Jump
from fleetaudit.text import visible
from fleetaudit.transport.route import Hop, command_line, refuse_circle
from fleetaudit.transport.ssh_config import Found, SshConfig

_DEEPEST = 20
_NAMED = 5
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_JUMP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?/?"
)


class Directions:
    """Finds the way to every host of a run. Raises ConfigError when ssh_config cannot be understood."""

    def __init__(self, ssh_config: str | None) -> None:
        self._config = SshConfig(ssh_config) if ssh_config else None
        self._user = pwd.getpwuid(os.getuid()).pw_name

    def way(self, host: Host) -> tuple[Hop, ...]:
        """The hops to a host, the host itself being the last. Raises ConnectError for a way in a circle."""
        found = self._look_up(host.address, host.user)
        user = host.user or found.get("user", [self._user])[0]
        target = self._hop(host.address, host.port, user, found, host.private_key)
        command = host.proxy_command or _first(found, "proxycommand")
        if host.jumps:
            stated = [replace(jump, user=jump.user or self._user_of(jump) or user) for jump in host.jumps]
            way = (*self._through(stated, host.private_key, 0), target)
        elif host.proxy_command is None and "proxyjump" in found:
            way = (*self._through(self._jumps(found, target, host.address), None, 0), target)
        elif command is not None and command.lower() != "none":
            way = (replace(target, proxy_command=command_line(command, target, host.address)),)
        else:
            way = (target,)
        refuse_circle(way)
        return way

    def check(self, hosts: Sequence[Host]) -> None:
        """Raise ConfigError, naming the hosts, for ways that cannot be gone however the hosts are."""
        reasons: dict[str, list[str]] = {}
        for host in hosts:
            try:
                self.way(host)
            except ConnectError as error:
                reasons.setdefault(str(error), []).append(visible(host.name))
        if reasons:
            raise ConfigError(
                Problem(f"{reason} ({_named(names)})", hint="see the inventory, or ssh_config")
                for reason, names in reasons.items()
            )

    def _through(self, jumps: list[Jump], key: str | None, depth: int) -> tuple[Hop, ...]:
        """The hops of a chain. As with ssh, only the first is reached as ssh_config says of it."""
        if not jumps:
            return ()
        if depth > _DEEPEST:
            raise ConnectError(f"the jump hosts go in a circle: {visible(jumps[0].address)} is behind itself")
        hops: list[Hop] = []
        for number, jump in enumerate(jumps):
            found = self._look_up(jump.address, jump.user)
            user = jump.user or found.get("user", [self._user])[0]
            hop = self._hop(jump.address, jump.port, user, found, None if "identityfile" in found else key)
            command = _first(found, "proxycommand")
            if number == 0 and "proxyjump" in found:
                hops += self._through(self._jumps(found, hop, jump.address), key, depth + 1)
            elif number == 0 and command is not None and command.lower() != "none":
                hop = replace(hop, proxy_command=command_line(command, hop, jump.address))
            hops.append(hop)
        return tuple(hops)

    def _jumps(self, found: Found, hop: Hop, original: str) -> list[Jump]:
        text = found["proxyjump"][0]
        if text.lower() == "none":
            return []
        values = {"h": hop.address, "n": original, "p": str(hop.port), "r": hop.user, "%": "%"}
        jumps = []
        for one in re.sub("%(.)", lambda token: values[token[1]], text).split(","):
            parts = _JUMP.fullmatch(one.strip())
            if parts is None or not 1 <= int(parts["port"] or 22) <= 65535:
                raise ConnectError(f"ProxyJump: '{visible(one)}' is not [user@]host[:port]")
            jumps.append(
                Jump(
                    parts["ipv6"] or parts["name"],
                    int(parts["port"]) if parts["port"] else None,
                    parts["user"],
                )
            )
        return jumps

    def _user_of(self, jump: Jump) -> str | None:
        return _first(self._look_up(jump.address, None), "user")

    def _look_up(self, name: str, user: str | None) -> Found:
        return {} if self._config is None else self._config.lookup(name, user)

    def _hop(self, name: str, port: int | None, user: str, found: Found, key: str | None) -> Hop:
        address = found.get("hostname", [name])[0]
        hop = Hop(address, port or int(found.get("port", ["22"])[0]), user, key)
        if not found:
            return hop
        alias = _first(found, "hostkeyalias")
        agent = _first(found, "identityagent")
        stated = [one for one in found.get("identityfile", ()) if one.lower() != "none"]
        return replace(
            hop,
            keys=tuple(self._path(one, hop, name, alias) for one in stated)
            if "identityfile" in found
            else None,
            identities_only=(_first(found, "identitiesonly") or "no").lower() in ("yes", "true"),
            certificates=tuple(self._path(one, hop, name, alias) for one in found.get("certificatefile", ())),
            agent_socket=self._agent(agent, hop, name, alias),
            key_name=alias,
            family=_FAMILIES.get((_first(found, "addressfamily") or "any").lower(), socket.AF_UNSPEC),
            source=_first(found, "bindaddress"),
            timeout=_seconds(_first(found, "connecttimeout")),
        )

    def _agent(self, value: str | None, hop: Hop, name: str, alias: str | None) -> str | None:
        if value is None or value == "SSH_AUTH_SOCK":
            return None
        if value.lower() == "none":
            return ""
        if value.startswith("$") and not value.startswith("${"):
            return os.environ.get(value[1:], "")
        return self._path(value, hop, name, alias)

    def _path(self, value: str, hop: Hop, name: str, alias: str | None) -> str:
        """A path with its tokens, variables and `~` replaced. Raises ConnectError for an unset variable."""
        here = socket.gethostname()
        values = {
            "%": "%", "d": str(Path.home()), "h": hop.address, "i": str(os.getuid()), "k": alias or name,
            "L": here.partition(".")[0], "l": here, "n": name, "p": str(hop.port), "r": hop.user,
            "u": self._user,
        }  # fmt: skip

        def replaced(found: re.Match[str]) -> str:
            if found["token"] is not None:
                return values[found["token"]]
            if found["variable"] not in os.environ:
                raise ConnectError(f"ssh_config names ${{{visible(found['variable'])}}}, which is not set")
            return os.environ[found["variable"]]

        path = re.sub(r"%(?P<token>.)|\$\{(?P<variable>[^}]*)\}", replaced, value)
        return str(Path(path).expanduser())


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'hosts' if len(names) > 1 else 'host'} {', '.join(names[:_NAMED])}{more}"


def _first(found: Found, keyword: str) -> str | None:
    return found[keyword][0] if keyword in found else None


def _seconds(text: str | None) -> float | None:
    """A time as sshd_config(5), TIME FORMATS, writes it; None for none."""
    if text is None or text.lower() == "none":
        return None
    parts = re.findall(r"([0-9]+)([smhdw]?)", text.lower())
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts)) or None
