"""Reference: ssh2-python (libssh2, blocking) in threads. Runs where ssh2-python is installed."""

from __future__ import annotations

import importlib
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def main() -> None:
    """Ask every host of the fleet file; a line for each complete answer."""
    session_module = importlib.import_module("ssh2.session")
    fleet: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    payload = Path(fleet["payload"]).read_bytes()

    def ask(host: tuple[str, int]) -> bytes:
        with socket.create_connection(host) as connection:
            session = session_module.Session()
            session.handshake(connection)
            session.userauth_publickey_fromfile(fleet["user"], fleet["key"])
            channel = session.open_session()
            channel.execute(fleet["command"])
            sent = 0
            while sent < len(payload):
                sent += channel.write(payload[sent:])[1]
            channel.send_eof()
            answer = bytearray()
            while True:
                size, data = channel.read(65536)
                if size <= 0:
                    return bytes(answer)
                answer += data

    with ThreadPoolExecutor(fleet["forks"]) as pool:
        for answer in pool.map(ask, [(address, port) for address, port in fleet["hosts"]]):
            if fleet["mark"].encode() in answer:
                print("answered")


if __name__ == "__main__":
    main()
