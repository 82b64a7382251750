"""Twenty rules, in our language and in Rego, and the snapshots of a fleet that they are judged on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

LISTENERS: Final = 50
OWNERS: Final = 3
_SERVERS: Final = ("nginx", "postgres", "redis-server", "haproxy", "node", "java", "memcached", "vault")
_GROUPS: Final = [[8000 + 6 * group + step for step in range(6)] for group in range(8)]


def policy() -> dict[str, Any]:
    """The rules as a policy document."""
    rules: list[dict[str, Any]] = []
    for group, ports in enumerate(_GROUPS):
        name = _SERVERS[group]
        entries = [{"exe": f"/usr/sbin/{name}", "user": ["root", name]}, {"exe": f"/opt/{name}/*/bin/{name}"}]
        rules.append(_rule(f"allow-{group}", {"port": ports}, allow_owners=entries))
    rules.append(_rule("deny-shell", None, deny_owners=[{"shell": True}]))
    rules.append(_rule("deny-tmp", None, deny_owners=[{"exe": "~^/(tmp|dev/shm)/"}]))
    rules.append(_rule("deny-root", {"port": "8000-8999"}, deny_owners=[{"user": "root"}]))
    rules.append(_rule("deny-deleted", None, deny_owners=[{"exe_deleted": True}]))
    rules += [
        _rule(f"local-{group}", {"port": _GROUPS[group + 4][:3]}, scope=["loopback"]) for group in range(4)
    ]
    rules.append(_rule("same-exe", {"port": "1-1023"}, same=["exe"]))
    rules.append(_rule("same-user", {"port": "8000-8047"}, same=["user"]))
    rules.append(_rule("no-telnet", {"port": 23}, expect="none"))
    rules.append(_rule("ssh-is-up", {"port": 22}, expect="some"))
    return {"version": 1, "name": "twenty", "rules": rules}


def _rule(name: str, listeners: dict[str, Any] | None, **checks: Any) -> dict[str, Any]:
    selector = {} if listeners is None else {"listeners": {"protocol": "tcp", **listeners}}
    return {"id": name, **selector, **checks}


def rego() -> str:
    """The same rules: each violation is a rule and the inode of a socket, -1 for one that is missing."""
    text = [_HEAD]
    for group, ports in enumerate(_GROUPS):
        name = _SERVERS[group]
        text.append(
            f'allowed_{group}(p) if {{ p.exe == "/usr/sbin/{name}"; p.user in {{"root", "{name}"}} }}'
        )
        text.append(f'allowed_{group}(p) if {{ glob.match("/opt/{name}/*/bin/{name}", null, p.exe) }}')
        text.append(_broken(f"allow-{group}", f"s.port in {_set(ports)}", f"not allowed_{group}(p)"))
    text.append(_broken("deny-shell", "", "p.shell == true"))
    text.append(_broken("deny-tmp", "", 'regex.match("^/(tmp|dev/shm)/", p.exe)'))
    text.append(_broken("deny-root", "s.port >= 8000; s.port <= 8999", 'p.user == "root"'))
    text.append(_broken("deny-deleted", "", "p.exe_deleted == true"))
    for group in range(4):
        few = _set(_GROUPS[group + 4][:3])
        text.append(_found(f"local-{group}", f's.port in {few}; not startswith(s.address, "127.")'))
    text.append(_found("same-exe", "s.port <= 1023; count({process(o).exe | some o in s.owners}) > 1"))
    text.append(
        _found(
            "same-user", "s.port >= 8000; s.port <= 8047; count({process(o).user | some o in s.owners}) > 1"
        )
    )
    text.append(_found("no-telnet", "s.port == 23"))
    text.append(
        'violations contains ["ssh-is-up", -1] if { count([1 | some s in input.sockets; s.port == 22]) == 0 }'
    )
    return "\n".join(text) + "\n"


_HEAD: Final = """package fleet
import rego.v1
process(o) := input.processes[format_int(o.pid, 10)]
nothing := 0
"""


def _set(ports: list[int]) -> str:
    return "{" + ", ".join(map(str, ports)) + "}"


def _found(name: str, condition: str) -> str:
    head = f'violations contains ["{name}", s.inode] if {{ some s in input.sockets; s.protocol == "tcp"'
    return f"{head}; {condition} }}"


def _broken(name: str, which: str, breaks: str) -> str:
    which = f"{which}; " if which else ""
    return _found(name, f"{which}some o in s.owners; p := process(o); {breaks}")


def snapshots(count: int) -> Iterator[bytes]:
    """One line a host, all different; on one in ten something is wrong."""
    return (json.dumps(_snapshot(number)).encode() + b"\n" for number in range(count))


def _snapshot(number: int) -> dict[str, Any]:
    processes: dict[str, Any] = {"1": _process("systemd", "/usr/lib/systemd/systemd", "root", 0, 1)}
    sockets = []
    ports = [22, 443, *(port for group in _GROUPS for port in group)]
    for place, port in enumerate(ports):
        first = 1000 + place * 10 + number % 7
        name = "sshd" if port < 1024 else _SERVERS[(port - 8000) // 6]
        exe = f"/opt/{name}/{number % 20}.1/bin/{name}" if port % 2 and port > 1024 else f"/usr/sbin/{name}"
        for step in range(OWNERS):
            leaked = number % 10 == 3 and place == 7 and step == 2
            parent = 1 if step == 0 else first
            processes[str(first + step)] = _process(
                "sh" if leaked else name,
                "/usr/bin/dash" if leaked else exe,
                name,
                parent,
                number,
                shell=leaked,
            )
        sockets.append(_socket(port, 100_000 + number * 64 + place, range(first, first + OWNERS)))
    return {
        "schema": "fleetaudit.snapshot/1",
        "host": {"name": f"h{number:05}", "hostname": f"h{number:05}", "boot_id": f"boot-{number}"},
        "collected_at": "2026-11-22T10:00:00.000Z",
        "coverage": {
            "complete": True,
            "euid": 0,
            "processes": {"seen": 200, "unreadable": 0, "vanished": 0},
            "gaps": [],
        },
        "network_namespaces": [{"id": 1, "host": True, "name": None, "ephemeral_ports": [32768, 60999]}],
        "sockets": sockets,
        "processes": processes,
    }


def _socket(port: int, inode: int, pids: range) -> dict[str, Any]:
    return {
        "protocol": "tcp",
        "family": "inet",
        "state": "LISTEN",
        "address": "127.0.0.1" if port >= 8024 else "0.0.0.0",
        "port": port,
        "path": None,
        "v6only": None,
        "device": None,
        "inode": inode,
        "netns": 1,
        "uid": 0,
        "backlog": 128,
        "owners": [{"pid": pid, "fds": [3, 4]} for pid in pids],
        "owner_state": "owned",
    }


def _process(
    comm: str, exe: str, user: str, parent: int, number: int, *, shell: bool = False
) -> dict[str, Any]:
    return {
        "ppid": parent,
        "start_time": 100 + number,
        "comm": comm,
        "exe": exe,
        "exe_deleted": False,
        "exe_verified": True,
        "exe_file": f"1:{hash_of(exe) % 10**6}",
        "argv": [comm, f"--host=h{number}"],
        "uid": 33,
        "euid": 33,
        "user": user,
        "gid": 33,
        "group": user,
        "cgroup": f"/system.slice/{comm}.service",
        "shell": shell,
        "self": False,
    }


def hash_of(text: str) -> int:
    """The same in every process, unlike hash()."""
    return sum((place + 1) * ord(char) for place, char in enumerate(text))
