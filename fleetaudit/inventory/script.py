"""Inventory scripts: programs that print an inventory, and Ansible itself asked for one.

A script is run as Ansible runs it: `--list`, and `--host NAME` for each host unless `_meta` is there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.inventory import ansible_list
from fleetaudit.inventory.names import MAX_BYTES
from fleetaudit.inventory.tree import Tree
from fleetaudit.text import visible

SECONDS: Final = 120.0
_MOST_ASKED: Final = 10_000
_QUOTED: Final = 500
_HINT: Final = "run it by hand and look"


def is_script(text: bytes) -> bool:
    """Whether an executable file is a program: it names its interpreter, or is machine code (ELF)."""
    return text.startswith((b"#!", b"\x7fELF"))


def add(path: str, tree: Tree) -> bytes:
    """Run the script, add what it says, and return what it printed. Raises InventoryError."""
    # As with a file's name anywhere else, one without a slash is one in this directory.
    program = path if "/" in path else f"./{path}"
    text = run([program, "--list"], path)
    asked = 0

    def ask(host: str) -> Mapping[str, object]:
        nonlocal asked
        asked += 1
        if asked > _MOST_ASKED:
            message = f"the script has more than {_MOST_ASKED} hosts and gives their variables one by one"
            raise InventoryError(Problem(message, Place(path), "have it print _meta"))
        printed = run([program, "--host", host], path)
        return ansible_list.document(printed, path) if printed.strip() else {}

    ansible_list.add(ansible_list.document(text, path), path, tree, ask)
    return text


def run(
    command: Sequence[str], path: str, given: bytes = b"", environment: Mapping[str, str] | None = None
) -> bytes:
    """What the program prints, within 120 s and 32 MiB; it is ended with all that it started.

    `given` is what it can read: no secret, for it lies in a file meanwhile. `environment` is added to ours.
    Raises InventoryError, with its last words, for a program that cannot be started or fails.
    """
    what = f"`{visible(' '.join([Path(command[0]).name, *command[1:]]))}`"
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as read:
        read.write(given)
        read.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=read,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(path, f"{what} cannot be started: {error.strerror}") from error
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _end(process)

        timer = threading.Timer(SECONDS, give_up)
        timer.start()
        try:
            with process:
                text = process.stdout.read(MAX_BYTES + 1) if process.stdout else b""
                if len(text) <= MAX_BYTES:
                    process.wait()
        finally:
            timer.cancel()
            _end(process)
            timer.join()
        if late.is_set():
            raise _failed(path, f"{what} did not end within {SECONDS:g} seconds")
        if len(text) > MAX_BYTES:
            raise _failed(path, f"{what} prints more than {MAX_BYTES} bytes")
        if process.returncode:
            said.seek(max(said.seek(0, os.SEEK_END) - 4 * _QUOTED, 0))
            words = " ".join(said.read().decode("utf-8", "replace").split())[-_QUOTED:]
            reason = f"ended with status {process.returncode}"
            raise _failed(path, f"{what} {reason}{': ' if words else ''}{visible(words)}")
        return text


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _failed(path: str, message: str) -> InventoryError:
    return InventoryError(Problem(message, Place(path), _HINT))
