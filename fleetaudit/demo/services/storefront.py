"""A clean prefork server: a parent and three workers of the same program share one listening socket.

Usage: storefront.py ADDRESS PORT.
"""

from __future__ import annotations

import os
import select
import socket
import sys

WORKERS = 3


def work(listener: socket.socket, parent: int) -> None:
    """Answer connections until the parent is gone: `parent` is a pipe that only the parent holds open."""
    while True:
        ready, _, _ = select.select([listener.fileno(), parent], [], [])
        if parent in ready:
            return
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):  # another worker was faster, or the client is gone
            continue
        with client:
            client.setblocking(True)
            client.settimeout(5)
            try:
                client.recv(4096)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\ndemo storefront\n")
            except OSError:
                continue


def main() -> None:
    """Serve until killed."""
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    listener.setblocking(False)
    ours, theirs = os.pipe()
    for _ in range(WORKERS):
        if os.fork() == 0:
            os.close(theirs)
            work(listener, ours)
            os._exit(0)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    for _ in range(WORKERS):
        os.wait()


if __name__ == "__main__":
    main()
