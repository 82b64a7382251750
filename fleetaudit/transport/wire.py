"""The strings of SSH's binary formats: RFC 4251, section 5."""

from __future__ import annotations

import struct


def string(data: bytes) -> bytes:
    """The data behind its length."""
    return struct.pack(">I", len(data)) + data


def strings(data: bytes, count: int) -> list[bytes]:
    """The first `count` strings; ValueError or struct.error when they are not there."""
    found, offset = [], 0
    for _ in range(count):
        one, offset = _next(data, offset)
        found.append(one)
    return found


def all_strings(data: bytes) -> list[bytes]:
    """Every string of data that is nothing else; ValueError or struct.error when it is something else."""
    found, offset = [], 0
    while offset < len(data):
        one, offset = _next(data, offset)
        found.append(one)
    return found


def _next(data: bytes, offset: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", data, offset)
    end = offset + 4 + length
    if end > len(data):
        raise ValueError("cut short")
    return data[offset + 4 : end], end
