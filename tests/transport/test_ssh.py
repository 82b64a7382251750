from __future__ import annotations

import time

from fleetaudit.conversation import Reply, Say, Stream
from fleetaudit.transport.options import SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests.conftest import Sshd


class Send:
    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def start(self) -> Say:
        return Say(self.data, eof=True)

    def heard(self, stream: Stream, data: bytes) -> Say:
        return Say()


def test_x(sshd: Sshd) -> None:
    t = SshTransport(SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False))
    b = time.monotonic()
    try:
        r = t.run(sshd.host(), "cat; echo hi >&2; exit 3", Send(b"x" * 10_000_000), b + 20)
    finally:
        t.close()
    print(time.monotonic() - b)
    assert r == Reply(3, b"x" * 10_000_000, b"hi\n")
