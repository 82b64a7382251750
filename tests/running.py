"""What this process runs, for tests that nothing is left."""

from __future__ import annotations

import threading


def threads() -> set[threading.Thread]:
    """The threads, but those in which a test runner of several processes talks to the others."""
    return {thread for thread in threading.enumerate() if not thread.name.endswith("(execute)")}
