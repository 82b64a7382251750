"""Paths of files as formats name them."""

from __future__ import annotations

from urllib.parse import quote


def uri(path: str) -> str:
    """The path as a URI reference (RFC 3986): relative ones against the repository, others as files."""
    quoted = quote(path.encode("utf-8", "backslashreplace"), safe="/~")
    if path.startswith("/"):
        return f"file://{quoted}"
    return quoted.removeprefix("./") or "."
