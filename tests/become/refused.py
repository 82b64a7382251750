"""What fleetaudit says when real sudo is set up like this: run as root in a mount namespace of its own.

Arguments: the sudoers lines, and a shell command that changes the user. /etc is a copy meanwhile.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.errors import HostError
from fleetaudit.model import Become, Host, Secret
from tests.agent.test_launch import hold

USER = "fleetaudit-test"
NONCE = "n0nce-1"


def main() -> None:
    """Print the status and the message, or `ok`."""
    sudoers, change = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", "-a", "/etc", folder], check=True)
        subprocess.run(["mount", "--bind", f"{folder}/etc", "/etc"], check=True)
        try:
            sys.stdout.write(asked(sudoers, change))
        finally:
            subprocess.run(["umount", "/etc"], check=True)


def asked(sudoers: str, change: str) -> str:
    """What becoming root with the right password comes to."""
    subprocess.run(["useradd", "-M", "-s", "/bin/sh", USER], check=True)
    subprocess.run(["chpasswd"], input=f"{USER}:sesame\n".encode(), check=True)
    rules = Path("/etc/sudoers.d/fleetaudit-test")
    rules.write_text(sudoers.replace("USER", USER))
    rules.chmod(0o440)
    subprocess.run(["sh", "-c", change.replace("USER", USER)], check=True)
    host = Host("web1", "127.0.0.1", become=Become("sudo", "root", Secret("sesame")))
    drop = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "setsid", "-w", "sh", "-c"]
    line = f"exec {shlex.join(drop)} {shlex.quote(command(host, NONCE))}"
    conversation = AgentConversation(host, NONCE, build(AgentConfig(nonce=NONCE)))
    try:
        read_frame(NONCE, hold(line, conversation))
    except HostError as error:
        return f"{error.status}: {error}"
    return "ok"


if __name__ == "__main__":
    if shutil.which("sudo") is None:
        sys.exit("sudo is not installed")
    main()
