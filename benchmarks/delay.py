"""A link that takes its time: two network namespaces joined by a pair of tunnels, relayed here.

    python -m benchmarks.delay SECONDS COMMAND...

COMMAND runs in the far namespace, on `FAR`; the near end comes up in the caller's. Every packet waits SECONDS
each way. For kernels without netem. Ends with the command, or when stdin ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import struct
import subprocess
import sys
import time
from collections import deque

from benchmarks.loads import raise_loopback

NEAR, FAR = "10.77.0.1", "10.77.0.2"
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_PACKET = 2048  # above the interface's 1500 bytes


def main() -> int:
    """Relay until the command or stdin ends."""
    delay, command = float(sys.argv[1]), sys.argv[2:]
    near = _tunnel("near", NEAR)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    raise_loopback()
    far = _tunnel("far", FAR)
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        relay(near, far, delay, process)
        process.kill()
        return 0


def _tunnel(name: str, address: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    subprocess.run(["ip", "address", "add", f"{address}/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up", "mtu", "1500"], check=True)
    return descriptor


def relay(near: int, far: int, delay: float, process: subprocess.Popen[bytes]) -> None:
    """Pass packets on in their order, each `delay` seconds after it came."""
    waiting: deque[tuple[float, int, bytes]] = deque()
    other = {near: far, far: near}
    with selectors.DefaultSelector() as selector:
        for descriptor in (near, far, sys.stdin.fileno()):
            selector.register(descriptor, selectors.EVENT_READ)
        while process.poll() is None:
            pause = max(waiting[0][0] - time.monotonic(), 0) if waiting else 1.0
            for key, _ in selector.select(pause):
                if key.fd not in other:
                    return
                waiting.append((time.monotonic() + delay, other[key.fd], os.read(key.fd, _PACKET)))
            while waiting and waiting[0][0] <= time.monotonic():
                _, target, packet = waiting.popleft()
                os.write(target, packet)


if __name__ == "__main__":
    sys.exit(main())
