"""Notices as JSON, by POST: signed with a shared secret, tried three times, never sent on elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleetaudit import __version__
from fleetaudit.errors import ConfigError, NoticeError, Problem
from fleetaudit.notify.base import Notice

TRIES: Final = 3
_SECONDS: Final = 8.0  # for one try
_PAUSE: Final = 1.0  # before the second try; twice that before the third
_LONGEST_PAUSE: Final = 5.0  # whatever the server asks for
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Stay(urllib.request.HTTPRedirectHandler):
    """A notice says where a fleet is weak: it goes where it was sent, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        """Never."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL, and the secret that signs what goes there; pauses by `sleep`, time by `clock`."""

    url: str
    secret: bytes | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time

    @property
    def place(self) -> str:
        """Scheme and host: paths and queries of webhooks are secrets."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def send(self, notice: Notice) -> None:
        """POST it. Raises NoticeError when no try was answered with a 2xx status."""
        body = notice.document()
        pause = self._attempt(body)
        for number in range(1, TRIES):
            if pause is None:
                return
            self.sleep(min(max(pause.seconds, _PAUSE * number), _LONGEST_PAUSE))
            pause = self._attempt(body)
        if pause is not None:
            raise NoticeError(f"{pause.why}, {TRIES} times")

    def _attempt(self, body: bytes) -> _Pause | None:
        """None when it arrived; else how long to wait, and why it did not. Raises NoticeError for good."""
        request = urllib.request.Request(self.url, data=body, headers=self._headers(body), method="POST")  # noqa: S310  (see webhook)
        try:
            with _opener().open(request, timeout=_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _AGAIN:
                raise NoticeError(f"answered with {error.code}") from None
            return _Pause(_retry_after(error.headers.get("Retry-After")), f"answered with {error.code}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            return _Pause(0, f"not reached: {str(reason) or type(reason).__name__}")

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"fleetaudit/{__version__}"}
        if self.secret is not None:
            stamp = str(int(self.clock()))
            signed = hmac.new(self.secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers |= {"X-Fleetaudit-Timestamp": stamp, "X-Fleetaudit-Signature": f"sha256={signed}"}
        return headers


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float
    why: str


def webhook(url: str, secret: bytes | None) -> Webhook:
    """The sender for a URL. Raises ConfigError for plain http beyond this machine, and for what is no URL."""
    made = Webhook(url, secret)
    try:
        host, place = urllib.parse.urlsplit(url).hostname, made.place
    except ValueError:
        host, place = None, ""
    if not host or any(ord(char) <= 32 for char in url):
        raise ConfigError(Problem("--notify: that is no URL", hint="such as https://hooks.example.org/audit"))
    if place.startswith("http:") and not _is_here(host):
        raise ConfigError(Problem(f"--notify {place}: http can be read on the way", hint="use https"))
    return made


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Stay)


def _retry_after(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else 0.0
