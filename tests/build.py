"""Snapshots, outcomes and policies written short for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.model import HostAudit, Outcome, Result
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from fleetaudit.snapshot import decode_line

Wire = dict[str, Any]

PYTHON, SHELL, NGINX = "/usr/bin/python3.11", "/usr/bin/dash", "/usr/sbin/nginx"


def process(exe: str | None = PYTHON, *, ppid: int = 1, **fields: Any) -> Wire:
    """A process as the walk agent describes it; `None` as a field's value with `drop` removes it."""
    name = exe.rsplit("/", 1)[-1] if exe else "gone"
    wire: Wire = {
        "ppid": ppid,
        "start_time": 100,
        "comm": name[:15],
        "exe": exe,
        "exe_deleted": False,
        "exe_verified": True,
        "exe_file": f"1:{int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)}",
        "argv": [name],
        "uid": 33,
        "euid": 33,
        "user": "www-data",
        "gid": 33,
        "group": "www-data",
        "cgroup": "/system.slice/web.service",
        "shell": name in ("dash", "bash", "sh"),
        "self": False,
    }
    return wire | fields


def without(wire: Wire, *fields: str) -> Wire:
    """The same with these fields absent."""
    return {name: value for name, value in wire.items() if name not in fields}


def socket(port: int | None = 8080, owners: Sequence[int] = (80,), **fields: Any) -> Wire:
    """A TCP listener on all IPv4 addresses in the host's own network namespace."""
    wire: Wire = {
        "protocol": "tcp",
        "family": "inet",
        "state": "LISTEN",
        "address": "0.0.0.0",
        "port": port,
        "path": None,
        "v6only": None,
        "device": None,
        "inode": 5000 + (port or 0),
        "netns": 1,
        "uid": 0,
        "backlog": 128,
        "owners": [{"pid": pid, "fds": [3]} for pid in owners],
        "owner_state": "owned" if owners else "unknown",
    }
    return wire | fields


def snapshot(
    sockets: Sequence[Wire] = (),
    processes: Mapping[int, Wire] | None = None,
    *,
    gaps: Sequence[str | Wire] = (),
    **fields: object,
) -> Wire:
    """A whole snapshot; pid 1 is systemd."""
    init = process("/usr/lib/systemd/systemd", ppid=0, user="root", uid=0, euid=0, cgroup="/init.scope")
    listed = [{"code": gap, "detail": f"{gap} for a test"} if isinstance(gap, str) else gap for gap in gaps]
    wire: Wire = {
        "schema": "fleetaudit.snapshot/1",
        "host": {"name": "web1", "hostname": "web1", "boot_id": "b"},
        "collected_at": "2026-11-22T10:00:00.000Z",
        "coverage": {
            "complete": not gaps,
            "euid": 0,
            "processes": {"seen": 10, "unreadable": 0, "vanished": 0},
            "gaps": listed,
        },
        "network_namespaces": [
            {"id": 1, "host": True, "name": None, "ephemeral_ports": [32768, 60999]},
            {"id": 2, "host": False, "name": "blue"},
        ],
        "sockets": list(sockets),
        "processes": {"1": init, **{str(pid): item for pid, item in (processes or {}).items()}},
    }
    return wire | fields


def outcome(wire: Wire, **inventory: object) -> Outcome:
    """The snapshot read and derived, with this inventory side."""
    return derive(decode_line(json.dumps(wire | ({"inventory": inventory} if inventory else {})).encode()))


def policy(text: str, name: str = "p.yaml") -> Policy:
    """One policy from YAML; a bare list of rules is wrapped."""
    if "version: 1" not in text:
        body = "\n".join(f"  {line}" for line in text.strip("\n").splitlines())
        text = f"version: 1\nname: p\nrules:\n{body}\n"
    data = text.encode()
    (loaded,) = load([(yamlio.parse(data, name), hashlib.sha256(data).hexdigest())])
    return loaded


def judge(text: str, wire: Wire, **inventory: object) -> HostAudit:
    """The audit of one host by one policy."""
    return evaluate(outcome(wire, **inventory), [policy(text)])


def result(rule: str, wire: Wire, **inventory: object) -> Result:
    """The result of a single rule, written as the rule's body without id: `deny_owners: [{shell: true}]`."""
    lines = rule.strip("\n").splitlines()
    text = "\n".join(["- id: r", *(f"  {line}" for line in lines)])
    (found,) = judge(text, wire, **inventory).results
    return found


def verdict(rule: str, wire: Wire, **inventory: object) -> str:
    """The verdict of a single rule."""
    return result(rule, wire, **inventory).verdict.value
