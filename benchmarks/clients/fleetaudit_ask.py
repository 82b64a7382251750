"""fleetaudit's transport and conversation as an audit uses them, without what comes before and after."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.model import Host
from fleetaudit.transport.options import SshOptions
from fleetaudit.transport.ssh import open_transport

_NONCE = "benchmark"


def main() -> None:
    """Ask the hosts of the fleet file one after another; a line for each, and at last the seconds it took."""
    fleet = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    payload = build(AgentConfig(nonce=_NONCE, name="benchmark"))
    transport = open_transport(SshOptions(known_hosts=(fleet["known_hosts"],), keys=()))
    began = time.monotonic()
    for address, port in fleet["hosts"]:
        host = Host("host", address, port, user=fleet["user"], private_key=fleet["key"])
        conversation = AgentConversation(host, _NONCE, payload)
        reply = transport.run(host, command(host, _NONCE), conversation, time.monotonic() + 60)
        if read_frame(_NONCE, reply):
            print("answered")
    print(f"seconds {time.monotonic() - began:.6f}")
    transport.close()


if __name__ == "__main__":
    main()
