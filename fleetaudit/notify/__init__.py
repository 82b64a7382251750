"""Notices of what is new in a run: the one table of what sends them, by the scheme of a URL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from fleetaudit.errors import ConfigError, NoticeError, Problem
from fleetaudit.notify.base import Item, Kind, Notice, Sender

__all__ = ["SENDERS", "Item", "Kind", "Notice", "Sender", "send", "sender"]

# scheme -> "module:function" of (URL, secret), imported on use; "*" is any other.
SENDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "https": "fleetaudit.notify.webhook:webhook",
        "http": "fleetaudit.notify.webhook:webhook",
        "*": "fleetaudit.notify.by_apprise:by_apprise",
    }
)
SECONDS: Final = 30.0  # for one notice, whatever the other side does


def sender(url: str, secret: bytes | None) -> Sender:
    """What sends to a URL. Raises ConfigError."""
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise ConfigError(Problem("--notify: that is no URL", hint="such as https://hooks.example.org/audit"))
    module, _, function = SENDERS.get(scheme.lower(), SENDERS["*"]).partition(":")
    make: Callable[[str, bytes | None], Sender] = getattr(import_module(module), function)
    return make(url, secret)


def send(sender: Sender, notice: Notice, seconds: float = SECONDS) -> str:
    """Send, within so many seconds. Returns why it was not sent; empty when it was."""
    ended = ["took too long"]

    def run() -> None:
        try:
            sender.send(notice)
        except NoticeError as error:
            ended[0] = str(error)
        else:
            ended[0] = ""

    # A daemon: somebody who answers one byte a minute does not keep an audit from ending.
    thread = threading.Thread(target=run, name="fleetaudit-notice", daemon=True)
    thread.start()
    thread.join(seconds)
    return "took too long" if thread.is_alive() else ended[0]
