"""Process 1 of the fleet's own pid namespace: something that listens, and SSH servers for all hosts.

    python -m benchmarks.fleet_hosts '{"scene": [...], "sshd": "/usr/sbin/sshd", "configs": [...]}'

Prints a line when all of it is there and stays until stdin ends; then the kernel ends the rest.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

from benchmarks.loads import Scene, build

_SECONDS = 20.0  # for a server to answer


def main() -> None:
    """Build, say so, wait."""
    orders = json.loads(sys.argv[1])
    build(Scene(*orders["scene"]))
    for config in orders["configs"]:
        subprocess.Popen([orders["sshd"], "-D", "-e", "-f", config], stderr=subprocess.DEVNULL)
    for port in orders["ports"]:
        _await(port)
    print("ready", flush=True)
    sys.stdin.read()


def _await(port: int) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no SSH server answers on port {port}")


if __name__ == "__main__":
    main()
