"""A moment or a day, as a person writes it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def span(text: str) -> tuple[str, str]:
    """(first, last) moment that the text means, as the history writes times: one moment, or a day in UTC.

    Raises ConfigError.
    """
    try:
        if _DAY.fullmatch(text):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
            return written(day), written(day + timedelta(days=1) - timedelta(milliseconds=1))
        moment = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
        if moment.tzinfo is not None:
            return written(moment), written(moment)
    except (ValueError, OverflowError):
        pass
    hint = "write a day, 2026-11-17, or a moment, 2026-11-17T14:30:00Z"
    raise ConfigError(Problem(f"'{visible(text)}' is not a time", hint=hint))


def written(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: such times sort as text."""
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"


def told(text: str | None) -> str | None:
    """A time that a snapshot tells, as the history writes times; None when it is none."""
    try:
        return span(text or "")[0]
    except ConfigError:
        return None
