"""Annotations that went stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Final

from fleetaudit.errors import Problem
from fleetaudit.policy.lint.base import Subject, entries
from fleetaudit.policy.values import Path

REVIEW_AFTER: Final = timedelta(days=365)


def expired_review(subject: Subject) -> Iterator[Problem]:
    """A `reviewed` date more than a year ago, in the future, or that is no date."""
    for rule in subject.rules:
        yield from _reviewed(subject, rule.path, rule.spec)
        for entry in entries(rule):
            yield from _reviewed(subject, entry.path, entry.notes)


def _reviewed(subject: Subject, path: Path, notes: Mapping[str, object]) -> Iterator[Problem]:
    text = notes.get("reviewed")
    if text is None:
        return
    where = (*path, "reviewed")
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        yield subject.problem("expired-review", f"'{text}' is not a date", where, "write 2026-11-22")
        return
    if day > subject.today:
        yield subject.problem(
            "expired-review", f"{day} is in the future", where, "write when it was reviewed"
        )
    elif subject.today - day > REVIEW_AFTER:
        days = (subject.today - day).days
        yield subject.problem(
            "expired-review", f"last reviewed {days} days ago, on {day}", where, "review it and write the day"
        )
