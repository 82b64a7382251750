"""Text from hosts and files inside Markdown."""

from __future__ import annotations

import re
from typing import Final

# Markup, HTML, tables, mathematics and templates; and what would make an address a link.
_ACTIVE: Final = re.compile(r"[!#$&*<>@\[\\\]_`{|}~]|:(?=/)|(?<=www)\.", re.IGNORECASE)


def literal(text: str) -> str:
    """Text on one line as text: what could be markup is a numeric character reference.

    CommonMark never takes a reference for structure (section 2.5). Not for the beginning of a line.
    """
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)
