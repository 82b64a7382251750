"""A demo host's first process: starts its services, reaps what is orphaned, and takes all along when it ends.

Run by path on an isolated interpreter. One line of JSON on stdin, `[{"name", "argv", "ends"}, ...]`;
one line of JSON on stdout, `{"ports": {NAME: PORT}}` once every service listens, or `{"error": TEXT}`.
End of file on stdin means that the host's acceptor is gone: the host ends.

In a pid namespace of its own the kernel kills what is left when this process ends. Elsewhere every process
ends by itself: servers are killed by the kernel with their parent, shells and workers read end of file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
READY_WITHIN = 20.0  # seconds for one service; a loaded machine is slow, a broken service fails at once
GONE_WITHIN = 5.0  # seconds for what was killed or read end of file to be reaped
LIBC = ctypes.CDLL(None)
PID = os.getpid()


class ServiceFailed(Exception):
    """A service did not come up."""


class Service:
    """One started service. `ends`: it is ready when it has ended well, not while it runs."""

    def __init__(self, name: str, argv: list[str], ends: bool) -> None:
        self.name, self.ends = name, ends
        # The write end of stdin stays here: what a service leaves behind reads end of file when we are gone.
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            preexec_fn=die_with_parent,  # noqa: PLW1509  (this process has one thread)
        )

    def await_port(self) -> int:
        """The port it listens on. Raises ServiceFailed when it ends or stays silent instead."""
        if self.process.stdout is None:
            raise ServiceFailed(f"{self.name} has no output to read")
        with self.process.stdout as output:
            ready, _, _ = select.select([output], [], [], READY_WITHIN)
            line = output.readline() if ready else b""
        if not line.strip().isdigit():
            raise ServiceFailed(f"the service {self.name} did not say its port")
        if self.ends and self.process.wait(READY_WITHIN) != 0:
            raise ServiceFailed(f"the service {self.name} ended with {self.process.returncode}")
        return int(line)


def die_with_parent() -> None:
    """In a fresh child: be killed when init dies, or end now if it already has."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != PID:
        os._exit(1)


def say(value: dict[str, object]) -> None:
    """One line of JSON to whoever started this host; the only line there is."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def reap() -> bool:
    """Collect every child that has ended. False when there is no child at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def supervise(wakeup: int) -> None:
    """Reap children until stdin ends. `wakeup` becomes readable when a child has ended."""
    while True:
        reap()
        ready, _, _ = select.select([0, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 512)
        if 0 in ready and not os.read(0, 512):
            return


def end(services: list[Service]) -> None:
    """Kill the services, give the rest end of file, and reap all of it."""
    if PID == 1:
        return  # the kernel is quicker, and spares nobody (pid_namespaces(7))
    for service in services:
        with contextlib.suppress(OSError):
            service.process.kill()
        if service.process.stdin is not None:
            service.process.stdin.close()
    deadline = time.monotonic() + GONE_WITHIN
    while reap() and time.monotonic() < deadline:
        time.sleep(0.01)


def main() -> int:
    """Start, report, supervise, end."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)  # outside a pid namespace, orphans come to this process too
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    services: list[Service] = []
    try:
        ports = {}
        for entry in json.loads(os.read(0, 65536)):
            service = Service(entry["name"], entry["argv"], entry["ends"])
            services.append(service)
            ports[service.name] = service.await_port()
        say({"ports": ports})
        supervise(reader)
    except (ServiceFailed, OSError, subprocess.TimeoutExpired) as error:
        say({"error": str(error)})
        return 1
    finally:
        end(services)
    return 0


if __name__ == "__main__":
    sys.exit(main())
