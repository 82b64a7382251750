"""Cells of a table: what a spreadsheet may be given. Shared by the formats that are tables.

Control and bidi characters as \\uNNNN; what a spreadsheet would run as a formula begins with an apostrophe
(OWASP "CSV Injection").
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from fleetaudit.model import Finding
from fleetaudit.report import wording
from fleetaudit.text import visible

_FORMULA: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # full-width forms are formulas in some locales
_SHORT: Final = 200
CELL_LIMIT: Final = 32_000  # Excel cuts a cell at 32,767 characters without a word


def owners(finding: Finding) -> str:
    """Every owner of the listener: python3[80](www-data); sh[81](www-data)."""
    everybody = [_owner(holder) for holder in wording.holders(finding)]
    state = finding.listener.owner_state if finding.listener else None
    if isinstance(state, str) and state not in ("", "owned"):
        everybody.append(f"({part(state)})")
    elif finding.listener and not everybody:
        everybody.append("(unknown)")
    return "; ".join(everybody)


def _owner(holder: wording.Holder) -> str:
    process = holder.owner.process
    name = f"{part(wording.program(process))}[{process.pid}]({part(wording.account(process))})"
    return f"held_by:{name}" if holder.held_by else name


def part(text: str) -> str:
    """Text inside a list cell: a process cannot end its entry and begin a false one, nor be a formula."""
    return harmless(text.replace(";", "\\u003b"))


def containers(finding: Finding) -> str:
    """The containers that hold the listener, as a list cell."""
    names = {holder.owner.process.container for holder in wording.holders(finding)}
    return "; ".join(sorted(part(name) for name in names if isinstance(name, str)))


def cell(text: str) -> str:
    """The text as one cell: visible, harmless, and short enough for a spreadsheet."""
    if not text:
        return ""
    return _short_cell(text) if len(text) <= _SHORT else _written(text)


@lru_cache(4096)
def _short_cell(text: str) -> str:
    """Remembered: most cells of a row are those of the row before, or of the host before."""
    return _written(text)


def _written(text: str) -> str:
    text = harmless(visible(text))
    if len(text) <= CELL_LIMIT:
        return text
    return f"{text[:CELL_LIMIT]}... ({len(text) - CELL_LIMIT} more characters: see the JSON report)"


def harmless(text: str) -> str:
    """The text, with an apostrophe before what would be run as a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def table(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows of cells as CSV (RFC 4180, lines end with LF)."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8")
