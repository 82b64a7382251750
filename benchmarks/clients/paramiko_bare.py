"""Reference: the loop that everybody writes first, paramiko's SSHClient in threads."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko


def main() -> None:
    """Ask every host of the fleet file; a line for each complete answer, and at last the seconds it took."""
    fleet = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    payload = Path(fleet["payload"]).read_bytes()

    def ask(host: list[object]) -> bytes:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507  (the cheapest one can do)
        client.connect(
            str(host[0]),
            int(str(host[1])),
            fleet["user"],
            key_filename=fleet["key"],
            look_for_keys=False,
            allow_agent=False,
        )
        with client:
            stdin, stdout, _ = client.exec_command(fleet["command"])
            stdin.write(payload)
            stdin.channel.shutdown_write()
            return stdout.read()

    began = time.monotonic()
    with ThreadPoolExecutor(fleet["forks"]) as pool:
        for answer in pool.map(ask, fleet["hosts"]):
            if fleet["mark"].encode() in answer:
                print("answered")
    print(f"seconds {time.monotonic() - began:.6f}")


if __name__ == "__main__":
    main()
