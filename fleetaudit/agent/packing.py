"""The agent made small for the wire: the same program without what only readers need, compressed.

Controller side, pure. A host compiles the source on every run, which is most of what a quiet host pays, so
what is sent is also cut into pieces compiled one after the other: small syntax trees need less memory, and
less time to get it, than one large one. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
import string
import struct
import tokenize
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise, product

_PIECE_LINES = 150
_FIRST = ord("#")  # of 85 characters, none of them a quotation mark
# Python 3.6 and modules in C only. Each five characters are digits of four bytes, all of them put together at
# once in whole numbers of some 18,000 bytes: base64 is 6 % more to send, and base64.py costs more than this.
# The newlines make tracebacks speak of the lines of agent.py.
_LOADER = """\
import zlib
R=bytes(range(256))
T=r"{} ".encode().translate((R[-35:]+R)[:256])
N=L=0
for I in range(5):
    A=bytearray(len(T)//5*4)
    A[3::4]=T[I:-1:5]
    N=N*85+int.from_bytes(A,"big")
for P in zlib.decompress(N.to_bytes(len(A),"big")).split(b"\\0"):
    exec(compile(b"\\n"*L+P,"agent.py","exec"))
    L+=P.count(b"\\n")
"""
_LOADERS_NAMES = frozenset("RTNLIAP")  # which live beside the program's own
_NAMES_AS_TEXT = frozenset({"locals", "vars", "eval", "exec"})
_Place = tuple[int, int]  # line from 1, column from 0
_Edit = tuple[_Place, _Place, str]  # first character, behind the last, what stands there instead


def pack(source: str) -> bytes:
    """A program that does what `source` does. Raises SyntaxError, and ValueError for what `strip` refuses."""
    tree = ast.parse(source)
    pieces = "\0".join(_pieces(_stripped(source, tree), tree)).encode("ascii")
    return _LOADER.format(_digits(zlib.compress(pieces, 9))).encode("ascii")


def _digits(data: bytes) -> str:
    """Five characters for each four bytes; the last are filled up with zeros, which zlib does not look at."""
    words = struct.unpack(f"!{-(-len(data) // 4)}I", data + b"\0" * (-len(data) % 4))
    return "".join(chr(_FIRST + word // 85**place % 85) for word in words for place in (4, 3, 2, 1, 0))


def strip(source: str) -> str:
    """The source without comments, docstrings, annotations and spare blanks, its own names made short.

    Text is only cut and names exchanged, so the result needs no newer Python than the source. Lines keep
    their numbers. Short become variables, functions and classes of the module, and methods that begin with
    an underscore; other attributes and keywords keep their names.
    Raises SyntaxError; ValueError for text beyond ASCII, a NUL, and code that reaches for variables by text.
    """
    return _stripped(source, ast.parse(source))


def _pieces(stripped: str, tree: ast.Module) -> Iterator[str]:
    """Cut between top-level statements, whose lines are those of the source."""
    lines = stripped.splitlines(keepends=True)
    start = 0
    for statement in tree.body:
        end = statement.end_lineno or start
        if end - start >= _PIECE_LINES:
            yield "".join(lines[start:end])
            start = end
    yield "".join(lines[start:])


def _stripped(source: str, tree: ast.Module) -> str:
    if not source.isascii() or "\0" in source:
        raise ValueError("the agent's source is ASCII without NUL")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    notes = list(_notes(tree))
    edits = [*notes, *_comments(tokens), *_annotations(tree, tokens), *_blanks(tokens), *_renamings(tree)]
    kept = {start for start, _, _ in notes}
    strings = [token for token in tokens if token.end[0] > token.start[0] and token.start not in kept]
    return _trim(_apply(source, edits), strings)


def _apply(source: str, edits: Iterable[_Edit]) -> str:
    """The source after the edits; of those that overlap the first counts, and there the longest."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = [(starts[a[0] - 1] + a[1], starts[b[0] - 1] + b[1], text) for a, b, text in edits]
    done, position = [], 0
    for start, end, text in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= position:
            done += [source[position:start], text, "\n" * source.count("\n", start, end)]
            position = end
    return "".join([*done, source[position:]])


def _trim(source: str, strings: Iterable[tokenize.TokenInfo]) -> str:
    """No blanks at the end of a line and one for four at its beginning, except inside `strings`."""
    spans = [(token.start[0], token.end[0]) for token in strings]
    begun = {line for first, last in spans for line in range(first + 1, last + 1)}
    unended = {line for first, last in spans for line in range(first, last)}
    lines = source.split("\n")
    for number, line in enumerate(lines, 1):
        code = line if number in unended else line.rstrip(" ")
        bare = code.lstrip(" ")
        lines[number - 1] = code if number in begun else " " * ((len(code) - len(bare)) // 4) + bare
    return "\n".join(lines)


def _comments(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[_Edit]:
    return ((token.start, token.end, "") for token in tokens if token.type == tokenize.COMMENT)


def _blanks(tokens: list[tokenize.TokenInfo]) -> Iterator[_Edit]:
    """Blanks that keep no two words apart. What is between the parts of an f-string (3.12) is text."""
    depth = 0
    for before, after in pairwise(tokens):
        kind = tokenize.tok_name[before.type]
        depth += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        gap = before.end[0] == after.start[0] and before.end[1] < after.start[1]
        touching = before.string[-1:] + after.string[:1]
        if gap and not depth and not re.fullmatch(r"\w\w", touching):
            yield before.end, after.start, ""


def _notes(tree: ast.AST) -> Iterator[_Edit]:
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


def _annotations(tree: ast.AST, tokens: Iterable[tokenize.TokenInfo]) -> Iterator[_Edit]:
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


def _renamings(tree: ast.AST) -> Iterator[_Edit]:
    """Short names: a name has one new name in the whole source, so nothing is confused."""
    places: dict[str, list[_Place]] = {}
    bound: set[str] = set()
    private = {name for _, name in _methods(tree) if _is_private(name)}
    for name, place, binds in _names(tree):
        places.setdefault(name, []).append(place)
        if binds:
            bound.add(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private and node.end_lineno is not None:
            end = node.end_col_offset or 0
            places.setdefault(node.attr, []).append((node.end_lineno, end - len(node.attr)))
    fixed = set(_fixed_names(tree))
    ours = [name for name in places if name in bound - fixed]
    letters = string.ascii_letters
    short = (name for size in (1, 2) for name in map("".join, product(letters, repeat=size)))
    free = (
        name for name in short if name not in places and name not in fixed and not keyword.iskeyword(name)
    )
    for name in sorted(ours, key=lambda name: -len(places[name])):
        new = next(free)
        if len(new) < len(name):
            yield from ((place, (place[0], place[1] + len(name)), new) for place in places[name])


def _names(tree: ast.AST) -> Iterator[tuple[str, _Place, bool]]:
    """(name, where it stands, whether it is bound there) of variables, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, (node.lineno, node.col_offset), isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.arg):
            yield node.arg, (node.lineno, node.col_offset), True
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            word = "def " if isinstance(node, ast.FunctionDef) else "class "
            yield node.name, (node.lineno, node.col_offset + len(word)), True


def _methods(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(class, method) of all classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, item.name) for item in node.body if isinstance(item, ast.FunctionDef))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _fixed_names(tree: ast.AST) -> Iterator[str]:
    """Names that others know, and those in f-strings, whose places old Pythons get wrong."""
    yield from dir(builtins)
    yield from _LOADERS_NAMES
    yield from (name for _, name in _methods(tree) if not _is_private(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            yield node.name or ""
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, ast.Call):
            yield from _called_with(node)
        if isinstance(node, ast.JoinedStr):
            inside = list(ast.walk(node))
            yield from (part.id for part in inside if isinstance(part, ast.Name))
            yield from (part.attr for part in inside if isinstance(part, ast.Attribute))
        if isinstance(node, ast.ClassDef):
            bodies = [item for item in node.body if not isinstance(item, ast.FunctionDef)]
            yield from (part.id for item in bodies for part in ast.walk(item) if isinstance(part, ast.Name))


def _called_with(call: ast.Call) -> Iterator[str]:
    unseen = any(word.arg is None for word in call.keywords)
    if unseen or (isinstance(call.func, ast.Name) and call.func.id in _NAMES_AS_TEXT):
        raise ValueError(f"line {call.lineno} of the agent's source reaches for variables by text")
    return (word.arg for word in call.keywords if word.arg)


def _span(node: ast.expr | ast.stmt | ast.arg) -> tuple[_Place, _Place]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
