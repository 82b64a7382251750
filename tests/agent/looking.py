"""Real processes with real sockets, and the agent run over them as a host would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fleetaudit.agent.launch import read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.conversation import Reply
from fleetaudit.snapshot import decode

Document = dict[str, Any]
NONCE = "t-1"
MODES = ["walk"]  # of the agent: the last one
VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
# Becomes nobody only after the imports, so that an interpreter that only root may read serves as well.
AS_NOBODY = (
    "import _json, _socket, _struct, binascii, ctypes, hashlib, resource, os, sys, zlib;"
    "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
    "exec(compile(sys.stdin.buffer.read(), 'agent', 'exec'))"
)


class Start(Protocol):
    """Starts a Python program that prints one JSON value when it is ready and ends when its stdin does."""

    def __call__(self, code: str, *args: str, prefix: Sequence[str] = ()) -> Any: ...


def interpreters() -> list[str]:
    """$FLEETAUDIT_PYTHONS (colon-separated), else what pyenv and the system have, else our own."""
    named = [path for path in os.environ.get("FLEETAUDIT_PYTHONS", "").split(":") if path]
    roots = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions", Path("/opt/python")]
    found = [path for root in roots if root.is_dir() for path in root.glob("*/bin/python3")]
    found += [Path("/usr/bin") / f"python{version}" for version in VERSIONS]
    return named or sorted({str(path.resolve()) for path in [*found, Path(sys.executable)] if path.exists()})


def take_census(prefix: Sequence[str] = (), interpreter: Sequence[str] = (), **config: Any) -> Document:
    program = [*prefix, *(interpreter or (sys.executable, "-I", "-S", "-"))]
    payload = build(AgentConfig(nonce=NONCE, mode=MODES[-1], **config))
    done = subprocess.run(program, input=payload, capture_output=True, timeout=60, check=False)
    body = read_frame(NONCE, Reply(done.returncode, done.stdout, done.stderr))
    decode(body)  # every document is a valid snapshot
    document = json.loads(body)
    assert isinstance(document, dict)
    return document


PRELUDE = """
import ctypes, json, os, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def ready(**facts):
    print(json.dumps(facts), flush=True)
    wait()
def wait():
    os.read(0, 1)
    os._exit(0)
def listener(family=socket.AF_INET, address="127.0.0.1", backlog=7):
    s = socket.socket(family)
    s.bind((address, 0))
    s.listen(backlog)
    return s
def inode(s):
    return os.fstat(s.fileno()).st_ino
"""


def socket_on(document: Document, inode: int) -> Document:
    """The one socket with an inode: a port may be in use in several namespaces, and on several addresses."""
    (found,) = [item for item in document["sockets"] if item["inode"] == inode]
    assert isinstance(found, dict)
    return found


# Starts programs (name: path, argv...) that inherit its listener and wait on their stdin.
HOLDERS = """
wanted = json.loads(sys.argv[1])
s = listener()
os.set_inheritable(s.fileno(), True)
{setup}
pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
children = dict()
for name, (path, *argv) in wanted.items():
    children[name] = subprocess.Popen(argv, executable=path, close_fds=False, stdin=pipe, stdout=nowhere)
pids = dict((name, child.pid) for name, child in children.items())
print(json.dumps(dict(socket=inode(s), pid=os.getpid(), pids=pids)), flush=True)
os.read(0, 1)
for child in children.values():
    child.kill()
    child.wait()
"""


def hold(
    start: Start, programs: Mapping[str, Sequence[str | Path]], setup: str = "", prefix: Sequence[str] = ()
) -> Document:
    """Processes by name, each `path, argv...`, that inherited one listener: `socket`, `pid` and `pids`."""
    wanted = {name: [str(word) for word in program] for name, program in programs.items()}
    facts = start(HOLDERS.format(setup=setup), json.dumps(wanted), prefix=prefix)
    assert isinstance(facts, dict)
    return facts


def told_of(facts: Document, prefix: Sequence[str] = ()) -> dict[str, Document]:
    """What the agent says of each process that `hold` started; that it holds the listener is checked."""
    document = take_census(prefix)
    assert set(facts["pids"].values()) <= pids(socket_on(document, facts["socket"]))
    return {name: document["processes"][str(pid)] for name, pid in facts["pids"].items()}


def inside(facts: Document) -> list[str]:
    """A prefix that runs a program in the mount namespace of a started process."""
    return ["nsenter", f"--mount=/proc/{facts['pid']}/ns/mnt"]


def by_path(document: Document, path: str) -> Document:
    """The one unix socket with a path."""
    (found,) = [item for item in document["sockets"] if item["path"] == path]
    assert isinstance(found, dict)
    return found


def pids(found: Mapping[str, Any]) -> set[int]:
    return {owner["pid"] for owner in found["owners"]}


def codes(document: Document) -> set[str]:
    return {gap["code"] for gap in document["coverage"]["gaps"]}
