"""What fleetaudit says when real sudo, doas or su is set up like this: run as root in a mount namespace.

stdin: a JSON array, see `Case`. /etc is a copy meanwhile.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from fleetaudit.agent import becoming
from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.errors import HostError
from fleetaudit.model import Become, Host, Secret
from tests.agent.test_launch import hold

USER = "fleetaudit-test"
NONCE = "n0nce-1"
RULES = {"sudo": "/etc/sudoers.d/fleetaudit-test", "doas": "/etc/doas.conf"}  # below /etc, which is a copy
CHANGED = [Path("/etc") / name for name in ("shadow", "pam.d/su", "pam.d/sudo", "pam.d/doas")]


@dataclass(frozen=True)
class Case:
    """USER and PYTHON in what is written stand for them; `change` is for the shell."""

    method: str = "sudo"
    rules: str = ""
    change: str = "true"
    password: str | None = "sesame"
    exe: str | None = None
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Print, of each case, what came of it (the status and the message, or `ok` and who the agent was)."""
    cases = [Case(**case) for case in json.load(sys.stdin)]
    becoming._PATIENCE = 4
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", "-a", "/etc", folder], check=True)
        subprocess.run(["mount", "--bind", f"{folder}/etc", "/etc"], check=True)
        try:
            # The right password is `sesame`, of everybody.
            subprocess.run(["useradd", "-M", "-d", "/", "-s", "/bin/sh", USER], check=True)
            subprocess.run(["chpasswd"], input=f"{USER}:sesame\nroot:sesame\n".encode(), check=True)
            json.dump([alone(case) for case in cases], sys.stdout)
        finally:
            subprocess.run(["umount", "/etc"], check=True)


def alone(case: Case) -> str:
    """What comes of the case, which leaves nothing to the next one."""
    kept = {path: path.read_bytes() for path in CHANGED}
    try:
        return asked(case)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
        for rules in RULES.values():
            Path(rules).unlink(missing_ok=True)


def asked(case: Case) -> str:
    """What becoming root with the password comes to."""
    if case.rules:
        rules = Path(RULES[case.method])
        rules.write_text(case.rules.replace("USER", USER))
        rules.chmod(0o440)
    subprocess.run(["sh", "-c", case.change.replace("USER", USER)], check=True)
    secret = None if case.password is None else Secret(case.password)
    host = Host("web1", "127.0.0.1", become=Become(case.method, "root", secret, case.exe, tuple(case.flags)))
    drop = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "setsid", "-w"]
    surroundings = ["env", *(f"{name}={value}" for name, value in case.environment.items())]
    line = f"exec {shlex.join([*drop, *surroundings, 'sh', '-c'])} {shlex.quote(command(host, NONCE))}"
    conversation = AgentConversation(host, NONCE, build(AgentConfig(nonce=NONCE)))
    try:
        document = json.loads(read_frame(NONCE, hold(line, conversation)))
    except HostError as error:
        return f"{error.status}: {error}"
    return f"ok {document['coverage']['euid']}"


if __name__ == "__main__":
    main()
