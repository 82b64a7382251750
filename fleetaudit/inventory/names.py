"""Names of hosts and groups: what may be one, ranges, and `host:port`."""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
import string
from collections.abc import Iterator
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.text import visible

MAX_BYTES: Final = 32 << 20  # of one inventory; YAML has a limit of its own, since it takes longer to read
_RESERVED: Final = frozenset(",:[]!&~*?{}()|^$\\'\"<>;")  # what patterns and ranges give a meaning to
_BRACKETED: Final = re.compile(r"\[(?P<address>[^\[\]]*:[^\[\]]*:[^\[\]]*)\](?::(?P<port>[0-9]+))?\Z")
_WITH_PORT: Final = re.compile(r"(?P<name>(?:[^\[\]:]|\[[^\[\]]*\])+):(?P<port>[0-9]+)\Z")
_RANGE: Final = re.compile(
    r"(?:(?P<first>[0-9]{0,9}):(?P<last>[0-9]{1,9})|(?P<from>[A-Za-z]):(?P<to>[A-Za-z]))(?::(?P<step>[0-9]{1,9}))?\Z"
)
_MAX_LENGTH: Final = 255
_MAX_NAMES: Final = 100_000  # what one name with ranges may stand for: catches a slip of the finger
_RANGE_EXAMPLE: Final = "write for example web[01:50].example.org or db-[a:f]"


def decode(text: bytes, file: str) -> str:
    """The characters of an inventory that is not YAML. Raises InventoryError for what is no text."""
    if len(text) > MAX_BYTES:
        raise InventoryError(
            Problem(f"the file is longer than {MAX_BYTES} bytes", Place(file), "split it into several files")
        )
    if b"\0" in text:
        raise InventoryError(Problem("this is a binary file", Place(file), "name a text file"))
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise InventoryError(
            Problem("the text is not UTF-8", Place(file, line), "save the file as UTF-8")
        ) from None


def expand(text: str, place: Place) -> tuple[Iterator[str], int | None]:
    """The host names a key or list entry stands for, and the port written after it.

    Ranges are Ansible's: `web[01:50]`, `db-[a:f]`, `[0:10:2]`, several in one name.
    Raises InventoryError for a range or port that is wrong; the names are checked as they are made.
    """
    if len(text) > _MAX_LENGTH:
        message = f"'{visible(text[:40])}…' is too long for a host name"
        raise InventoryError(Problem(message, place, f"{_MAX_LENGTH} characters are allowed"))
    bracketed = _BRACKETED.match(text)
    if bracketed and _is_ipv6(bracketed["address"]):
        return iter((bracketed["address"],)), _port(bracketed["port"], text, place)
    if _is_ipv6(text):
        return iter((text,)), None
    with_port = _WITH_PORT.match(text)
    name = with_port["name"] if with_port else text
    port = _port(with_port["port"], text, place) if with_port else None
    parts = re.split(r"\[([^\[\]]*)\]", name)
    choices = [_range(part, text, place) if index % 2 else (part,) for index, part in enumerate(parts)]
    if math.prod(map(len, choices)) > _MAX_NAMES:
        message = f"'{visible(text)}' stands for more than {_MAX_NAMES} hosts"
        raise InventoryError(Problem(message, place, "check the range"))
    return (check("".join(pieces), "host", place) for pieces in itertools.product(*choices)), port


def check(name: str, kind: str, place: Place) -> str:
    """The name itself, if a `kind` (host, group) may have it. Raises InventoryError."""
    shown = visible(name)
    if not name:
        raise InventoryError(Problem(f"a {kind} name is empty", place, "write a name"))
    if _is_ipv6(name) and kind == "host":
        return name
    odd = next((char for char in name if char.isspace() or not char.isprintable() or char in _RESERVED), "")
    if odd:
        what = f"'{visible(odd)}'" if odd.strip() and odd.isprintable() else "a blank or a control character"
        raise InventoryError(Problem(f"{kind} name '{shown}' holds {what}", place, "rename it"))
    if name[0] in "-@":
        raise InventoryError(Problem(f"{kind} name '{shown}' begins with '{name[0]}'", place, "rename it"))
    if kind == "host" and name == "all":
        raise InventoryError(Problem("no host can be called 'all'", place, "rename it"))
    return name


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _port(text: str | None, whole: str, place: Place) -> int | None:
    if text is None:
        return None
    if len(text) > 5 or not 1 <= int(text) <= 65535:
        message = f"'{visible(whole)}': {text[:20]} is not a port"
        raise InventoryError(Problem(message, place, "write a number from 1 to 65535"))
    return int(text)


def _range(text: str, whole: str, place: Place) -> list[str]:
    found = _RANGE.match(text)
    if not found:
        message = f"'{visible(whole)}': [{visible(text)}] is not a range"
        raise InventoryError(Problem(message, place, _RANGE_EXAMPLE))
    step = int(found["step"] or 1)
    letters = string.ascii_letters
    if found["from"]:
        first, last, width = letters.index(found["from"]), letters.index(found["to"]), 0
    else:
        begin = found["first"] or "0"
        padded = len(begin) > 1 and begin[0] == "0"
        if padded and len(begin) != len(found["last"]):
            message = f"'{visible(whole)}': both ends of [{text}] need the same number of digits"
            raise InventoryError(Problem(message, place, _RANGE_EXAMPLE))
        first, last, width = int(begin), int(found["last"]), len(begin) if padded else 0
    if first > last or not step:
        raise InventoryError(Problem(f"'{visible(whole)}': [{text}] holds nothing", place, _RANGE_EXAMPLE))
    numbers = range(first, min(last, first + _MAX_NAMES * step) + 1, step)  # one more than are taken
    return [letters[number] if found["from"] else str(number).zfill(width) for number in numbers]
