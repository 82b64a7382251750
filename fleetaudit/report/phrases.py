"""Findings as one line for formats that carry text of limited length. Nothing here shows argv."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeVar

from fleetaudit.model import Finding
from fleetaudit.report import wording
from fleetaudit.report.cells import owners
from fleetaudit.report.folding import Fold
from fleetaudit.text import visible

K = TypeVar("K", bound=Hashable)
LONGEST: Final = 1000  # characters of one text: what a host sends must not flood a page


def clipped(text: str, longest: int = LONGEST) -> str:
    """The text on one line with nothing hidden in it, and at most this long, plus how much was cut."""
    text = visible(text)
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text) - longest} more characters)"


def subject(finding: Finding) -> str:
    """The listener a finding is about and who holds it: tcp 0.0.0.0:8080 held by python3[80](www-data)."""
    if finding.listener is None:
        return ""
    return f"{wording.endpoint(finding.listener)} held by {owners(finding)}"


def sentence(finding: Finding, longest: int = LONGEST) -> str:
    """A finding in one line: its listener and holders, the reason, the waiver that accepts it, and whether
    a baseline has it.
    """
    about = subject(finding)
    text = f"{about}: {finding.reason}" if about else finding.reason
    text += f" (waived: {finding.waiver})" if finding.waiver else ""
    if finding.new is not None:
        text += " (new)" if finding.new else " (old: in the baseline)"
    return clipped(text, longest)


def example(fold: Fold[K]) -> str:
    """The hosts of a fold, and the one that its sample, with its pids, is from."""
    return str(fold.hosts) if fold.hosts.count == 1 else f"{fold.hosts}; on {fold.hosts.names[0]}"
