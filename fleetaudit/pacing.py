"""How fast a run goes on, and when it stops by itself. No I/O; times come from the caller's clock."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Share:
    """So many of something, or so many percent of it."""

    number: Fraction
    percent: bool = False

    def of(self, total: int) -> int:
        """How many that is, rounded down: "more than this" means the same before and after rounding."""
        return math.floor(self.number * total / 100 if self.percent else self.number)


def parse_share(text: str) -> Share:
    """`20` or `20%` (at most 100%, with decimals if need be). Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%", text.strip(), re.ASCII)
    if not found:
        raise ValueError("neither a whole number such as 20 nor a percentage such as 20%")
    share = Share(Fraction(found[1] or found[2]), percent=found[2] is not None)
    if share.percent and share.number > 100:
        raise ValueError("more than 100%")
    return share


@dataclass(frozen=True, slots=True)
class Pace:
    """None is no limit. With more than `max_failed` failures nothing new begins; hosts go in batches of
    `batch`, each beginning when the one before is done; `per_second` is new connections per second.
    """

    max_failed: int | None = None
    batch: int | None = None
    per_second: float | None = None


class Throttle:
    """Moments at which connections may begin, evenly apart. A pause is not made up for by a burst."""

    def __init__(self, per_second: float | None) -> None:
        self._apart = 1 / per_second if per_second else 0.0
        self._next = -math.inf

    def reserve(self, now: float, latest: float = math.inf) -> float | None:
        """Take the first free moment from `now` on; None, and nothing taken, if it is not before `latest`."""
        moment = max(now, self._next)
        if moment >= latest:
            return None
        self._next = moment + self._apart
        return moment


class Gate:
    """Where workers wait until another host may begin. For use by many threads."""

    def __init__(self, pace: Pace, monotonic: Callable[[], float]) -> None:
        self._pace = pace
        self._monotonic = monotonic
        self._throttle = Throttle(pace.per_second)
        self._changed = threading.Condition()
        self._entered = self._left = self._failed = 0
        self._refusal = ""

    def enter(self) -> str:
        """Wait for the next host's turn. Returns why it may not begin, "" when it may."""
        with self._changed:
            self._changed.wait_for(lambda: self._refusal or not self._batch_is_full())
            moment = None if self._refusal else self._throttle.reserve(self._monotonic())
            while moment is not None and not self._refusal:
                seconds = moment - self._monotonic()
                if seconds <= 0:
                    self._entered += 1
                    return ""
                self._changed.wait(seconds)
            return self._refusal

    def leave(self, *, failed: bool) -> None:
        """A host that had entered is done."""
        with self._changed:
            self._left += 1
            self._failed += failed
            most = self._pace.max_failed
            if most is not None and self._failed > most:
                self._refusal = (
                    self._refusal or f"not asked: {self._failed} failed, more than --max-fail allows"
                )
            self._changed.notify_all()

    def reserve(self, latest: float) -> float | None:
        """When a host that is inside may connect once more; None if that is not before `latest`."""
        with self._changed:
            return self._throttle.reserve(self._monotonic(), latest)

    def close(self, reason: str) -> None:
        """Nothing begins any more, for this reason unless there was one before."""
        with self._changed:
            self._refusal = self._refusal or reason
            self._changed.notify_all()

    def _batch_is_full(self) -> bool:
        size = self._pace.batch
        return bool(size) and self._entered % (size or 1) == 0 and self._left < self._entered
