"""A program of this machine that holds a conversation: its own process group, ended whichever way it goes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import IO

from fleetaudit.conversation import Conversation, Reply, Stream
from fleetaudit.errors import ConnectError
from fleetaudit.transport.dialogue import Dialogue
from fleetaudit.transport.watchdog import cancelled, overdue

_CHUNK = 64 * 1024
# How soon a cancel is noticed while the command is silent.
_LOOK_SECONDS = 0.05
# How soon its end is noticed once its outputs are closed.
_END_SECONDS = 0.002
_REAP_SECONDS = 1.0
_NOTHING: Mapping[int, Callable[[bytes], None]] = MappingProxyType({})


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
        *,
        until_exit: bool = False,
        also: Mapping[int, Callable[[bytes], None]] = _NOTHING,
    ) -> Reply:
        """Run it to its end; a signal that ended it is a negative status, as with `subprocess`.

        Raises as `Transport.run` does. The program has no terminal to ask on. Its end is when its outputs
        are closed; with `until_exit` when it is gone, whoever else holds them. `also` are more descriptors
        to read from meanwhile, each with what to do with the data.
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
            self._converse(process, dialogue, deadline, until_exit, also)
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

    def _converse(
        self,
        process: subprocess.Popen[bytes],
        dialogue: Dialogue,
        deadline: float,
        until_exit: bool,
        also: Mapping[int, Callable[[bytes], None]],
    ) -> None:
        stdin, stdout, stderr = _pipes(process)
        os.set_blocking(stdin.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ, partial(dialogue.hear, Stream.STDOUT))
            ready.register(stderr, selectors.EVENT_READ, partial(dialogue.hear, Stream.STDERR))
            for descriptor, hear in also.items():
                ready.register(descriptor, selectors.EVENT_READ, hear)
            outputs = {stdout.fileno(), stderr.fileno()}
            dialogue.start()
            while outputs or until_exit:
                self._check(deadline)
                gone = until_exit and _is_gone(process)
                _want_to_write(ready, stdin, dialogue)
                events = ready.select(0 if gone else _LOOK_SECONDS if outputs else _END_SECONDS)
                if gone and not events:
                    break  # whatever it wrote has been read
                for key, _ in events:
                    if key.fileobj is stdin:
                        _write(stdin, dialogue)
                    elif data := os.read(key.fd, _CHUNK):
                        key.data(data)
                    else:
                        ready.unregister(key.fileobj)
                        outputs.discard(key.fd)

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> int:
        """The exit status, once there. Not reaped before its group is ended: the number stays taken."""
        while not _is_gone(process):
            self._check(deadline)
            time.sleep(_END_SECONDS)
        _kill_group(process)
        return process.wait()


def _is_gone(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


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
