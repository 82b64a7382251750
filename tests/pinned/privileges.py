"""What the pinned agent sees with some of root's capabilities: run as root in namespaces of its own.

Prints one JSON object: for each set of capabilities the gaps, and of which listeners owners were seen.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from fleetaudit.agent.launch import read_frame
from fleetaudit.agent.payload import AgentConfig
from fleetaudit.agent.pinned import executable, tell
from fleetaudit.conversation import Reply
from tests.pinned.inside import PYTHON

NONCE = "n0nce-1"
ANOTHER = ["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups"]
LISTEN = """
import socket, sys
s = socket.socket()
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen()
print("ready", flush=True)
sys.stdin.read()
"""
# By port: of root, of another user than the agent's, in another network namespace.
LISTENERS = {"1081": [], "1082": ANOTHER, "1083": ["unshare", "-n"]}
NEEDED = ("sys_ptrace", "dac_read_search", "sys_admin")
TRIALS = {
    "none": (),
    "sys_ptrace": ("sys_ptrace",),
    "dac_read_search": ("dac_read_search",),
    "two": ("sys_ptrace", "dac_read_search"),
    "three": NEEDED,
    "four": (*NEEDED, "net_admin"),
}


def main() -> None:
    with contextlib.ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.NamedTemporaryFile()).name)
        file.write_bytes(executable(PYTHON))
        file.chmod(0o644)
        for port, prefix in LISTENERS.items():
            line = [*prefix, PYTHON, "-IS", "-c", LISTEN, port]
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(line, stdin=pipe, stdout=pipe))
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        found = {name: census(file, user(capabilities)) for name, capabilities in TRIALS.items()}
        bounded = ",".join(["-all", *(f"+{name}" for name in NEEDED)])
        found["root of three"] = census(file, ["setpriv", "--bounding-set", bounded])
        found["root"] = census(file, [])
        sys.stdout.write(json.dumps(found))


def user(capabilities: tuple[str, ...]) -> list[str]:
    """A user who has these capabilities and no others, through exec(2) too."""
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if capabilities:
        some = ",".join(f"+{name}" for name in capabilities)
        words += ["--inh-caps", some, "--ambient-caps", some]
    return words


def census(file: Path, prefix: list[str]) -> dict[str, list[str]]:
    """The codes of the gaps; the ports that were seen at all; those whose owners were."""
    line = [*prefix, PYTHON, "-IS", str(file)]
    done = subprocess.run(line, input=tell(AgentConfig(NONCE)), capture_output=True, timeout=60, check=False)
    document = json.loads(read_frame(NONCE, Reply(done.returncode, done.stdout, done.stderr)))
    rows = {str(row.get("port")): row for row in document["sockets"] if str(row.get("port")) in LISTENERS}
    return {
        "gaps": sorted({gap["code"] for gap in document["coverage"]["gaps"]} - {"pid_namespace"}),
        "seen": sorted(rows),
        "owned": sorted(port for port, row in rows.items() if row["owners"]),
    }


if __name__ == "__main__":
    main()
