"""What Ansible hands to ssh (`ansible_ssh_common_args` and its kin): the way to a host is taken from it.

What changes nothing about who is reached is passed over. An option that weakens the check of host keys is
passed over as well: they are checked as the command line of fleetaudit says. Everything else is a mistake,
for a host that is reached in another way than ssh would is another host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fleetaudit.inventory.base import Mistake
from fleetaudit.model import Jump
from fleetaudit.text import visible

_JUMP: Final = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<ipv6>[^\]\s]+)\]|(?P<name>[^:\[\]\s@]+))(?::(?P<port>[0-9]{1,5}))?/?"
)
_SWITCHES: Final = frozenset("46AaCKkNqTtVvXxYy") - frozenset("46")
# ssh_config(5), in lower case.
_NO_MATTER: Final = frozenset(
    """
    batchmode checkhostip ciphers clearallforwardings compression connectionattempts connecttimeout
    controlmaster controlpath controlpersist escapechar exitonforwardfailure forwardagent forwardx11
    forwardx11trusted globalknownhostsfile gssapiauthentication gssapidelegatecredentials hashknownhosts
    hostbasedauthentication hostkeyalgorithms identitiesonly ipqos kbdinteractiveauthentication
    kexalgorithms loglevel
    macs numberofpasswordprompts passwordauthentication permitlocalcommand preferredauthentications
    pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication rekeylimit requesttty sendenv
    serveralivecountmax serveraliveinterval setenv stricthostkeychecking tcpkeepalive updatehostkeys
    userknownhostsfile verifyhostkeydns visualhostkey
    """.split()  # noqa: SIM905  (one word a line would fill the screen)
)
_INSTEAD: Final = {
    "-p": "ansible_port",
    "-l": "ansible_user",
    "-i": "ansible_ssh_private_key_file",
    "port": "ansible_port",
    "user": "ansible_user",
    "hostname": "ansible_host",
    "identityfile": "ansible_ssh_private_key_file",
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a host is reached, of which at most one is set. Neither: straight."""

    jumps: tuple[Jump, ...] = ()
    proxy_command: str | None = None


def way(text: str) -> Way:
    """The way that these arguments describe; as with ssh, the first that is named counts. Raises Mistake."""
    found: Way | None = None
    for name, value in _options(text):
        if name == "proxyjump":
            found = found or (Way() if value.lower() == "none" else Way(jumps=_jumps(value)))
        elif name == "proxycommand":
            found = found or (Way() if value.lower() == "none" else Way(proxy_command=value))
        elif name not in _NO_MATTER:
            shown = f"-o {visible(name)}" if not name.startswith("-") else visible(name)
            instead = _INSTEAD.get(name)
            hint = f"use {instead}" if instead else "remove it, or say it in ssh_config"
            raise Mistake(f"the ssh option '{shown}' is not understood here", hint)
    return found or Way()


def _options(text: str) -> Iterator[tuple[str, str]]:
    """Names in lower case and values of `-o`; other options by their letter."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Mistake(f"these are no arguments: {str(error).lower()}", "close the quotation mark") from None
    while words:
        word = words.pop(0)
        option, rest = word[:2], word[2:]
        if option == "-o":
            setting = rest or _next(words, option)
            name, _, value = re.sub(r"\s*=\s*|\s+", "=", setting.strip(), count=1).partition("=")
            yield name.lower(), value.strip('"')
        elif option == "-J":
            yield "proxyjump", rest or _next(words, option)
        elif option in _INSTEAD:
            yield option, rest or _next(words, option)
        elif word[:1] != "-":
            raise Mistake(f"'{visible(word)}' is no option of ssh", "remove it")
        elif len(word) < 2 or not set(word[1:]) <= _SWITCHES:
            yield word, ""


def _next(words: list[str], option: str) -> str:
    if not words:
        raise Mistake(f"{option} has no value", "write one, or remove it")
    return words.pop(0)


def _jumps(text: str) -> tuple[Jump, ...]:
    jumps = []
    for one in text.split(","):
        found = _JUMP.fullmatch(one.strip())
        port = int(found["port"]) if found and found["port"] else None
        if not found or port == 0 or (port or 1) > 65535 or one.strip().startswith("-"):
            raise Mistake(f"'{visible(one)}' is no jump host", "write [user@]host[:port]")
        jumps.append(Jump(found["ipv6"] or found["name"], port, found["user"]))
    return tuple(jumps)
