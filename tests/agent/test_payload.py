"""What goes over the wire: the agent without what only readers need, doing exactly the same."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.agent import packing, payload
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
    pairs = [(first, 0 if first else -1) for first in rest if first not in (key, "b#")]
    try:
        later = dict(pairs, value=f" {value}  {{a}} " "x", second = lambda one, two = 2 : one < - two)
    except (OSError , ValueError) as later_error:
        raise RuntimeError ( "no" ) from later_error
    global total
    total, sum, counted = 1, later, f"""
   {   noted   }
{counted} {counted}"""
    shown = (
        f"{later!r:>{counted}}   {{{ value }}} "
        f"{shown_before} # {  text [1 : 2] }"
        if sum else f"{int ( value )} , {rest}"
    )
    return (lambda x: x)(value), later, text, [i for i in {1: 2}], f"{value:03d}#"


def shown_before(later_on):
    total_of = sum([later_on])
    return f"{total_of}"


class Empty(Exception):
    """Nothing but words."""


class Private:
    def _inner(self) -> "int":
        return shown_before(self._kept)

    def _shown(self) -> "str":
        return f"{self._shown}" if self. _inner() else self._inner . __name__

    def __enter__(self) -> "object":
        return Empty if self._inner else sys._getframe


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
    """The same removals as `packing.strip`, on the tree instead of the text."""

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


def fixed_names(tree: ast.AST) -> dict[str, str]:
    """What may not be renamed: what others call a class's, modules, keywords, and what is bound nowhere."""
    fixed: set[str | None] = set()
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            fixed.update(name for name in methods if not name.startswith("_") or name.endswith("__"))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.ExceptHandler):
            fixed.add(node.name)
        elif isinstance(node, ast.Global):
            fixed.update(node.names)
        elif isinstance(node, ast.alias):
            fixed.add(node.asname or node.name)
        elif isinstance(node, ast.keyword):
            fixed.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    fixed.add("sum")
    fixed |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - bound
    return {name: name for name in fixed if name}


NAMES = {ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name", ast.Attribute: "attr"}


def is_private(node: object) -> bool:
    return isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")


def assert_same(one: object, other: object, names: dict[str, str]) -> None:
    """The same tree but for its own names, each of which has one other name throughout."""
    assert type(one) is type(other)
    if isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right, names)
    elif isinstance(one, ast.AST) and isinstance(other, ast.AST):
        name = NAMES.get(type(one), "")
        if name and (name != "attr" or is_private(one) or is_private(other)):
            left, right = getattr(one, name), getattr(other, name)
            assert names.setdefault(left, right) == right
        else:
            name = ""
        for field in one._fields:
            if field != name:
                assert_same(getattr(one, field, None), getattr(other, field, None), names)
    else:
        assert one == other


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
    stripped = packing.strip(source)
    tree = ast.parse(stripped, feature_version=(3, 6))
    expected = WithoutWords().visit(ast.parse(source))
    assert_same(tree, expected, names=fixed_names(expected))
    assert_same(expected, tree, names=fixed_names(expected))
    assert len(stripped) < 0.75 * len(source)
    assert lines_of(tree) == lines_of(expected)


@pytest.mark.parametrize("interpreter", interpreters())
def test_every_controller_sends_the_same(tmp_path: Path, interpreter: str) -> None:
    (tmp_path / "everything.py").write_text(EVERYTHING)
    code = """
import sys
if sys.version_info >= (3, 10):
    sys.path.insert(0, sys.argv[1])
    from fleetaudit.agent.packing import strip
    sys.stdout.write(strip(open(sys.argv[2]).read()))
"""
    root = str(Path(__file__).parent.parent.parent)
    command = [interpreter, "-I", "-c", code, root, str(tmp_path / "everything.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout in (packing.strip(EVERYTHING), "")


def test_nothing_for_readers_is_left() -> None:
    stripped = packing.strip(EVERYTHING)
    gone = (
        "What this is",
        "the system",
        "note\n",
        "Words",
        "Inner",
        "why",
        "between",
        ") ->",
        ": int",
        "pairs",
        "_inner",
        "Empty",
    )
    for words in gone:
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
    reply = run(packing.pack(source), interpreter)
    assert reply.stdout == b"199\n"
    assert b'File "agent.py", line 1003, in <module>' in reply.stderr
    assert b"ZeroDivisionError" in reply.stderr


@pytest.mark.parametrize("interpreter", interpreters())
def test_whatever_the_bytes_the_loader_gets_them_back(interpreter: str) -> None:
    for length in range(8):
        text = "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(200)) + "x" * length
        packed = packing.pack(f"import sys\nsys.stdout.write('{text}')\n")
        assert set(packed) <= set(b"\n" + bytes(range(32, 127)))
        assert run(packed, interpreter).stdout == text.encode()


def test_the_loaders_names_are_not_the_programs() -> None:
    source = "".join(f"number_{n} = {n}\n" * (60 - n) + "# a line\n" * 10 for n in range(60))
    reply = run(packing.pack(source + "import sys\nsys.stdout.write(str(number_7))\n1 // number_0\n"))
    assert reply.stdout == b"7"
    assert f"line {source.count(chr(10)) + 3}, in <module>".encode() in reply.stderr


def test_the_package_has_the_agents_packed() -> None:
    """Compared unpacked: another zlib may press the same into other bytes."""
    for name, packed in payload.packed_files().items():
        kept = Path(payload.__file__).with_name(name).read_bytes()
        assert unpacked(kept) == unpacked(packed), "run `make agent`"


def unpacked(file: bytes) -> bytes:
    """Pieces as the loader gets them; and the loader itself."""
    before, quote, rest = file.partition(b'r"')
    digits, _, after = rest.partition(b' "')
    data = bytearray()
    for place in range(0, len(digits), 5):
        value = 0
        for digit in digits[place : place + 5]:
            value = value * 85 + digit - ord("#")
        data += value.to_bytes(4, "big")
    return before.partition(b"\n")[2] + quote + zlib.decompressobj().decompress(bytes(data)) + after


def test_another_source_is_not_sent_as_it_was_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = payload.agent_source() + b"# another\nanother = 1\n"
    monkeypatch.setattr(payload, "agent_source", lambda mode: changed)
    monkeypatch.setattr(payload, "agent_sha256", lambda mode="walk": "0" * 64)
    assert payload._packed_agent.__wrapped__("walk") == packing.pack(changed.decode())
    monkeypatch.undo()
    kept = Path(payload.__file__).with_name("agent.packed").read_bytes()
    assert payload._packed_agent.__wrapped__("walk") == kept.partition(b"\n")[2]


def test_the_accelerator_is_put_in_whole() -> None:
    source = payload.agent_source("bpf")
    assert source.count(b"WALKS.append(IteratedWalk)") == 1
    assert b"import fleetaudit" not in source
    assert b"from fleetaudit" not in source
    assert source.endswith(payload.MAIN)
    assert len(payload.build(payload.AgentConfig(NONCE, mode="bpf"))) < 32 << 10


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
    pack = packing.pack

    def counted(source: str) -> bytes:
        packed.append(source)
        return pack(source)

    monkeypatch.setattr(payload, "pack", counted)
    monkeypatch.setattr(payload, "agent_sha256", lambda mode="walk": "0" * 64)  # not that of agent.packed
    payload._packed_agent.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        configs = [payload.AgentConfig(nonce=f"n{number}") for number in range(8)]
        programs = list(pool.map(payload.build, configs))
    payload._packed_agent.cache_clear()
    assert len(packed) == 1
    assert len(set(programs)) == 8


@pytest.mark.parametrize(
    "source",
    ["x = '\0'\n", "x = '\u00e4'\n", "x = (\n", "def f(a): pass\nf(**{'a': 1})\n", "def f(a): locals()\n"],
    ids=["nul", "text", "broken", "keywords", "locals"],
)
def test_a_source_that_cannot_be_packed_is_refused(source: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        packing.pack(source)
