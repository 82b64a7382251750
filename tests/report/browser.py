"""Chromium, driven over the DevTools protocol on two pipes: no driver, no port, no library.

`--remote-debugging-pipe`: JSON messages on descriptors 3 and 4, each ended by a NUL.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
PROGRAM = shutil.which("chromium")
_PATIENCE = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root, in CI; what it opens are pages of ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-pipe",
)


class Browser:
    """A running Chromium; pages of it are opened one at a time."""

    def __init__(self, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The shell puts the pipes where Chromium looks for them: their own numbers may be 3 and 4, crossed.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "chromium", str(PROGRAM), *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._number = 0
        self._events: list[Message] = []

    def call(self, method: str, session: str | None = None, **arguments: object) -> Message:
        """Do one thing; what the browser answers."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": arguments}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        found = self._until(lambda it: it.get("id") == self._number)
        assert "error" not in found, found
        result: Message = found["result"]
        return result

    def events(self, session: str, *methods: str) -> list[Message]:
        """What happened so far, of these kinds."""
        found = [it for it in self._events if it.get("sessionId") == session and it["method"] in methods]
        return [it["params"] for it in found]

    def wait(self, session: str, method: str) -> Message:
        """The first event of this kind, past or to come."""
        seen = self.events(session, method)
        if seen:
            return seen[0]
        found = self._until(lambda it: it.get("method") == method and it.get("sessionId") == session)
        params: Message = found["params"]
        return params

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        deadline = time.monotonic() + _PATIENCE
        while True:
            while b"\0" in self._buffer:
                text, _, self._buffer = self._buffer.partition(b"\0")
                message: Message = json.loads(text)
                if "method" in message:
                    self._events.append(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            got = os.read(self._read, 1 << 20)
            assert got, "the browser is gone"
            self._buffer += got


class Tab:
    """One page in the browser, from a file; everything it asks for and complains about is kept."""

    def __init__(
        self,
        browser: Browser,
        page: Path,
        *,
        dark: bool = False,
        scripts: bool = True,
        prints: bool = False,
        load: bool = True,
    ) -> None:
        self._browser = browser
        self._target: str = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self.session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if prints else "", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False
        )
        if load:
            self.open(page)

    def call(self, method: str, **arguments: object) -> Message:
        return self._browser.call(method, self.session, **arguments)

    def open(self, page: Path) -> None:
        """Go to the page; returns when it has loaded."""
        self.call("Page.navigate", url=page.as_uri())
        self._browser.wait(self.session, "Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page, promises awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait for an expression to be true in the page."""
        deadline = time.monotonic() + 20
        while not self.run(expression):
            assert time.monotonic() < deadline, f"never: {expression}"
            time.sleep(0.02)

    @property
    def requests(self) -> list[str]:
        """Everything that was asked for, the page itself first."""
        found = self._browser.events(self.session, "Network.requestWillBeSent")
        return [it["request"]["url"] for it in found]

    @property
    def complaints(self) -> list[Message]:
        """Dialogs, exceptions, and what the browser logged: violations of the page's policy among it."""
        kinds = ("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded")
        return self._browser.events(self.session, *kinds, "Runtime.consoleAPICalled")

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextlib.contextmanager
def running(profile: Path) -> Iterator[Browser]:
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()
