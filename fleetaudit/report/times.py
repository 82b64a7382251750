"""Times of a run as formats want them. They come from the run: nothing here has a clock."""

from __future__ import annotations

from datetime import datetime


def epoch(time: str) -> float | None:
    """RFC 3339 in UTC, as the controller writes it, in seconds since 1970; None for anything else."""
    try:
        moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None
