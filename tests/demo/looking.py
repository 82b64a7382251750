"""How the tests look at a fleet: over SSH as an orchestrator would, and at this machine's process table."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from fleetaudit.demo.fleet import DemoFleet

# Runs on a host. Says what a privileged program there can find, by any way that keeps a namespace alive:
# processes, nsfs mounts, and sockets copied out of other processes (pidfd_getfd, then SIOCGSKNS).
LOOK_AROUND = r"""
import ctypes, fcntl, glob, json, os, re, socket, stat

libc = ctypes.CDLL(None, use_errno=True)
SIOCGSKNS = 0x894C


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def number(text):
    found = re.search(r"\[(\d+)\]", text)
    return int(found.group(1)) if found else 0


def namespace_of(pid, descriptor):
    handle = libc.syscall(434, pid, 0)
    copy = libc.syscall(438, handle, descriptor, 0)
    try:
        namespace = fcntl.ioctl(copy, SIOCGSKNS)
    except (OSError, ValueError):  # ValueError: the process or its descriptor is gone, and copy is -1
        return 0
    found = os.fstat(namespace).st_ino
    for each in (namespace, copy, handle):
        os.close(each)
    return found


processes, owners, reachable = {}, {}, set()
for path in glob.glob("/proc/[0-9]*"):
    pid = int(path[6:])
    if pid == os.getpid():
        continue
    reachable.add(number(link(path + "/ns/net")))
    try:
        with open(path + "/cmdline", "rb") as stream:
            argv = [part.decode("utf-8", "replace") for part in stream.read().split(b"\0")[:-1]]
        with open(path + "/stat", errors="replace") as stream:
            processes[pid] = [int(stream.read().rpartition(")")[2].split()[1]), argv]
        descriptors = os.listdir(path + "/fd")
    except OSError:
        continue
    for name in descriptors:
        target = link(path + "/fd/" + name)
        if target.startswith("socket:"):
            owners.setdefault(number(target), set()).add(pid)
            reachable.add(namespace_of(pid, int(name)))

listeners = []
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    field = line.split()
    if field[3] == "0A":
        address, port = field[1].split(":")
        address = socket.inet_ntoa(bytes.fromhex(address)[::-1])
        listeners.append([address, int(port, 16), sorted(owners.get(int(field[9]), ()))])

mounts = [line.split() for line in open("/proc/self/mountinfo")]
print(json.dumps({
    "hostname": socket.gethostname(),
    "euid": os.geteuid(),
    "namespaces": {name: number(link("/proc/self/ns/" + name)) for name in ("net", "pid", "uts", "mnt")},
    "reachable": sorted(reachable - {0}),
    "processes": processes,
    "listeners": listeners,
    "nsfs": [fields[4] for fields in mounts if fields[fields.index("-") + 1] == "nsfs"],
    "run": sorted(os.listdir("/run")),
}))
"""


@dataclass(frozen=True)
class Seen:
    """What LOOK_AROUND said of one host. `owners` has the pids per (address, port)."""

    hostname: str
    euid: int
    namespaces: dict[str, int]
    reachable: list[int]
    parents: dict[int, int]
    argv: dict[int, list[str]]
    owners: dict[tuple[str, int], list[int]]
    nsfs: list[str]
    run: list[str]

    def programs(self, address: str, port: int) -> list[str]:
        """The owners of a listener by the last part of what they run, sorted."""
        return sorted(program(self.argv[pid]) for pid in self.owners[address, port])


def program(argv: list[str]) -> str:
    """The script that a Python runs, else the command."""
    scripts = [Path(word).name for word in argv[:4] if word.endswith(".py")]
    return scripts[0] if scripts else Path(argv[0] if argv else "").name


def log_in(fleet: DemoFleet, name: str, **options: Any) -> paramiko.SSHClient:
    """A connection under strict host keys, with the fleet's own key unless told otherwise."""
    planted = next(host for host in fleet.describe() if host.name == name)
    address, port = planted.address.split(":")
    client = paramiko.SSHClient()
    client.load_host_keys(str(fleet.known_hosts))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    options = {
        "username": user(fleet),
        "key_filename": str(fleet.directory / "keys" / "client"),
        "allow_agent": False,
        "look_for_keys": False,
        "timeout": 20,
        "banner_timeout": 20,
        "auth_timeout": 20,
        **options,
    }
    try:
        client.connect(address, int(port), **options)
    except BaseException:
        client.close()
        raise
    return client


def user(fleet: DemoFleet) -> str:
    """The inventory's ansible_user."""
    return str(inventory_value(fleet, "ansible_user"))


def inventory_value(fleet: DemoFleet, name: str) -> object:
    line = next(line for line in fleet.inventory.read_text().splitlines() if line.strip().startswith(name))
    return json.loads(line.split(": ", 1)[1])


def run(client: paramiko.SSHClient, command: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of a command fed with `data`."""
    stdin, stdout, stderr = client.exec_command(command, timeout=60)
    with contextlib.suppress(OSError):  # a command may end without reading all of it
        stdin.write(data)
        stdin.channel.shutdown_write()
    output, errors = stdout.read(), stderr.read()
    return stdout.channel.recv_exit_status(), output, errors


def look(fleet: DemoFleet, name: str) -> Seen:
    """Run LOOK_AROUND on the host as the orchestrator runs its agent: on stdin, nothing written."""
    with log_in(fleet, name) as client:
        interpreter = inventory_value(fleet, "ansible_python_interpreter")
        status, output, errors = run(client, f"'{interpreter}' -I -S -", LOOK_AROUND.encode())
    assert (status, errors) == (0, b""), (status, errors)
    said = json.loads(output)
    processes = {int(pid): values for pid, values in said["processes"].items()}
    return Seen(
        hostname=said["hostname"],
        euid=said["euid"],
        namespaces=said["namespaces"],
        reachable=said["reachable"],
        parents={pid: parent for pid, (parent, _) in processes.items()},
        argv={pid: argv for pid, (_, argv) in processes.items()},
        owners={(address, port): pids for address, port, pids in said["listeners"]},
        nsfs=said["nsfs"],
        run=said["run"],
    )


def descendants(ancestor: int) -> set[tuple[int, str]]:
    """Every process below this one, as (pid, start time): the same pair is never another process."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = _stat(int(entry.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append((int(entry.name), fields[19]))
    found: set[tuple[int, str]] = set()
    waiting = [ancestor]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting.extend(pid for pid, _ in children)
    return found


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those that still run; a zombie that nobody collected counts as running."""
    return {(pid, start) for pid, start in processes if (_stat(pid) or [""] * 20)[19] == start}


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def own_namespaces() -> dict[str, int]:
    return {name: Path(f"/proc/self/ns/{name}").stat().st_ino for name in ("net", "pid", "uts", "mnt")}
