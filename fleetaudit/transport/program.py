"""A program of this machine that holds a conversation: its own process group, ended whichever way it goes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from fleetaudit.conversation import Conversation, Reply, Stream
from fleetaudit.errors import ConnectError
from fleetaudit.transport.dialogue import Dialogue
from fleetaudit.transport.watchdog import cancelled, overdue

_CHUNK = 64 * 1024
# How soon a cancel is noticed while the command is silent.
_LOOK_SECONDS = 0.05
_REAP_SECONDS = 1.0


class Programs:
    """Runs programs until it is cancelled. One object serves every thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def run(
        self,
        arguments: Sequence[str],
        conversation: Conversation,
        deadline: float,
        environment: Mapping[str, str] | None = None,
    ) -> Reply:
        """Run it to its end; a signal that ended it is a negative status, as with `subprocess`.

        Raises as `Transport.run` does. The program has no terminal to ask on.
        """
        self._check(deadline)
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise ConnectError(f"cannot start {arguments[0]}: {error.strerror}") from error
        try:
            dialogue = Dialogue(conversation)
            self._converse(process, dialogue, deadline)
            status = self._wait(process, deadline)
        finally:
            _end(process)
        return dialogue.reply(status)

    def cancel(self) -> None:
        """End every program, and run none any more."""
        self._cancelled.set()

    def _check(self, deadline: float) -> None:
        if self._cancelled.is_set():
            raise cancelled()
        if time.monotonic() >= deadline:
            raise overdue()

    def _converse(self, process: subprocess.Popen[bytes], dialogue: Dialogue, deadline: float) -> None:
        stdin, stdout, stderr = _pipes(process)
        os.set_blocking(stdin.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ, Stream.STDOUT)
            ready.register(stderr, selectors.EVENT_READ, Stream.STDERR)
            dialogue.start()
            while any(isinstance(key.data, Stream) for key in ready.get_map().values()):
                self._check(deadline)
                _want_to_write(ready, stdin, dialogue)
                for key, _ in ready.select(_LOOK_SECONDS):
                    if not isinstance(key.data, Stream):
                        _write(stdin, dialogue)
                    elif data := os.read(key.fd, _CHUNK):
                        dialogue.hear(key.data, data)
                    else:
                        ready.unregister(key.fileobj)

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> int:
        """The exit status, once there. Not reaped before its group is ended: the number stays taken."""
        while True:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is not None:
                break
            self._check(deadline)
            time.sleep(0.002)
        _kill_group(process)
        return process.wait()


def _want_to_write(ready: selectors.BaseSelector, stdin: IO[bytes], dialogue: Dialogue) -> None:
    """Watch stdin only while there is something to write, and close it when all is written."""
    if stdin.closed:
        dialogue.hang_up()
        return
    watched = stdin in ready.get_map()
    if dialogue.outgoing and not watched:
        ready.register(stdin, selectors.EVENT_WRITE)
    elif watched and not dialogue.outgoing:
        ready.unregister(stdin)
    if dialogue.finished:
        stdin.close()


def _write(stdin: IO[bytes], dialogue: Dialogue) -> None:
    try:
        sent = os.write(stdin.fileno(), dialogue.outgoing[:_CHUNK])
    except BlockingIOError:
        return
    except BrokenPipeError:  # the command reads no more; what it says still counts
        dialogue.hang_up()
        return
    del dialogue.outgoing[:sent]


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process has no pipes")
    return process.stdin, process.stdout, process.stderr


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, end the whole group and reap. A privileged child ends by its closed pipes."""
    for pipe in _pipes(process):
        with contextlib.suppress(OSError):
            pipe.close()
    if process.returncode is None:
        _kill_group(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_SECONDS)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
