"""Listeners written short, for policy tests: `tcp 0.0.0.0:8080 python3(www-data) > sh(www-data)`.

PROTOCOL ENDPOINT OWNER, where `A > B` says that B is a child of A and holds the socket too, and `A, B`
that both hold it unrelated. An owner is a name or path, with a user in parentheses (default root).
`kernel` stands for a socket that only the kernel holds, `nobody-seen` for one whose owner was not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

_OWNER = re.compile(r"(?P<exe>[^\s,>()]+)(?:\((?P<user>[^()]*)\))?\Z")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "ash"})
_DATAGRAM = frozenset({"udp", "udplite"})
_UIDS = {"root": 0, "www-data": 33, "nobody": 65534}


class ShorthandError(ValueError):
    """A listener written short that cannot be read; the message says what to write."""


def line_of(
    name: str, listeners: Sequence[str], gaps: Sequence[str], inventory: Mapping[str, object]
) -> dict[str, object]:
    """The snapshot line (wire form) of a host with these listeners. Raises ShorthandError."""
    processes: dict[str, dict[str, object]] = {"1": _process("/usr/lib/systemd/systemd", "root", 0, 1)}
    sockets = [_socket(text, 1000 + place, processes) for place, text in enumerate(listeners)]
    return {
        "schema": "fleetaudit.snapshot/1",
        "host": {"name": name},
        "coverage": {
            "complete": not gaps,
            "euid": 0,
            "processes": {"seen": len(processes), "unreadable": 0, "vanished": 0},
            "gaps": [{"code": code, "detail": ""} for code in gaps],
        },
        "network_namespaces": [{"id": 1, "host": True, "name": None, "ephemeral_ports": [32768, 60999]}],
        "sockets": sockets,
        "processes": processes,
        "inventory": dict(inventory),
    }


def _socket(text: str, inode: int, processes: dict[str, dict[str, object]]) -> dict[str, object]:
    words = text.split(None, 2)
    if len(words) < 3:
        raise ShorthandError(f"'{text}' is not a listener; write: tcp 0.0.0.0:8080 python3(www-data) > sh")
    protocol, endpoint, owners = words
    base: dict[str, object] = {"protocol": protocol, "inode": inode, "netns": 1, "owners": []}
    base |= _where(protocol, endpoint)
    base["state"] = "UNCONN" if protocol in _DATAGRAM else "LISTEN"
    if owners in ("kernel", "nobody-seen"):
        base["owner_state"] = "kernel" if owners == "kernel" else "unknown"
        return base
    base["owners"] = [{"pid": pid, "fds": [3]} for pid in _owners(owners, processes)]
    base["owner_state"] = "owned"
    return base


def _where(protocol: str, endpoint: str) -> dict[str, object]:
    if protocol == "unix":
        return {"family": "unix", "address": None, "port": None, "path": endpoint}
    address, colon, port = endpoint.rpartition(":")
    if not colon or not port.isdigit():
        raise ShorthandError(f"'{endpoint}' is not ADDRESS:PORT; write 127.0.0.1:80 or [::]:80")
    family = "inet6" if address.startswith("[") else "inet"
    v6only = False if family == "inet6" else None
    return {
        "family": family,
        "address": address.strip("[]"),
        "port": int(port),
        "path": None,
        "v6only": v6only,
    }


def _owners(text: str, processes: dict[str, dict[str, object]]) -> Iterator[int]:
    for family in text.split(","):
        parent = 1
        for word in family.split(">"):
            found = _OWNER.match(word.strip())
            if found is None:
                raise ShorthandError(f"'{word.strip()}' is not an owner; write NAME or NAME(user)")
            pid = 100 + len(processes)
            exe = found["exe"] if "/" in found["exe"] else f"/usr/bin/{found['exe']}"
            processes[str(pid)] = _process(exe, found["user"] or "root", parent, pid)
            yield pid
            parent = pid


def _process(exe: str, user: str, parent: int, pid: int) -> dict[str, object]:
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
