"""Runs su or doas below a terminal of its own, for the time that it asks for a password.

Sent to a host in a command line, packed, and run there by the Python that will run the agent: one source for
Python 3.6 and later, C modules only. stdin and stdout stay the pipes that they are. The words after `-c`:
nonce, seconds of patience, "pipe" or "tty" for the tool's stdin, and the tool's command.

A tool that waits for a password has turned echo off (getpass, misc_conv and readpassphrase all do), whatever
it prints and in whatever language. Only then is one line read from stdin, byte by byte: the next byte there
is the agent's. With "tty" the tool's stdin is the terminal, and ours is its fd 9.
"""

import fcntl
import os
import select
import sys
import termios
import time


def main(nonce: str, patience: str, stdin: str, *tool: str) -> None:
    """Ends as the tool ends, or with status 1 once it has neither asked nor begun for `patience` seconds."""
    terminal, inner = os.openpty()
    complaints, said = os.pipe()
    child = os.fork()
    if child == 0:
        become(fcntl.fcntl(inner, fcntl.F_DUPFD, 10), said, stdin == "tty", tool)
    os.close(inner)
    os.close(said)
    attend(nonce, float(patience), terminal, complaints)
    status = os.waitpid(child, 0)[1]
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def become(inner: int, said: int, on_terminal: bool, tool: "tuple[str, ...]") -> None:
    """The child: the tool, with `inner` as its controlling terminal."""
    os.setsid()
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
    os.dup2(said, 2)
    if on_terminal:
        os.dup2(0, 9)
        os.dup2(inner, 0)
    try:
        os.execvp(tool[0], tool)  # noqa: S606  (no shell: that is the point)
    except OSError as error:
        os.write(2, f"env: '{tool[0]}': {error.strerror}\n".encode("ascii", "replace"))
    os._exit(127)


def attend(nonce: str, patience: float, terminal: int, complaints: int) -> None:
    """Passes on what is said, and the password when it is asked for, until nobody says anything any more."""
    ready, heard, hidden = f"FLEETAUDIT-READY {nonce}\n".encode(), b"", 0
    sources, end = [terminal, complaints], time.time() + patience
    while complaints in sources:
        begun = ready in heard
        for source in select.select(sources, [], [], None if begun else 0.02)[0]:
            try:
                data = os.read(source, 4096)
            except OSError:  # EIO: the tool's side of the terminal is closed
                data = b""
            if not data:
                sources.remove(source)
            os.write(2, data)
            if not begun and source == complaints:
                heard = heard[-4096:] + data
        if ready in heard:
            continue
        hidden = 0 if termios.tcgetattr(terminal)[3] & termios.ECHO else hidden + 1
        if hidden == 2:  # by now the prompt has been passed on too, so that our line comes after it
            os.write(2, f"FLEETAUDIT-PASSWORD {nonce}:\n".encode())
            os.write(terminal, one_line())
            end = time.time() + patience
        elif time.time() > end:
            os.write(2, f"\nFLEETAUDIT-STUCK {nonce}\n".encode())
            os._exit(1)  # what hangs on the terminal is hung up on


def one_line() -> bytes:
    """The next line of stdin and nothing after it."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > 4095:
            os._exit(1)
        line += byte
    return line


if __name__ == "__main__":
    main(*sys.argv[1:])
