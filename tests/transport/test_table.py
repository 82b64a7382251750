from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import ConnectError, InventoryError
from fleetaudit.model import Host
from fleetaudit.transport import TRANSPORTS, SshOptions, Transports
from fleetaudit.transport.memory import MemoryTransport
from tests.transport.conversations import Send


def test_every_name_of_the_table_opens() -> None:
    with Transports(SshOptions()) as transports:
        transports.prepare([Host(name, name, transport=name) for name in TRANSPORTS])
        assert transports.get("ssh") is transports.get("ssh")


def test_an_unknown_name_says_what_there_is() -> None:
    with (
        Transports(SshOptions()) as transports,
        pytest.raises(InventoryError, match=r"'winrm'.*local, openssh, ssh"),
    ):
        transports.prepare([Host(name, name, transport=name) for name in ("local", "winrm")])


def test_the_local_transport_does_not_import_an_ssh_library() -> None:
    code = (
        "import sys; from fleetaudit.transport import SshOptions, Transports; import fleetaudit.collection;"
        "Transports(SshOptions()).get('local');"
        "sys.exit(any(name in sys.modules for name in ('paramiko', 'cryptography')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_answers_by_a_function_until_it_is_cancelled() -> None:
    host = Host("web1", "web1", transport="memory")

    def answer(target: Host, command: str, conversation: Conversation) -> Reply:
        return Reply(0, f"{target.name} {command} ".encode() + conversation.start().data, b"")

    with Transports(SshOptions(), {"memory": MemoryTransport(answer)}) as transports:
        memory = transports.get("memory")
        deadline = time.monotonic() + 5
        assert memory.run(host, "look", Send(b"data"), deadline).stdout == b"web1 look data"
        transports.cancel()
        with pytest.raises(ConnectError, match="cancelled"):
            memory.run(host, "look", Send(), deadline)
