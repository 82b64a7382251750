"""The origin case: a web server that starts a shell for a request and forgets that it inherits the socket.

Usage: webshop.py ADDRESS PORT. Requests its own /export once, so that the shell is there from the start.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

EXPORTS: list[subprocess.Popen[bytes]] = []


class Shop(BaseHTTPRequestHandler):
    """Answers every request; /export starts a shell that waits for input for ever."""

    timeout = 5

    def do_GET(self) -> None:
        """Start the shell on /export, and say hello."""
        if self.path == "/export":
            EXPORTS.append(start_export())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"demo shop\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request."""


def start_export() -> subprocess.Popen[bytes]:
    """A shell that waits on its stdin. close_fds=False is the mistake: the listener goes along."""
    command = ["/bin/sh", "-c", "read -r answer; echo done"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, close_fds=False)


def main() -> None:
    """Serve until killed."""
    server = HTTPServer((sys.argv[1], int(sys.argv[2])), Shop)
    # Python closes descriptors on exec by default (PEP 446); the C servers of the real story do not.
    os.set_inheritable(server.fileno(), True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    customer = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    customer.request("GET", "/export")
    customer.getresponse().read()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    serving.join()


if __name__ == "__main__":
    main()
