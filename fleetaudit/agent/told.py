"""The end of a pinned agent's file: what it is told, which is one line of JSON on its stdin.

`fleetaudit agent install` puts this after agent.py. Whoever may start a pinned agent with root's rights
decides these few values and nothing else: none of them is run, none names a file, and none makes it tell more
than redacted command lines. One source for Python 3.6 and later.
"""

import hashlib
import json
import os
import re
import signal
import sys

LINE_LIMIT = 4096  # bytes
PATIENCE = 60  # seconds until the line is there
TOLD_NONCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
TOLD_ARGV = ("redacted", "none")
TOLD_NUMBERS = {"budget_seconds": (0.1, 86400), "budget_mib": (64, 1 << 20), "max_output": (1, 64 << 20)}


def be_told(version: str) -> "dict[str, object]":
    """The configuration of this run. Ends the process with status 2 for one that is not as it has to be."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)  # nobody who says nothing keeps a process here
    if len(sys.argv) != 1:
        sys.exit("fleetaudit-agent: it takes no arguments")
    try:
        told = check_told(read_told())
    except ValueError as error:
        sys.stderr.write(f"fleetaudit-agent: {error}\n")
        sys.exit(2)
    told.update(version=version, sha256=own_sha256())
    return told


def read_told() -> bytes:
    """All of stdin, as long as that is short."""
    line = b""
    while len(line) <= LINE_LIMIT:
        piece = os.read(0, LINE_LIMIT + 1 - len(line))
        if not piece:
            return line
        line += piece
    raise ValueError(f"its configuration is longer than {LINE_LIMIT} bytes")


def check_told(line: bytes) -> "dict[str, object]":
    """What the line says. Raises ValueError unless it is one JSON object of known keys and sound values."""
    if not line.endswith(b"\n") or b"\n" in line[:-1]:
        raise ValueError("its configuration is one line on stdin, then end of file")
    try:
        told = json.loads(line.decode("ascii"), object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise ValueError("its configuration is no JSON object in ASCII that has each key once")  # noqa: TRY004  (input, not a bug)
    unknown = sorted(set(told) - {"nonce", "argv"} - set(TOLD_NUMBERS))
    if unknown:
        raise ValueError(f"its configuration has an unknown key, {ascii(unknown[0])[:80]}")
    if not isinstance(told.get("nonce"), str) or not TOLD_NONCE.fullmatch(told["nonce"]):
        raise ValueError("nonce: 1 to 128 letters, digits, _ or -")
    if told.get("argv", "redacted") not in TOLD_ARGV:
        raise ValueError("argv: redacted or none")
    for name, (least, most) in TOLD_NUMBERS.items():
        value = told.get(name, most)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise ValueError(f"{name}: a number from {least} to {most}")
    return told


def each_once(pairs: "list[tuple[str, object]]") -> "dict[str, object]":
    """The object of these pairs. Raises ValueError where one key has two values."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def own_sha256() -> "str | None":
    """Of this file, for the controller to compare; a sudo that checks a digest hands it over as /dev/fd/N."""
    try:
        with open(str(globals().get("__file__")), "rb") as file:  # noqa: PTH123  (pathlib costs start-up time)
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
