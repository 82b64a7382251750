"""Deadlines that hold in every phase: one thread hangs up on whatever runs out of time.

paramiko waits without limit in several phases (mid key exchange, the reply to `exec`, a trickle of
output, the exit status). Shutting the socket down from another thread frees all of them.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator

from fleetaudit.errors import ConnectError, DeadlineError, HostError

# While a person is asked, no deadline is known; looked for this often.
_AGAIN_SECONDS = 1.0


class Lease:
    """One run's time. What is attached gets hung up on when the time is over or the run cancelled."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._lock = threading.Lock()
        self._hang_ups: list[Callable[[], None]] = []
        self._ended: HostError | None = None
        self._waiting = False

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in which a person is asked does not count."""
        began = time.monotonic()
        self._waiting = True
        try:
            yield
        finally:
            self.deadline += time.monotonic() - began
            self._waiting = False

    @property
    def due(self) -> float:
        """When to look whether it is over: at the deadline, or again while a person is asked."""
        return time.monotonic() + _AGAIN_SECONDS if self._waiting else self.deadline

    def attach(self, hang_up: Callable[[], None]) -> None:
        """Call `hang_up` when the lease ends, at once if it has. It must not block nor raise."""
        with self._lock:
            self._hang_ups.append(hang_up)
            ended = self._ended is not None
        if ended:
            hang_up()

    def end(self, error: HostError) -> None:
        """Hang up for this reason; only the first call counts."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = error
            hang_ups = tuple(self._hang_ups)
        for hang_up in hang_ups:
            hang_up()

    def check(self) -> None:
        """Raise why the lease ended, if it has."""
        if self._ended is not None:
            raise self._ended
        if time.monotonic() >= self.due:
            raise overdue()

    def remaining(self) -> float:
        """Seconds left; raises like `check` when there are none."""
        self.check()
        return max(self.due - time.monotonic(), 0.001)

    def release(self) -> None:
        """Nothing will be hung up on any more."""
        with self._lock:
            self._hang_ups.clear()


def overdue() -> DeadlineError:
    """The one message of a deadline."""
    return DeadlineError("no complete answer within the deadline")


def cancelled() -> ConnectError:
    """What a run raises after `cancel`."""
    return ConnectError("cancelled")


class Watchdog:
    """Watches every lease of a transport from one thread, started on the first lease."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Lease]] = []
        self._active: set[Lease] = set()
        self._number = itertools.count()
        self._thread: threading.Thread | None = None
        self._cancelled = False
        self._closed = False

    @contextlib.contextmanager
    def lease(self, deadline: float) -> Iterator[Lease]:
        """A lease until `deadline`, on the monotonic clock. Raises at once if cancelled or too late."""
        lease = Lease(deadline)
        lease.check()
        with self._changed:
            if self._cancelled or self._closed:
                raise cancelled()
            self._active.add(lease)
            heapq.heappush(self._heap, (deadline, next(self._number), lease))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="fleetaudit-watchdog", daemon=True)
                self._thread.start()
            if self._heap[0][2] is lease:
                self._changed.notify()
        try:
            yield lease
        finally:
            lease.release()
            with self._changed:
                self._active.discard(lease)

    def cancel(self) -> None:
        """End every lease now and refuse new ones."""
        with self._changed:
            self._cancelled = True
            leases = tuple(self._active)
        for lease in leases:
            lease.end(cancelled())

    def close(self) -> None:
        """Cancel, and end the thread."""
        self.cancel()
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                lease = heapq.heappop(self._heap)[2]
                active = lease in self._active
                due = lease.due
                if active and due > time.monotonic():
                    heapq.heappush(self._heap, (due, next(self._number), lease))
                    continue
            if active:
                lease.end(overdue())
