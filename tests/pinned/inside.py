"""Hosts with a pinned agent, real sshd and real sudo: run as root in a mount namespace of its own.

Prints one JSON object: what each way in came to. /etc is a copy meanwhile, and /mnt is empty.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fleetaudit.agent.pinned import executable
from tests.conftest import Sshd, make_key, running_sshd

AGENT = "/mnt/libexec/fleetaudit-agent"
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else os.path.realpath(sys.executable)
RULES = Path("/etc/sudoers.d/fleetaudit-pinned")
# Who logs in: with a shell and a rule in sudoers; with a key for the agent alone, plain and by sudo.
SHELL, PLAIN, ROOTED = "fa-shell", "fa-plain", "fa-rooted"
Found = dict[str, object]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", "-a", "/etc", folder], check=True)
        subprocess.run(["mount", "--bind", f"{folder}/etc", "/etc"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"], check=True)
        try:
            sys.stdout.write(json.dumps(everything(Path(folder))))
        finally:
            subprocess.run(["umount", "/mnt"], check=True)
            subprocess.run(["umount", "/etc"], check=True)


def everything(folder: Path) -> dict[str, Found]:
    folder.chmod(0o711)
    keys = Path("/mnt/keys")
    keys.mkdir(mode=0o755)
    found: dict[str, Found] = {"install": install()}
    for user in (SHELL, PLAIN, ROOTED):
        subprocess.run(["useradd", "-M", "-d", "/", "-s", "/bin/sh", "-p", "*", user], check=True)
    allow()
    (folder / "sshd").mkdir()
    with running_sshd(folder / "sshd", "AuthorizedKeysFile /mnt/keys/%u") as sshd:
        public = f"{sshd.key}.pub"
        (keys / SHELL).write_text(Path(public).read_text())
        make_key(folder / "other")
        (keys / PLAIN).write_text(line("--print-authorized-keys", public))
        both = line("--print-sudoers", ROOTED, "--print-authorized-keys", public).splitlines()
        (keys / ROOTED).write_text(both[1] + "\n")
        found |= {"sudo": collect(sshd, SHELL, become=True), "plain": collect(sshd, PLAIN)}
        found |= {"rooted": collect(sshd, ROOTED), "nothing_else": nothing_else(sshd)}
        found |= damaged(sshd)
    return found


def fleetaudit(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fleetaudit", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def line(*options: str) -> str:
    done = fleetaudit("agent", "install", "--output", AGENT, "--interpreter", PYTHON, *options)
    return done.stdout if done.returncode == 0 else sys.exit(done.stderr)


def install() -> Found:
    said = line()
    checked = subprocess.run(["sha256sum", "-c"], input=said, capture_output=True, text=True, check=False)
    found = Path(AGENT).stat()
    beside = [path.name for path in Path(AGENT).parent.iterdir()]
    return {"checked": checked.returncode, "mode": oct(found.st_mode), "beside": beside}


def allow(digest: str | None = None) -> None:
    """Both users of sudo may run the file as it is installed by this version, or a file of another digest."""
    rules = line("--print-sudoers", SHELL) + line("--print-sudoers", ROOTED)
    if digest:
        rules = rules.replace(rules.partition("sha256:")[2].partition(" ")[0], digest)
    RULES.write_text(rules)
    RULES.chmod(0o440)
    subprocess.run(["visudo", "-c", "-f", str(RULES)], check=True, stdout=subprocess.DEVNULL)


def collect(sshd: Sshd, user: str, *, become: bool = False) -> Found:
    """One host, from the inventory to the report."""
    inventory = sshd.directory / "inventory.yaml"
    variables = {
        "ansible_host": sshd.address,
        "ansible_port": sshd.port,
        "ansible_user": user,
        "ansible_ssh_private_key_file": sshd.key,
        "ansible_python_interpreter": PYTHON,
        "ansible_become": become,
        "ansible_become_password": "never to be asked for",
        "fleetaudit_agent": AGENT,
    }
    inventory.write_text(json.dumps({"all": {"hosts": {"web1": variables}}}))
    report = sshd.directory / "report.json"
    where = ["-i", str(inventory), "--known-hosts", sshd.known_hosts, "--ssh-config", "none"]
    shipped = str(Path(__file__).parents[2] / "policies" / "ssh.yaml")
    done = fleetaudit("audit", *where, "-p", shipped, "-o", f"json={report}", "-o", "text=-")
    if not report.exists():
        sys.exit(done.stderr)
    host = json.loads(report.read_text())["hosts"][0]
    report.unlink()
    return {"host": host, "text": done.stdout}


def ssh(sshd: Sshd, user: str, *command: str) -> Found:
    options = {
        "UserKnownHostsFile": sshd.known_hosts,
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ControlPath": "none",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    start = ["ssh", "-F", "none", *words, "-i", sshd.key, "-p", str(sshd.port), f"{user}@{sshd.address}"]
    done = subprocess.run(
        [*start, *command], input="", capture_output=True, text=True, timeout=30, check=False
    )
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def nothing_else(sshd: Sshd) -> Found:
    """What else these users may try."""
    return {
        "forced": ssh(sshd, PLAIN, "id"),
        "forced_sudo": ssh(sshd, ROOTED, "id; cat /etc/shadow"),
        "other_command": ssh(sshd, SHELL, "sudo", "-n", "id"),
        "arguments": ssh(sshd, SHELL, "sudo", "-n", AGENT, "x"),
        "other_user": ssh(sshd, SHELL, "sudo", "-n", "-u", "nobody", AGENT),
        "forwarding": ssh(sshd, PLAIN, "-W", f"{sshd.address}:{sshd.port}"),
    }


def damaged(sshd: Sshd) -> Mapping[str, Found]:
    """The file is not, or no longer, what this version installs."""
    file, whole = Path(AGENT), executable(PYTHON)
    found = {}

    def put(content: bytes, *, allowed: bool) -> Found:
        file.write_bytes(content)
        if allowed:
            told = subprocess.run(["sha256sum", AGENT], capture_output=True, text=True, check=True).stdout
            allow(told.split()[0])
        return collect(sshd, SHELL, become=True)

    found["modified"] = put(whole + b"# more\n", allowed=False)
    found["other_file"] = put(whole + b"# more\n", allowed=True)
    found["older"] = put(whole.replace(b"be_told('", b"be_told('0.0.older-"), allowed=True)
    found["schema"] = put(whole.replace(b"fleetaudit.snapshot/1", b"fleetaudit.snapshot/0"), allowed=True)
    found["no_python"] = put(whole.replace(PYTHON.encode(), b"/no/such/python", 1), allowed=True)
    file.unlink()
    found["missing"] = collect(sshd, SHELL, become=True)
    return found


if __name__ == "__main__":
    main()
