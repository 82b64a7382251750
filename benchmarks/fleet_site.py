"""What the clients of the fleet benchmark find on disk: keys, server settings, inventories, payload."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import Scene
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.demo.keys import KeyPair, known_hosts_line, write_private

FORKS = 50
USER = "root"
COMMAND = "python3 -I -S -"
NONCE = "benchmark"
MARK = f"FLEETAUDIT-END {NONCE}"
PORTS = (2201, 2202, 2203, 2204)  # one SSH server each: a single one has one queue of connections for all
_SETTINGS = """\
ListenAddress 0.0.0.0:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 1000
MaxSessions 1000
Subsystem sftp internal-sftp
SetEnv SHLVL=9
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder with all of it. `address` is set for one host in place of many."""

    folder: Path
    scene: Scene
    address: str | None = None

    def hosts(self, count: int) -> list[tuple[str, str, int]]:
        """Names, addresses and ports; several addresses of one machine, each as good as a host."""
        if self.address:
            return [("h000", self.address, PORTS[0])]
        return [
            (f"h{number:03}", f"127.0.{10 + number // 250}.{1 + number % 250}", PORTS[number % len(PORTS)])
            for number in range(count)
        ]

    def servers(self) -> dict[str, object]:
        """What `benchmarks.fleet_hosts` is told."""
        return {
            "scene": self.scene,
            "sshd": sshd(),
            "configs": [str(self.folder / f"sshd_{port}") for port in PORTS],
            "ports": PORTS,
        }


def sshd() -> str:
    """OpenSSH's server. Raises FileNotFoundError."""
    found = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise FileNotFoundError("OpenSSH's sshd is not installed")
    return found


def furnish(site: Site, counts: tuple[int, ...]) -> None:
    """Write everything. sshd's directory for privilege separation is made where Debian expects it."""
    folder = site.folder
    login, host = KeyPair.generate(), KeyPair.generate()
    write_private(folder / "login", login.private)
    write_private(folder / "host_key", host.private)
    (folder / "login.pub").write_text(f"{login.public}\n", encoding="ascii")
    (folder / "authorized").write_text(f"{login.public}\n", encoding="ascii")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for port in PORTS:
        (folder / f"sshd_{port}").write_text(_SETTINGS.format(port=port, folder=folder), encoding="ascii")
    # The first line is for those who run a file; to `python3 -` it is a comment.
    program = b"#!/usr/bin/python3 -IS\n" + build(AgentConfig(nonce=NONCE, name="benchmark"))
    (folder / "payload").write_bytes(program)
    for name in ("home", "remote"):
        (folder / name).mkdir()
    (folder / "known_hosts").write_text(
        "".join(known_hosts_line(address, port, host.public) for _, address, port in site.hosts(max(counts))),
        encoding="ascii",
    )
    for count in counts:
        _inventories(site, count)


def _inventories(site: Site, count: int) -> None:
    folder, hosts = site.folder, site.hosts(count)
    fleet = {
        "hosts": [(address, port) for _, address, port in hosts],
        "user": USER,
        "key": str(folder / "login"),
        "known_hosts": str(folder / "known_hosts"),
        "payload": str(folder / "payload"),
        "command": COMMAND,
        "mark": MARK,
        "forks": FORKS,
    }
    (folder / f"fleet_{count}.json").write_text(json.dumps(fleet), encoding="ascii")
    shared = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(folder / "login"),
        "ansible_python_interpreter": "/usr/bin/python3",
        "fleetaudit_boundary": "container",  # the fleet lives in a pid namespace
    }
    named = {name: {"ansible_host": address, "ansible_port": port} for name, address, port in hosts}
    (folder / f"inventory_{count}.yaml").write_text(
        json.dumps({"all": {"hosts": named, "vars": shared}}), encoding="ascii"
    )
    data = {
        "ssh_user": USER,
        "ssh_key": str(folder / "login"),
        "ssh_known_hosts_file": str(folder / "known_hosts"),
    }
    rows = [
        (name, data | {"ssh_hostname": address, "ssh_port": port, "ssh_strict_host_key_checking": "yes"})
        for name, address, port in hosts
    ]
    (folder / f"pyinfra_{count}.py").write_text(f"hosts = {rows!r}\n", encoding="ascii")
