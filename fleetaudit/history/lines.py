"""A snapshot's line in two parts: what stays while nothing happens on the host, and the moments. Pure.

The moments are cut out of the text itself, not out of what it means: the line comes back byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from fleetaudit.model import HostStatus, Outcome
from fleetaudit.snapshot import context_of, decode_line
from fleetaudit.wire import WireInventory, inventory_of

_NAMES: Final = (
    *("collected_at", "received_at", "wall_seconds", "cpu_seconds"),
    *("seen", "unreadable", "vanished"),
)
# A quote within a JSON string is escaped: in a valid line a name in quotes and a colon are a key.
_KEYS: Final = tuple(f'"{name}":'.encode() for name in _NAMES)
_MOMENT: Final = re.compile(rb'[ \t]*("[^"\\]*"|[0-9.eE+-]+)')
_CUT: Final = b"~"  # begins no JSON value
_PLACE: Final = re.compile(b"((?:%s)[ \t]*)~" % b"|".join(_KEYS))


def cut(line: bytes) -> tuple[bytes, list[str]]:
    """(the line without its moments, the moments as they are written). The line is valid JSON."""
    pieces: list[bytes] = []
    moments: list[str] = []
    end = 0
    for place in sorted(place for key in _KEYS for place in _behind(line, key)):
        found = _MOMENT.match(line, place)
        if found is not None:
            moments.append(found[1].decode())
            pieces += [line[end : found.start(1)], _CUT]
            end = found.end()
    return b"".join([*pieces, line[end:]]), moments


def _behind(line: bytes, key: bytes) -> Iterator[int]:
    """Where each occurrence of the key ends. Searched for one by one: ten times as fast as by expression."""
    place = line.find(key)
    while place >= 0:
        place += len(key)
        yield place
        place = line.find(key, place)


def joined(body: bytes, moments: Sequence[str]) -> bytes:
    """The line that was cut. Raises ValueError when the moments are not those of the body."""
    rest: Iterator[str] = iter(moments)

    def put(place: re.Match[bytes]) -> bytes:
        moment = next(rest, None)
        if moment is None:
            raise ValueError("a moment is missing")
        return place[1] + moment.encode()

    line = _PLACE.sub(put, body)
    if next(rest, None) is not None:
        raise ValueError("a moment is left over")
    return line


class _Told(msgspec.Struct, omit_defaults=True):
    """What a host's row says beside the body of its line: see `told_part`."""

    moments: tuple[str, ...] = ()
    outcome: tuple[HostStatus, str] | None = None
    inventory: WireInventory | None = None


_TOLD: Final = msgspec.json.Decoder(_Told)


def told_part(outcome: Outcome, *, inventory_given: bool) -> tuple[bytes | None, str]:
    """(the body of the line, what the line does not say of the outcome) as they are stored.

    A line does not say that its snapshot was too old to be judged, nor of an inventory that was given when it
    was judged. The body is None for an outcome that was not read from a line.
    """
    if outcome.line is None:
        return None, "{}"
    body, moments = cut(outcome.line.rstrip(b"\r\n"))
    told = _Told(tuple(moments))
    if outcome.snapshot is None and outcome.snapshot_sha256 is not None:
        told.outcome = (outcome.status, outcome.detail)
    if inventory_given:
        told.inventory = inventory_of(outcome.context)
    return body, msgspec.json.encode(told, enc_hook=dict).decode()


def outcome_of(body: bytes, told: str) -> Outcome:
    """The outcome that was stored, not derived. Raises ValueError and OutputError for what was not."""
    try:
        said = _TOLD.decode(told)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    outcome = decode_line(joined(body, said.moments))
    if said.outcome is not None:
        status, detail = said.outcome
        outcome = replace(outcome, status=status, detail=detail, snapshot=None)
    return outcome if said.inventory is None else replace(outcome, context=context_of(said.inventory))
