"""A server that dies and leaves its listening socket to a shell it had started.

Usage: report_server.py ADDRESS PORT. The shell waits on the stdin it inherits.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def main() -> None:
    """Listen, start the shell with the listener open, and end."""
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    os.set_inheritable(listener.fileno(), True)
    shell = subprocess.Popen(
        ["/bin/sh", "-c", "read -r answer; echo done"], stdout=subprocess.DEVNULL, close_fds=False
    )
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    # Not an ordinary exit: nobody waits for the shell, which is the point.
    os._exit(0 if shell.poll() is None else 1)


if __name__ == "__main__":
    main()
