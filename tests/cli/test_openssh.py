"""A whole collection by the system's own ssh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Sshd


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
    command = [sys.executable, "-m", "fleetaudit", "collect", "-i", str(inventory), "--output", "-"]
    command += ["--known-hosts", sshd.known_hosts, "--ssh-config", "none"]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    assert done.returncode == 3, done.stderr.decode()
    found = {line["host"]["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert found["web1"]["schema"] == "fleetaudit.snapshot/1"
    assert sshd.port in {socket["port"] for socket in found["web1"]["sockets"]}
    assert (found["nobody"]["status"], found["down"]["status"]) == ("auth_failed", "unreachable")
