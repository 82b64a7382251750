"""This machine without SSH: the command under /bin/sh."""

from __future__ import annotations

from dataclasses import replace

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.model import Host
from fleetaudit.transport.options import SshOptions
from fleetaudit.transport.program import Programs


class LocalTransport:
    """Runs commands here, as the user who runs fleetaudit."""

    def __init__(self) -> None:
        self._programs = Programs()

    def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
        """See `Transport.run`. The address and login of the host are not used."""
        del host
        reply = self._programs.run(["/bin/sh", "-c", command], conversation, deadline)
        # A signal has the number a shell would report; -1 is kept for a lost link.
        return reply if reply.exit_status >= 0 else replace(reply, exit_status=128 - reply.exit_status)

    def cancel(self) -> None:
        """See `Transport.cancel`."""
        self._programs.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        self.cancel()


def open_transport(options: SshOptions) -> LocalTransport:
    """The factory that the transport table names; no SSH option matters here."""
    del options
    return LocalTransport()
