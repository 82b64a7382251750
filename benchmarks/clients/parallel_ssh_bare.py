"""Reference: parallel-ssh (libssh2 under gevent). Runs where parallel-ssh is installed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Ask every host of the fleet file; a line for each complete answer."""
    clients = importlib.import_module("pssh.clients")
    config = importlib.import_module("pssh.config")
    fleet: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    payload = Path(fleet["payload"]).read_bytes()
    client = clients.ParallelSSHClient(
        [address for address, _ in fleet["hosts"]],
        host_config=[
            config.HostConfig(user=fleet["user"], port=port, private_key=fleet["key"])
            for _, port in fleet["hosts"]
        ],
        pool_size=fleet["forks"],
        allow_agent=False,
    )
    outputs = client.run_command(fleet["command"], stop_on_errors=False)
    for output in outputs:
        if output.exception is None:
            output.client.eagain_write(output.channel.write, payload)
            output.client.eagain(output.channel.send_eof)
    for output in outputs:
        if output.exception is None and any(fleet["mark"] in line for line in output.stdout):
            print("answered")


if __name__ == "__main__":
    main()
