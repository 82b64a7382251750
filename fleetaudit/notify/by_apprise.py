"""Notices by Apprise, which knows chats, mail, pagers and more than a hundred other services (extra)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleetaudit.errors import ConfigError, NoticeError, Problem
from fleetaudit.notify.base import Notice


@dataclass(frozen=True, slots=True)
class Apprise:
    """One of Apprise's URLs; only its scheme is told, since the rest may hold secrets."""

    place: str
    service: Any  # an apprise.Apprise

    def send(self, notice: Notice) -> None:
        """Hand it over. Raises NoticeError when Apprise says that it was not taken."""
        try:
            taken = self.service.notify(title=notice.title, body=notice.text)
        except Exception as error:  # the border of a library that speaks to anybody
            raise NoticeError(f"Apprise failed with {type(error).__name__}") from None
        if not taken:
            raise NoticeError("Apprise says that it was not taken")


def by_apprise(url: str, _secret: bytes | None) -> Apprise:
    """The sender for a URL of Apprise. Raises ConfigError when that is none, or Apprise is not installed."""
    scheme = url.partition("://")[0]
    try:
        import apprise  # noqa: PLC0415  (an extra, imported only when asked for)
    except ImportError as error:
        problem = Problem(f"--notify {scheme}:// needs Apprise", hint="pip install 'fleetaudit[apprise]'")
        raise ConfigError(problem) from error
    service = apprise.Apprise()
    if not service.add(url):
        hint = "https://…, or a URL that Apprise knows"
        raise ConfigError(Problem(f"--notify {scheme}://…: Apprise does not know that", hint=hint))
    return Apprise(f"{scheme}://…", service)
