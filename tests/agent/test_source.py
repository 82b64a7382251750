"""The shipped file itself: one source for every Python since 3.6, and an answer whatever happens."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.agent import agent, packing, payload
from fleetaudit.agent.launch import read_frame
from fleetaudit.conversation import Reply
from fleetaudit.errors import OutputError
from tests.agent.looking import NONCE, Start, interpreters, pids, socket_on, take_census


def run(program: bytes, interpreter: str = sys.executable) -> Reply:
    done = subprocess.run(
        [interpreter, "-I", "-S", "-"], input=program, capture_output=True, timeout=60, check=False
    )
    return Reply(done.returncode, done.stdout, done.stderr)


def test_the_source_is_python_3_6_in_ascii() -> None:
    source = payload.agent_source()
    ast.parse(source.decode("ascii"), feature_version=(3, 6))


@pytest.mark.parametrize("interpreter", interpreters())
def test_every_interpreter_gives_the_same_owners(start: Start, interpreter: str) -> None:
    facts = start("""
s = listener()
pid = os.fork()
if pid == 0:
    wait()
threading.Thread(target=threading.Event().wait, daemon=True).start()
ready(socket=inode(s), pids=[os.getpid(), pid])
""")
    other = start("s = listener()\nready(socket=inode(s))", prefix=["unshare", "-n"])
    document = take_census(interpreter=[interpreter, "-I", "-S", "-"])
    assert pids(socket_on(document, facts["socket"])) == set(facts["pids"])
    assert socket_on(document, other["socket"])["netns"] != socket_on(document, facts["socket"])["netns"]


def test_start_up_imports_are_c_modules_or_already_there() -> None:
    names = {
        alias.name
        for node in ast.walk(ast.parse(payload.agent_source()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert names == {"errno", "posix", "sys", "time", "_socket"}
    code = """
import sys
before = set(sys.modules)
exec(compile(sys.stdin.read(), "agent", "exec"), {"__name__": "x"})
files = [getattr(sys.modules[name], "__file__", "") for name in set(sys.modules) - before]
print([name for name in files if str(name).endswith(".py")])
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        input=payload.agent_source(),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"[]\n"


def test_a_bare_run_needs_no_configuration() -> None:
    document = json.loads(read_frame("bare", run(payload.script())))
    assert document["host"]["name"] == document["host"]["hostname"]
    assert (document["agent"]["version"], document["agent"]["sha256"]) == (None, None)


def test_the_configuration_reaches_the_document() -> None:
    config = payload.AgentConfig(nonce=NONCE, name='we"b\n1')
    document = json.loads(read_frame(NONCE, run(payload.build(config))))
    assert document["schema"] == "fleetaudit.snapshot/1"
    assert document["host"]["name"] == 'we"b\n1'
    assert document["agent"]["sha256"] == payload.agent_sha256()
    assert document["agent"]["mode"] == "walk"
    assert document["agent"]["interpreter"] == "python " + ".".join(map(str, sys.version_info[:3]))
    assert document["collected_at"].endswith("Z")
    assert len(document["collected_at"]) == len("2026-11-22T10:00:00.123Z")


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": ""},
        {"nonce": "a b"},
        {"nonce": "a\n"},
        {"argv": "some"},
        {"budget_seconds": 0},
        {"max_output": 0},
        {"budget_mib": 1},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        payload.AgentConfig(**{"nonce": "n", **wrong})


def test_a_crash_is_an_error_in_a_frame() -> None:
    source = payload.agent_source().decode("ascii")
    broken = source.replace("    coverage = Coverage()\n", "    coverage = Coverage(1)\n")
    line = broken[: broken.index("Coverage(1)")].count("\n") + 1
    reply = run(b'FLEETAUDIT = {"nonce": "%s"}\n' % NONCE.encode() + packing.pack(broken))
    assert reply.exit_status == 0
    with pytest.raises(OutputError, match=rf"the agent failed: TypeError: .* in agent.py:{line}$"):
        read_frame(NONCE, reply)


def test_nothing_is_written_and_nothing_is_left(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    opened = """
import sys
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & 0o1103:
        raise SystemExit("opened for writing: %r" % (args,))
    if event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "os.truncate", "os.chmod",
                 "os.kill", "os.fork", "os.exec", "socket.connect", "socket.bind", "subprocess.Popen"):
        raise SystemExit(event)
sys.addaudithook(hook)
exec(compile(sys.stdin.read(), "agent", "exec"))
"""
    trace.write_text(opened)
    document = take_census(interpreter=[sys.executable, "-I", str(trace)])
    assert document["sockets"] is not None


def test_an_empty_encoder_is_json() -> None:
    value = {"a": [1, 2.5, True, None, 'q"\\\x7f\u2028'], "b": {}, "c": ()}
    assert json.loads(agent.encode(value)) == json.loads(json.dumps(value))
    assert agent.encode(value).isascii()
