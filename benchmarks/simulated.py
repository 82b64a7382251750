"""A whole audit over hosts that are not there: every answer is one real snapshot.

    python -m benchmarks.simulated SNAPSHOT.json HOSTS

Only the wire is left out: collection, journal, twenty rules, JSON and CSV are those of `fleetaudit audit`.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from fleetaudit.agent.launch import AgentConversation, read_frame
from fleetaudit.cli.judging import conclude
from fleetaudit.cli.outputs import parse_outputs
from fleetaudit.collection import Agent, Collection
from fleetaudit.conversation import Conversation, Reply
from fleetaudit.journal import Journal
from fleetaudit.judgement import describe_run, require_targets, utc_now
from fleetaudit.judges import appoint
from fleetaudit.model import Boundary, Host, HostContext, HostStatus
from fleetaudit.snapshot import decode_line
from fleetaudit.transport import SshOptions, Transports
from fleetaudit.transport.memory import MemoryTransport

_FOLDER = Path(__file__).resolve().parent
_NONCE = "benchmark"


def main() -> None:
    """Audit them all."""
    snapshot, count = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        audit(snapshot, count, Path(folder))


def audit(snapshot: bytes, count: int, folder: Path) -> None:
    """One run; its journal and reports below `folder`. Raises RuntimeError if a host is missing in it."""
    context = HostContext(boundary=Boundary.CONTAINER)
    hosts = [Host(f"h{number:05}", "", transport="memory", context=context) for number in range(count)]
    digest = hashlib.sha256(snapshot).hexdigest().encode()
    frame = b"\nFLEETAUDIT-BEGIN %s %d %s\n" % (_NONCE.encode(), len(snapshot), digest)
    frame += snapshot + b"\nFLEETAUDIT-END %s\n" % _NONCE.encode()

    def answer(host: Host, command: str, conversation: Conversation) -> Reply:
        return Reply(0, frame, b"")

    agent = Agent(lambda host, nonce: "", lambda host, nonce: AgentConversation(host, nonce, b""), read_frame)
    judges = appoint((str(_FOLDER.parent / "policies"), str(_FOLDER / "fleet_policy.yaml")), utc_now())
    outputs = parse_outputs([f"json={folder}/r.json", f"csv={folder}/r.csv"], quiet=True)
    counted = require_targets(judges.policies, [(host.name, host.context) for host in hosts])
    started = utc_now()
    journal = Journal.create(folder, "run")
    transports = Transports(SshOptions(), {"memory": MemoryTransport(answer)})
    with transports, Collection(hosts, transports, agent, new_nonce=lambda: _NONCE) as collection:
        for collected in collection:
            journal.append(collected.line, collected.host, answered=collected.status is HostStatus.OK)
    if len(journal.answered) != count:
        raise RuntimeError(f"{len(journal.answered)} of {count} hosts answered")
    run = describe_run("run", started, counted, (), {})
    conclude(map(decode_line, journal.lines_in_host_order()), run, judges, outputs)
    journal.close()


if __name__ == "__main__":
    main()
