"""Whole collections by the system's own ssh, and by what an ssh_config says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Sshd, free_port


def collect(known_hosts: str, inventory: str, ssh_config: str) -> tuple[int, dict[str, dict[str, Any]]]:
    command = [sys.executable, "-m", "fleetaudit", "collect", "-i", inventory, "--output", "-"]
    command += ["--known-hosts", known_hosts, "--ssh-config", ssh_config]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    lines = map(json.loads, done.stdout.splitlines())
    return done.returncode, {line["host"]["name"]: line for line in lines}


def test_hosts_are_collected_from_and_failures_told_apart(sshd: Sshd, tmp_path: Path) -> None:
    host = sshd.host()
    common = {"ansible_host": host.address, "ansible_user": host.user, "fleetaudit_transport": "openssh"}
    hosts = {
        "web1": {"ansible_port": sshd.port, "ansible_ssh_private_key_file": sshd.key},
        "nobody": {"ansible_port": sshd.port, "ansible_user": "nobody"},
        "down": {"ansible_port": 1},
    }
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
    code, found = collect(sshd.known_hosts, str(inventory), "none")
    assert code == 3
    assert found["web1"]["schema"] == "fleetaudit.snapshot/1"
    assert sshd.port in {socket["port"] for socket in found["web1"]["sockets"]}
    assert (found["nobody"]["status"], found["down"]["status"]) == ("auth_failed", "unreachable")


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_an_ssh_config_says_all_the_way_through_a_jump_host(
    sshd: Sshd, start_sshd: Callable[..., Sshd], tmp_path: Path, transport: str
) -> None:
    """A bare list of names is enough."""
    host, bastion = sshd.host(), start_sshd()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(Path(sshd.known_hosts).read_text() + Path(bastion.known_hosts).read_text())
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host bastion\n  Port {bastion.port}\n  IdentityFile {bastion.key}\n"
        f"Host web1\n  Port {sshd.port}\n  IdentityFile {sshd.key}\n  ProxyJump bastion\n"
        f"Host *\n  HostName {host.address}\n  User {host.user}\n  UserKnownHostsFile {known_hosts}\n"
    )
    config.chmod(0o600)
    inventory = tmp_path / "hosts"
    inventory.write_text(
        f"web1 fleetaudit_transport={transport}\nweb2 fleetaudit_transport={transport} ansible_port=1\n"
    )
    code, found = collect(str(known_hosts), str(inventory), str(config))
    assert (code, found["web2"]["status"]) == (3, "unreachable")
    assert found["web1"]["schema"] == "fleetaudit.snapshot/1", found["web1"]


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_hosts_and_jump_hosts_by_ipv6(
    start_sshd: Callable[..., Sshd], tmp_path: Path, transport: str
) -> None:
    port, behind = free_port(), free_port()
    sshd = start_sshd(f"ListenAddress [::1]:{port}", f"ListenAddress [::1]:{behind}")
    key = Path(sshd.known_hosts).read_text().partition(" ")[2]
    known_hosts = tmp_path / "six"
    known_hosts.write_text(f"[::1]:{port} {key}[::1]:{behind} {key}")
    common = f"fleetaudit_transport={transport} ansible_user={sshd.host().user}"
    common += f" ansible_ssh_private_key_file={sshd.key}"
    inventory = tmp_path / "hosts"
    inventory.write_text(
        f"[::1]:{port} {common}\n"
        f"web ansible_host=::1 ansible_port={port} {common}\n"
        f"behind ansible_host=::1 ansible_port={behind} {common}"
        f" ansible_ssh_common_args='-J {sshd.host().user}@[::1]:{port}'\n"
        f"stranger ansible_host=::1 ansible_port={sshd.port} {common}\n"
    )
    code, found = collect(str(known_hosts), str(inventory), "none")
    assert {name: line.get("status", "collected") for name, line in found.items()} == {
        **dict.fromkeys(("::1", "web", "behind"), "collected"),
        "stranger": "unreachable",
    }
    assert code == 3
