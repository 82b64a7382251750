"""What is sent to a host: one line of configuration, then the packed agent.

The host's Python must compile the source on every run, which is most of what a quiet host pays. So what only
readers need stays here, and the rest travels compressed, as a few pieces compiled one after the other: memory
for one syntax tree is cheaper than fresh memory for all of them. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
import zlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from threading import Lock

from fleetaudit import __version__

ARGV_MODES = ("redacted", "full", "none")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PIECE_LINES = 150
# Python 3.6 and modules in C only. The newlines make tracebacks speak of lines of agent.py.
_LOADER = """\
import zlib,binascii
L=0
for P in zlib.decompress(binascii.a2b_base64("{}")).split(b"\\0"):
    exec(compile(b"\\n"*L+P,"agent.py","exec"))
    L+=P.count(b"\\n")
"""
_packing = Lock()


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What one run asks of the agent on one host. `max_output` is in bytes of JSON.

    `name` is the controller's name of the host. Raises ValueError for what the agent could not use.
    """

    nonce: str
    name: str | None = None
    argv: str = "redacted"
    budget_seconds: float = 30
    max_output: int = 16 << 20

    def __post_init__(self) -> None:
        check_nonce(self.nonce)
        if self.argv not in ARGV_MODES:
            raise ValueError(f"argv is one of {', '.join(ARGV_MODES)}")
        if not 0 < self.budget_seconds < 86_400 or self.max_output <= 0:
            raise ValueError("budget_seconds lies between 0 and 86400, max_output above 0")


def check_nonce(nonce: str) -> None:
    """Raises ValueError for a nonce that could not stand unquoted in a shell command and a frame's marker."""
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce has 1 to 128 letters, digits, _ or -")


@cache
def agent_source() -> bytes:
    """The agent as it is in the package."""
    return files("fleetaudit.agent").joinpath("agent.py").read_bytes()


@cache
def agent_sha256() -> str:
    """The hash by which snapshots name the agent that wrote them."""
    return hashlib.sha256(agent_source()).hexdigest()


def build(config: AgentConfig) -> bytes:
    """The program for one host, to be fed to `python3 -I -S -`."""
    values: dict[str, str | float | None] = {
        "nonce": config.nonce,
        "sha256": agent_sha256(),
        "version": __version__,
        "argv": config.argv,
        "budget_seconds": config.budget_seconds,
        "max_output": config.max_output,
        "name": config.name,
    }
    with _packing:  # the threads of a fleet all begin here at once, and one packing is enough
        packed = _packed_agent()
    return f"FLEETAUDIT = {values!a}\n".encode("ascii") + packed


def script() -> bytes:
    """The program to read or to run by hand: it needs no configuration."""
    return agent_source()


@cache
def _packed_agent() -> bytes:
    return pack(agent_source().decode("ascii"))


# ---------------------------------------------------------------- packing (pure)


def pack(source: str) -> bytes:
    """A program that does what `source` does, stripped and compressed. Raises SyntaxError, ValueError.

    ValueError means that the source is not ASCII or holds a NUL.
    """
    pieces = [piece.encode("ascii") for piece in _pieces(strip(source))]
    if any(b"\0" in piece for piece in pieces):
        raise ValueError("a NUL separates the pieces, so the source may hold none")
    return _LOADER.format(b64encode(zlib.compress(b"\0".join(pieces), 9)).decode("ascii")).encode("ascii")


def _pieces(source: str) -> Iterator[str]:
    """The source cut between top-level statements, to be compiled one by one; joined they are the source."""
    lines = source.splitlines(keepends=True)
    start = 0
    for statement in ast.parse(source).body:
        end = statement.end_lineno or start
        if end - start >= _PIECE_LINES:
            yield "".join(lines[start:end])
            start = end
    yield "".join(lines[start:])


def strip(source: str) -> str:
    """The ASCII source without comments, docstrings, annotations and three quarters of its indentation.

    Text is only cut out, so the result needs no newer Python than the source; lines keep their numbers.
    """
    tree = ast.parse(source)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines()
    cuts = [*_comments(tokens), *_notes(tree), *_annotations(tree, tokens)]
    for start, end, left in sorted(cuts, reverse=True):
        _cut(lines, start, end, left)
    in_strings = {line for token in tokens for line in range(token.start[0] + 1, token.end[0] + 1)}
    for number, line in enumerate(lines, 1):
        if number not in in_strings:
            code = line.lstrip(" ")
            lines[number - 1] = " " * ((len(line) - len(code)) // 4) + code
    return "\n".join(lines) + "\n"


# (line, column) of the first character and behind the last, and what stays in the place of the text between
_Place = tuple[int, int]
_Cut = tuple[_Place, _Place, str]


def _cut(lines: list[str], start: _Place, end: _Place, left: str) -> None:
    head, tail = lines[start[0] - 1][: start[1]], lines[end[0] - 1][end[1] :]
    text = (head + left if left else head.rstrip()) + "\n" * (end[0] - start[0]) + tail
    lines[start[0] - 1 : end[0]] = text.split("\n")


def _comments(tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    return ((token.start, token.end, "") for token in tokens if token.type == tokenize.COMMENT)


def _notes(tree: ast.AST) -> Iterator[_Cut]:
    """Docstrings, and other strings that stand alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            notes = [item for item in node.body if _is_note(item)]
            needed = len(notes) == len(node.body) and not isinstance(node, ast.Module)
            for note in notes:
                yield *_span(note), "pass" if needed else ""


def _is_note(item: ast.stmt) -> bool:
    constant = item.value if isinstance(item, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


def _annotations(tree: ast.AST, tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    arrows = [token.start for token in tokens if token.string == "->"]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation:
            yield (node.lineno, node.col_offset + len(node.arg)), _span(node)[1], ""
        elif isinstance(node, ast.AnnAssign):
            start = _span(node.target)[1] if node.value else _span(node)[0]
            yield start, _span(node.annotation)[1], "" if node.value else "pass"
        elif isinstance(node, ast.FunctionDef) and node.returns:
            start, end = _span(node.returns)
            yield max(arrow for arrow in arrows if arrow < start), end, ""


def _span(node: ast.expr | ast.stmt | ast.arg) -> tuple[_Place, _Place]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
