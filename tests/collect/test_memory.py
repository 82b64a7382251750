"""Results stream: what a run keeps in memory for a host is its place in the index, not its snapshot."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import pytest

from fleetaudit.agent.launch import AgentConversation
from fleetaudit.collection import Agent, Collection, CollectOptions
from fleetaudit.conversation import Conversation, Reply
from fleetaudit.journal import Journal
from fleetaudit.judgement import report
from fleetaudit.model import Host, Run
from fleetaudit.report import RENDERERS, RenderOptions, drive, parquet_rows, parts
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import Gate, Tally
from fleetaudit.transport import SshOptions, Transports
from fleetaudit.transport.memory import MemoryTransport
from tests.build import policy

FEW, MANY = 200, 2000
# Of a host: its place in the index, and its record in the JSON report, where hosts come after results.
INDEX_BYTES = 1000
SNAPSHOT = json.dumps(
    {
        "schema": "fleetaudit.snapshot/1",
        "host": {"name": "x"},
        "coverage": {"complete": True, "gaps": []},
        "network_namespaces": [],
        "sockets": [
            {
                "protocol": "tcp",
                "state": "LISTEN",
                "family": "inet",
                "address": "0.0.0.0",
                "port": 80,
                "path": None,
                "inode": 7,
                "netns": 1,
                "owner_state": "owned",
                "owners": [{"pid": 10, "fds": [3]}],
            }
        ],
        "processes": {"10": {"ppid": 1, "start_time": 5, "comm": "x", "argv": ["x" * 9000]}},
    }
).encode()
POLICY = "version: 1\nname: p\nrules:\n  - {id: r, deny_owners: [{comm: bad}]}\n"


def answer(host: Host, command: str, conversation: Conversation) -> Reply:
    return Reply(0, SNAPSHOT, b"")


def audit(directory: Path, count: int) -> int:
    """The most bytes in use at a time, over those for the list of hosts, while `count` hosts are audited."""
    hosts = [Host(f"h{number:05}", "", transport="memory") for number in range(count)]
    agent = Agent(
        lambda host, nonce: "",
        lambda host, nonce: AgentConversation(host, nonce, b""),
        lambda nonce, reply: reply.stdout,
    )
    policies = (policy(POLICY),)
    gc.collect()
    tracemalloc.start()
    try:
        journal = Journal.create(directory, f"run{count}")
        with (
            Transports(SshOptions(), {"memory": MemoryTransport(answer)}) as transports,
            Collection(
                hosts,
                transports,
                agent,
                new_nonce=lambda: "0" * 16,
                options=CollectOptions(forks=4),
            ) as collection,
        ):
            for collected in collection:
                journal.append(collected.line, collected.outcome.host)
        assert len(journal.answered) == count
        tally = Tally(Gate())
        document = report(
            map(decode_line, journal.lines_in_host_order()), policies, Run("r", "t", "t", "v"), tally
        )
        # A workbook is built in memory, up to a number of rows; no other format is.
        streaming = [name for name in RENDERERS if name != "xlsx"]
        renderers = [part.renderer for name in streaming for part in parts(name, RenderOptions())]
        for _ in drive(document, renderers):
            pass
        assert tally.summary().ok == count
        journal.close()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_index_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "_ROWS", 50)  # a row group, which is more than the hosts here have
    audit(tmp_path, 20)  # caches, imports
    few, many = audit(tmp_path, FEW), audit(tmp_path, MANY)
    assert len(SNAPSHOT) > 9000
    assert (many - few) / (MANY - FEW) < INDEX_BYTES, (few, many)
