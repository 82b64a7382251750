"""What a notice says, and what sends it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from fleetaudit.text import visible

SCHEMA: Final = "fleetaudit.notice/1"
MOST_ITEMS: Final = 100
_SEVERITIES: Final = ("critical", "high", "medium", "low", "info", "")
_WORDS: Final = 300  # characters of a reason


class Kind(str, Enum):
    """What is new: gravest first."""

    VIOLATION = "violation"
    HOST_LOST = "host_lost"
    UNDECIDED = "undecided"
    RESOLVED = "resolved"
    HOST_BACK = "host_back"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is new on a host; about a rule, or about the host itself."""

    kind: Kind
    host: str
    policy: str = ""
    rule: str = ""
    severity: str = ""
    endpoint: str = ""
    reason: str = ""

    def on(self, host: str, kind: Kind | None = None) -> Item:
        """The same on this host."""
        return replace(self, host=host, kind=kind or self.kind)

    @property
    def words(self) -> str:
        """The item for a person, on one line."""
        about = f"{self.policy}/{self.rule}" if self.rule else ""
        told = [self.kind.value.replace("_", " "), self.severity, self.host, about, self.endpoint]
        return visible(" ".join(filter(None, told)) + (f": {self.reason[:_WORDS]}" if self.reason else ""))


@dataclass(frozen=True, slots=True)
class Notice:
    """What is new in a run. Command lines are in none of it."""

    run: str
    started_at: str
    exit_code: int
    items: tuple[Item, ...]

    @property
    def shown(self) -> Sequence[Item]:
        """The gravest items, as many as a notice holds."""
        kinds = list(Kind)
        ordered = sorted(self.items, key=lambda it: (kinds.index(it.kind), _SEVERITIES.index(it.severity)))
        return ordered[:MOST_ITEMS]

    @property
    def see(self) -> str:
        """The command that shows all of it."""
        return f"fleetaudit history show {self.run}"

    @property
    def title(self) -> str:
        """The notice on one line."""
        counts = Counter(item.kind for item in self.items)
        words = [f"{counts[kind]} {_PLURAL[kind]}" for kind in Kind if counts[kind]]
        return f"fleetaudit: {', '.join(words)}"

    @property
    def text(self) -> str:
        """The notice for a person."""
        lines = [item.words for item in self.shown]
        more = len(self.items) - len(lines)
        return "\n".join([*lines, *([f"and {more} more"] if more else []), "", self.see])

    def document(self) -> bytes:
        """The notice as JSON (`fleetaudit schema notice`)."""
        counts = Counter(item.kind for item in self.items)
        items = [
            {
                "kind": item.kind.value,
                "host": item.host,
                "policy": item.policy or None,
                "rule": item.rule or None,
                "severity": item.severity or None,
                "endpoint": item.endpoint or None,
                "reason": item.reason[:_WORDS],
            }
            for item in self.shown
        ]
        document = {
            "schema": SCHEMA,
            "title": self.title,
            "run": {"id": self.run, "started_at": self.started_at, "exit_code": self.exit_code},
            "counts": {kind.value: counts[kind] for kind in Kind},
            "items": items,
            "more": len(self.items) - len(items),
            "see": self.see,
        }
        return json.dumps(document).encode("ascii")


_PLURAL: Final = {
    Kind.VIOLATION: "new violations",
    Kind.HOST_LOST: "hosts not audited any more",
    Kind.UNDECIDED: "rules not decided any more",
    Kind.RESOLVED: "violations resolved",
    Kind.HOST_BACK: "hosts audited again",
}


class Sender(Protocol):
    """Sends notices to one place; `place` is it for messages, without anything that is secret."""

    @property
    def place(self) -> str:
        """Where to."""

    def send(self, notice: Notice) -> None:
        """Send it. Raises NoticeError."""
