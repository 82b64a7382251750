"""Text from hosts and files made safe to show a person."""

from __future__ import annotations

import unicodedata

_SHOWN_AS_CODE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""The text with every control, bidi, format and unassigned character written as \uNNNN.

    What is left can be printed on a terminal or a page without moving the cursor or reordering lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(char) if unicodedata.category(char) in _SHOWN_AS_CODE else char for char in text)


def _code(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
