"""Lines of text for a terminal: escaped, wrapped, coloured, in this order and in this one place."""

from __future__ import annotations

import textwrap
from enum import Enum
from typing import Final

from fleetaudit.text import visible

_NARROWEST: Final = 40
_LONGEST: Final = 600  # characters of one paragraph: what a host sends must not flood the screen


class Style(Enum):
    """What a colour means; its value is the ANSI SGR code (ECMA-48)."""

    PLAIN = ""
    STRONG = "1"
    BAD = "1;31"
    WARNING = "33"
    GOOD = "1;32"
    QUIET = "2"


class Page:
    """Collects lines; nothing that is written through it reaches the terminal unescaped."""

    def __init__(self, width: int, *, colour: bool) -> None:
        self._width = max(width, _NARROWEST)
        self._colour = colour
        self._lines: list[str] = []

    def write(self, text: str, *, indent: int = 0, hang: int = 2, style: Style = Style.PLAIN) -> None:
        """A paragraph: wrapped, with `hang` more columns before its second and later lines."""
        lines = textwrap.wrap(
            _shortened(visible(text)),
            width=self._width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
            break_on_hyphens=False,
        )
        self._lines += [self._painted(line, style) for line in lines]

    def blank(self) -> None:
        """An empty line, but never two together nor one at the top."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, text: str, style: Style) -> None:
        """The title of a section, set off by an empty line."""
        self.blank()
        self.write(text, style=style)

    def encoded(self) -> bytes:
        """Everything written, as UTF-8."""
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8")

    def _painted(self, line: str, style: Style) -> str:
        if not self._colour or style is Style.PLAIN:
            return line
        text = line.lstrip(" ")
        return f"{line[: len(line) - len(text)]}\x1b[{style.value}m{text}\x1b[0m"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text) - _LONGEST} more characters)"
