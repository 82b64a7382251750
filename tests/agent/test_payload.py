"""What goes over the wire: the agent without what only readers need, doing exactly the same."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fleetaudit.agent import payload
from fleetaudit.agent.launch import read_frame
from fleetaudit.conversation import Reply
from tests.agent.looking import NONCE, Document, Start, interpreters, pids

BUDGET = 24 * 1024  # bytes on the wire for one host

EVERYTHING = '''\
"""What this is
in two lines."""
import sys  # the system


@staticmethod
def noted(
    a: "int", b: "dict[str, int]" = {"#": 1}, *rest: int, key: "str" = "->", **more: "list[int]"
) -> "tuple[int, str]":  # -> str
    """A docstring -> 'with' # things."""
    value: int = 1  # note
    later: "str"
    self.seen: "set[str]" = set()
    text = """ kept  \x20
    # this is no comment
        and this no docstring
"""
    return (lambda x: x)(value), text, [i for i in {1: 2}], f"{value:03d}#"


class Empty(Exception):
    """Nothing but words."""


class Full:
    """Words."""

    "more words"
    slots = ()  # none

    def only(self) -> None:
        """Words."""

    def nested(self, f: "object") -> "object":
        def inner(
            x: """two
lines""",
        ) -> "int":
            """Inner."""
            return x
        if f:
            # why
            return inner
        return (
            1 +
            # between
            2
        )
'''


class WithoutWords(ast.NodeTransformer):
    """The same removals as `payload.strip`, on the tree instead of the text."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.without_notes(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self.without_notes(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self.without_notes(node)

    def without_notes(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        notes = [item for item in node.body if isinstance(item, ast.Expr) and is_text(item.value)]
        rest = [item for item in node.body if item not in notes]
        node.body = rest or [ast.Pass() for _ in notes]
        return node  # type: ignore[no-any-return]  # three node classes with a body


def is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def lines_of(tree: ast.AST) -> list[tuple[str, int]]:
    named = (ast.FunctionDef, ast.ClassDef, ast.Return, ast.Call)
    return sorted((type(node).__name__, node.lineno) for node in ast.walk(tree) if isinstance(node, named))


def agent_text() -> str:
    return payload.agent_source().decode("ascii")


def run(program: bytes, interpreter: str = sys.executable) -> Reply:
    command = [interpreter, "-I", "-S", "-"]
    done = subprocess.run(command, input=program, capture_output=True, timeout=60, check=False)
    return Reply(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("source", [EVERYTHING, agent_text()], ids=["everything", "agent"])
def test_stripped_is_the_same_program(source: str) -> None:
    stripped = payload.strip(source)
    tree = ast.parse(stripped, feature_version=(3, 6))
    expected = WithoutWords().visit(ast.parse(source))
    assert ast.dump(tree) == ast.dump(expected)
    assert lines_of(tree) == lines_of(expected)


def test_nothing_for_readers_is_left() -> None:
    stripped = payload.strip(EVERYTHING)
    for words in (
        "What this is",
        "the system",
        "note\n",
        "Words",
        "Inner",
        "why",
        "between",
        ") ->",
        ": int",
    ):
        assert words in EVERYTHING
        assert words not in stripped
    assert "    # this is no comment\n        and this no docstring\n" in stripped


@pytest.mark.parametrize("interpreter", interpreters())
def test_packed_and_plain_see_the_same(start: Start, interpreter: str) -> None:
    facts = start("""
s = listener()
other = listener(socket.AF_INET6, "::1")
u = socket.socket(socket.AF_UNIX)
u.bind(b"\\0packed-%d" % os.getpid())
u.listen(1)
pid = os.fork()
if pid == 0:
    wait()
ready(ports=[s.getsockname()[1], other.getsockname()[1]], pids=[os.getpid(), pid])
""")
    packed = payload.build(payload.AgentConfig(nonce=NONCE))
    plain = packed.splitlines()[0] + b"\n" + payload.agent_source()
    documents = [json.loads(read_frame(NONCE, run(program, interpreter))) for program in (packed, plain)]
    first, second = [sockets_of(document, set(facts["pids"])) for document in documents]
    assert len(first) == 3
    assert first == second
    holders = {item["port"]: pids(item) for item in first if item["protocol"] == "tcp"}
    assert holders == {port: set(facts["pids"]) for port in facts["ports"]}


def sockets_of(document: Document, owners: set[int]) -> list[Document]:
    return [item for item in document["sockets"] if pids(item) & owners]


@pytest.mark.parametrize("interpreter", interpreters())
def test_a_traceback_names_the_line_of_the_source(interpreter: str) -> None:
    source = "".join(f"def f{n}():\n    # why\n    return {n}\n\n\n" for n in range(200))
    source += "print(f0() + f199())\n# then\nprint(__name__, 1 // f0())\n"
    reply = run(payload.pack(source), interpreter)
    assert reply.stdout == b"199\n"
    assert b'File "agent.py", line 1003, in <module>' in reply.stderr
    assert b"ZeroDivisionError" in reply.stderr


def test_what_is_sent_stays_small() -> None:
    longest = payload.AgentConfig(nonce="n" * 128, name="h" * 253)
    assert len(payload.build(longest)) <= BUDGET


def test_snapshots_are_named_by_the_packaged_file() -> None:
    digest = hashlib.sha256(payload.agent_source()).hexdigest()
    assert payload.agent_sha256() == digest
    assert payload.script() == payload.agent_source()
    assert digest.encode() in payload.build(payload.AgentConfig(nonce=NONCE)).splitlines()[0]


def test_a_fleet_packs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[str] = []
    pack = payload.pack

    def counted(source: str) -> bytes:
        packed.append(source)
        return pack(source)

    monkeypatch.setattr(payload, "pack", counted)
    payload._packed_agent.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        configs = [payload.AgentConfig(nonce=f"n{number}") for number in range(8)]
        programs = list(pool.map(payload.build, configs))
    assert len(packed) == 1
    assert len(set(programs)) == 8


@pytest.mark.parametrize("source", ["x = '\0'\n", "x = '\u00e4'\n", "x = (\n"], ids=["nul", "text", "broken"])
def test_a_source_that_cannot_be_packed_is_refused(source: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        payload.pack(source)
