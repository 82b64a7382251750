"""Stands for a database: listens, greets, hangs up. What matters is the address it is bound to.

Usage: database.py ADDRESS PORT.
"""

from __future__ import annotations

import contextlib
import socket
import sys


def main() -> None:
    """Serve until killed."""
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        with contextlib.suppress(ConnectionError):
            client, _ = listener.accept()
            with client:
                client.sendall(b"demo database without data\n")


if __name__ == "__main__":
    main()
