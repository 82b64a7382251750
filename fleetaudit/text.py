"""Text from hosts and files made safe to show a person."""

from __future__ import annotations

import posixpath
import re
import unicodedata

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._+-]+)+")
_SHOWN_AS_CODE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""The text with every control, bidi, format and unassigned character written as \uNNNN.

    What is left can be printed on a terminal or a page without moving the cursor or reordering lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(char) if unicodedata.category(char) in _SHOWN_AS_CODE else char for char in text)


def plain_path(path: str) -> str:
    """The path. Raises ValueError unless it is absolute, normal, and the same text to every reader of it.

    Those are shells, sudoers and authorized_keys files, and the kernel reading a #! line.
    """
    if not _PLAIN_PATH.fullmatch(path) or posixpath.normpath(path) != path:
        said = visible(path)[:80]
        raise ValueError(
            f"'{said}' is no absolute path of letters, digits and . _ + - without . and .. parts"
        )
    return path


def _code(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
