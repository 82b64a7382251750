"""Questions to the person at the terminal while hosts are being asked."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.progress import Bar
from fleetaudit.events import Observer
from fleetaudit.model import Secret
from fleetaudit.transport import Ask

_LOOK_SECONDS: Final = 0.2
_MOST: Final = 4096  # bytes a terminal takes as one line


def asking_at_terminal(interrupt: Interrupt, observer: Observer | None) -> Ask | None:
    """What asks at the terminal, or None where there is none. An interrupt ends a question without answer."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    away = observer.away if isinstance(observer, Bar) else contextlib.nullcontext
    return _Terminal(lambda: interrupt.happened, away).ask


class _Terminal:
    def __init__(
        self, given_up: Callable[[], bool], away: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._given_up = given_up
        self._away = away
        self._lock = threading.Lock()

    def ask(self, text: str) -> Secret | None:
        """What is typed, unseen; None for nothing, for an interrupt, and where the terminal went away."""
        with self._lock, self._away():
            try:
                descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                return None
            try:
                return self._read(descriptor, text)
            except (OSError, termios.error):
                return None
            finally:
                os.close(descriptor)

    def _read(self, descriptor: int, text: str) -> Secret | None:
        with _unseen(descriptor):
            os.write(descriptor, f"{text.removesuffix(':')}: ".encode())
            while not self._given_up():
                ready, _, _ = select.select([descriptor], [], [], _LOOK_SECONDS)
                if ready:
                    typed = os.read(descriptor, _MOST).decode("utf-8", "replace").rstrip("\r\n")
                    return Secret(typed) if typed else None
        return None


@contextlib.contextmanager
def _unseen(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        os.write(descriptor, b"\n")
