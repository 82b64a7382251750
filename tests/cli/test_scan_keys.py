"""`inventory scan-keys` against real servers: a known_hosts file that ssh and fleetaudit both take."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Sshd, free_port, make_key

Scan = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server(start_sshd: Callable[..., Sshd], tmp_path: Path) -> Sshd:
    """An sshd with a key of each kind."""
    for kind in ("rsa", "ecdsa"):
        make_key(tmp_path / f"host_{kind}", kind)
    return start_sshd(f"HostKey {tmp_path}/host_rsa", f"HostKey {tmp_path}/host_ecdsa")


@pytest.fixture
def scan(server: Sshd, tmp_path: Path) -> Scan:
    """Scans `web1`, which is up, `again`, which is the same server, and whatever else is stated."""
    up = {"ansible_host": server.address, "ansible_port": server.port, "ansible_user": server.host().user}

    def run(*arguments: str, **others: dict[str, object]) -> subprocess.CompletedProcess[str]:
        inventory = tmp_path / "inventory.yaml"
        inventory.write_text(json.dumps({"all": {"hosts": {"again": up, "web1": up, **others}}}))
        return fleetaudit("inventory", "scan-keys", "-i", str(inventory), *arguments)

    return run


def fleetaudit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", *arguments, "--ssh-config", "none"]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def keys(server: Sshd) -> dict[str, tuple[str, str]]:
    """Type and base64 of each key of the server, by fingerprint."""
    found = {}
    for file in server.directory.glob("host_*.pub"):
        shown = subprocess.run(["ssh-keygen", "-lf", str(file)], check=True, capture_output=True, text=True)
        kind, encoded, *_ = file.read_text().split()
        found[shown.stdout.split()[1]] = kind, encoded
    return found


def test_what_is_printed_is_a_known_hosts_file(scan: Scan, server: Sshd) -> None:
    done = scan("web1")
    assert done.returncode == 0, done.stderr
    expected = keys(server)
    name = f"[127.0.0.1]:{server.port}"
    assert set(done.stdout.splitlines()) == {
        f"{name} {kind} {encoded}" for kind, encoded in expected.values()
    }
    assert set(done.stderr.splitlines()) == {f"web1 {kind} {mark}" for mark, (kind, _) in expected.items()}


@pytest.mark.parametrize("hashed", [False, True])
def test_a_file_that_ssh_and_fleetaudit_take(scan: Scan, server: Sshd, tmp_path: Path, hashed: bool) -> None:
    file = tmp_path / "made" / "known_hosts"
    more = ["--hash"] if hashed else []
    done = scan("--output", str(file), *more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (
        len(done.stdout.splitlines()) == 6
    )  # two names of one server: its fingerprints twice, its keys once
    assert len(file.read_text().splitlines()) == 3
    assert ("127.0.0.1" in file.read_text()) is not hashed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ssh = ["ssh", "-F", "none", "-i", server.key, "-p", str(server.port), "-o", "BatchMode=yes"]
    ssh += ["-o", f"UserKnownHostsFile={file}", "-o", "GlobalKnownHostsFile=none", server.address, "true"]
    assert subprocess.run(ssh, capture_output=True, check=False, timeout=20).returncode == 0
    inventory = str(tmp_path / "inventory.yaml")
    arguments = ["-i", inventory, "--known-hosts", str(file), "--private-key", server.key, "--output", "-"]
    collected = fleetaudit("collect", "web1", *arguments)
    assert collected.returncode == 0, collected.stderr
    before = file.read_text()
    again = scan("--output", str(file), *more)
    assert (again.returncode, file.read_text()) == (0, before)
    assert all(line.endswith(" (on record)") for line in again.stdout.splitlines())


@pytest.mark.parametrize("marker", ["", "@revoked "])
def test_a_key_that_the_file_speaks_against_is_not_recorded(
    scan: Scan, server: Sshd, tmp_path: Path, marker: str
) -> None:
    file = tmp_path / "made"
    own = (server.directory / "host_ed25519.pub").read_text()
    kind, encoded, *_ = (own if marker else make_key(tmp_path / "another")).split()
    recorded = f"{marker}[127.0.0.1]:{server.port} {kind} {encoded}\n"
    file.write_text(recorded)
    done = scan("web1", "--output", str(file))
    assert done.returncode == 3
    assert f"is not what {file}:1 says: not recorded" in done.stderr
    assert file.read_text().startswith(recorded)
    kinds = [line.split()[-2] for line in file.read_text().splitlines()[1:]]
    assert sorted(kinds) == ["ecdsa-sha2-nistp256", "ssh-rsa"]


def test_hosts_that_were_not_reached_are_told_and_the_others_kept(scan: Scan, tmp_path: Path) -> None:
    file = tmp_path / "made"
    down: dict[str, object] = {"ansible_host": "127.0.0.1", "ansible_port": free_port()}
    nowhere: dict[str, object] = {"ansible_host": "no-such-host.invalid"}
    here: dict[str, object] = {"ansible_connection": "local"}
    done = scan("--output", str(file), "-T", "5", down=down, nowhere=nowhere, here=here)
    assert done.returncode == 3
    first, second = done.stderr.splitlines()
    assert first.startswith("down: unreachable: cannot connect to 127.0.0.1")
    assert second.startswith("nowhere: unreachable: cannot resolve")
    assert len(file.read_text().splitlines()) == 3


def test_mistakes_are_told_before_any_host_is_asked(scan: Scan, tmp_path: Path) -> None:
    file = tmp_path / "made"
    file.write_text("web1 nonsense\n")
    for arguments, message in (
        (("--output", str(file)), f"{file}:1: cannot read this line of known hosts"),
        (("here",), "no host among these is reached by SSH"),
        (("nobody",), "nobody"),
    ):
        done = scan(*arguments, here={"ansible_connection": "local"})
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert done.stdout == ""
    done = scan("--output", "/proc/no/such")
    assert done.returncode == 2
    assert "/proc/no/such: cannot write" in done.stderr
