"""Listeners written short, for policy tests: `tcp 0.0.0.0:8080 python3(www-data) > sh(www-data)`.

PROTOCOL ENDPOINT OWNER, where `A > B` says that B is a child of A and holds the socket too, and `A, B`
that both hold it unrelated. An owner is a name or path, with a user in parentheses (default root) and facts
in brackets: `nginx(www-data)[unit=nginx.service deleted]`. `kernel` stands for a socket that only the kernel
holds, `nobody-seen` for one whose owner was not seen. `tcp/blue` is a listener in the network namespace blue,
`0.0.0.0%eth0:68` one bound to a device.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from fleetaudit.policy.fields import PROTOCOLS

_OWNER = re.compile(
    r"\s*(?P<exe>[^\s,>()\[\]]+)(?:\((?P<user>[^()]*)\))?(?:\[(?P<facts>[^\]]*)\])?\s*(?P<next>[,>]|\Z)"
)
_ENDPOINT = re.compile(r"(?P<address>\[[^\]]*\]|[^%:]*)(?:%(?P<device>[^%:]+))?:(?P<port>\d+)\Z")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "ash"})
_DATAGRAM = frozenset({"udp", "udplite"})
_UIDS = {"root": 0, "www-data": 33, "nobody": 65534}
_HOST_NETNS = 1
_NO_FACTS: Final[Mapping[str, object]] = MappingProxyType({})

Wire: TypeAlias = dict[str, Any]


class ShorthandError(ValueError):
    """A listener written short that cannot be read; the message says what to write."""


def line_of(
    name: str,
    listeners: Sequence[str],
    gaps: Sequence[str],
    inventory: Mapping[str, object],
    facts: Mapping[str, object] = _NO_FACTS,
) -> Wire:
    """The snapshot line (wire form) of a host with these listeners. Raises ShorthandError.

    `facts` is what the host says of itself, by the names that `when` has for it (`os.id`).
    """
    host = _Host()
    sockets = [host.socket(text, 1000 + place) for place, text in enumerate(listeners)]
    return {
        "schema": "fleetaudit.snapshot/1",
        "host": {"name": name, **_told(facts)},
        "coverage": {
            "complete": not gaps,
            "euid": 0,
            "processes": {"seen": len(host.processes), "unreadable": 0, "vanished": 0},
            "gaps": [{"code": code, "detail": ""} for code in gaps],
        },
        "network_namespaces": host.namespaces,
        "sockets": sockets,
        "processes": host.processes,
        "inventory": dict(inventory),
    }


def _told(facts: Mapping[str, object]) -> Wire:
    told: Wire = {name: value for name, value in facts.items() if "." not in name}
    return told | {"os": {name[3:]: value for name, value in facts.items() if name.startswith("os.")}}


class _Host:
    """The processes and network namespaces that the listeners so far speak of."""

    def __init__(self) -> None:
        self.processes: dict[str, Wire] = {"1": _process("/usr/lib/systemd/systemd", "root", 0, 1)}
        self.namespaces: list[Wire] = [
            {"id": _HOST_NETNS, "host": True, "name": None, "ephemeral_ports": [32768, 60999]}
        ]

    def socket(self, text: str, inode: int) -> Wire:
        words = text.split(None, 2)
        if len(words) < 3:
            raise ShorthandError(
                f"'{text}' is not a listener; write: tcp 0.0.0.0:8080 python3(www-data) > sh"
            )
        (protocol, slash, space), endpoint, owners = words[0].partition("/"), words[1], words[2]
        if protocol not in PROTOCOLS:
            raise ShorthandError(f"'{protocol}' is not a protocol; {_meant(protocol, PROTOCOLS)}")
        netns = self._namespace(space) if slash else _HOST_NETNS
        base: Wire = {"protocol": protocol, "inode": inode, "netns": netns, "owners": []}
        base |= _where(protocol, endpoint)
        base["state"] = "UNCONN" if protocol in _DATAGRAM else "LISTEN"
        if owners in ("kernel", "nobody-seen"):
            base["owner_state"] = "kernel" if owners == "kernel" else "unknown"
            return base
        base["owners"] = [{"pid": pid, "fds": [3]} for pid in self._owners(owners)]
        base["owner_state"] = "owned"
        return base

    def _namespace(self, name: str) -> int:
        if not name:
            raise ShorthandError("a network namespace has no name here; write tcp/blue")
        for known in self.namespaces:
            if known["name"] == name:
                return int(known["id"])
        number = _HOST_NETNS + len(self.namespaces)
        self.namespaces.append({"id": number, "host": False, "name": name, "ephemeral_ports": [32768, 60999]})
        return number

    def _owners(self, text: str) -> Iterator[int]:
        place, parent = 0, 1
        while True:
            found = _OWNER.match(text, place)
            if found is None:
                said = text[place:].strip() or "nothing"
                raise ShorthandError(
                    f"'{said}' is not an owner; write NAME, NAME(user) or NAME(user)[unit=…]"
                )
            pid, holds = self._add(found, parent)
            if holds:
                yield pid
            parent = pid if found["next"] == ">" else 1
            place = found.end()
            if not found["next"]:
                return

    def _add(self, found: re.Match[str], parent: int) -> tuple[int, bool]:
        """The process that a match describes, put in its place; and whether it holds the socket."""
        facts = _facts(found["facts"] or "")
        holds = facts.pop("no-fd", None) is None
        pid = int(facts.pop("pid", 0)) or 100 + len(self.processes)
        exe = found["exe"] if "/" in found["exe"] else f"/usr/bin/{found['exe']}"
        if pid == 1:
            parent = 0
        elif str(pid) in self.processes:
            raise ShorthandError(f"process {pid} is there already; write another pid")
        self.processes[str(pid)] = _process(exe, found["user"] or "root", parent, pid) | facts
        return pid, holds


# ---------------------------------------------------------------- facts in brackets

_Read: TypeAlias = Callable[[str], Wire]


def _text(*fields: str) -> _Read:
    return lambda value: dict.fromkeys(fields, value)


def _number(*fields: str) -> _Read:
    def read(value: str) -> Wire:
        if not value.isascii() or not value.isdigit():
            raise ShorthandError(f"'{value}' is not a whole number; write {fields[0]}=80")
        return dict.fromkeys(fields, int(value))

    return read


def _unit(value: str) -> Wire:
    return {"unit": value, "cgroup": f"/system.slice/{value}"}


# With a value: NAME=VALUE, in quotes where it has spaces.
_VALUED: Final[Mapping[str, _Read]] = MappingProxyType(
    {
        "unit": _unit,
        "user_unit": _text("user_unit"),
        "container": _text("container"),
        "exe_in_container": _text("exe_in_container"),
        "cgroup": _text("cgroup"),
        "comm": _text("comm"),
        "argv": lambda value: {"argv": value.split(" ")},
        "group": _text("group"),
        "pid": _number("pid"),
        "uid": _number("uid", "euid"),
        "gid": _number("gid"),
    }
)
_FLAGS: Final[Mapping[str, Wire]] = MappingProxyType(
    {
        "deleted": {"exe_deleted": True},
        "unverified": {"exe_verified": False},
        "shell": {"shell": True},
        "no-shell": {"shell": False},
        "self": {"self": True},
        "no-fd": {"no-fd": True},  # an ancestor that does not hold the socket
    }
)


def _facts(text: str) -> Wire:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ShorthandError(f"'[{text}]': {error}; close the quotes") from None
    facts: Wire = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in _VALUED:
            facts |= _VALUED[name](value)
        elif not equals and name in _FLAGS:
            facts |= _FLAGS[name]
        else:
            known = [*(f"{name}=…" for name in _VALUED), *_FLAGS]
            raise ShorthandError(f"'{word}' is no fact of an owner; {_meant(word, known)}")
    return facts


def _meant(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"write one of {', '.join(known)}"


# ---------------------------------------------------------------- endpoints and processes


def _where(protocol: str, endpoint: str) -> Wire:
    if protocol == "unix":
        return {"family": "unix", "address": None, "port": None, "path": endpoint}
    found = _ENDPOINT.match(endpoint)
    address = found["address"].strip("[]") if found else ""
    if found is None or int(found["port"]) > 65535 or not _is_address(address):
        raise ShorthandError(f"'{endpoint}' is not ADDRESS:PORT; write 127.0.0.1:80 or [::]:80")
    family = "inet6" if ":" in address else "inet"
    return {
        "family": family,
        "address": address,
        "port": int(found["port"]),
        "path": None,
        "device": found["device"],
        "v6only": False if family == "inet6" else None,
    }


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _process(exe: str, user: str, parent: int, pid: int) -> Wire:
    name = exe.rsplit("/", 1)[-1]
    uid = _UIDS.get(user, 1000)
    return {
        "ppid": parent,
        "start_time": pid,
        "comm": name[:15],
        "exe": exe,
        "exe_deleted": False,
        "exe_verified": True,
        "argv": [exe],
        "uid": uid,
        "euid": uid,
        "user": user,
        "cgroup": None,
        "unit": None,
        "container": None,
        "shell": name in _SHELLS,
        "self": False,
    }
