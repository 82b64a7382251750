"""What Ctrl-C means while a run is under way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from fleetaudit.cli.console import say


@dataclass(slots=True)
class Interrupt:
    """Ctrl-C ends what takes long, not the run: what has answered is still judged and written."""

    happened: bool = False

    @contextlib.contextmanager
    def guard(self, stop: Callable[[], None]) -> Iterator[None]:
        """While inside, SIGINT and SIGTERM call `stop`; a second one is what it always was."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def handle(number: int, frame: FrameType | None) -> None:
            self.happened = True
            signal.signal(number, previous[signal.Signals(number)])
            say("interrupted: the reports are still written; once more to give up")
            # Not in the handler: it may hold the very lock that stopping needs.
            threading.Thread(target=stop, daemon=True).start()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in previous:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
