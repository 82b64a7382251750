"""Whether /bin, /sbin and /lib are links into /usr on a host, from what its snapshot tells. Pure.

/proc shows resolved paths: where they are links, no executable is ever seen below /bin. Merged /usr is proved
by a release that supports nothing else, or, where Debian's packages of systemd had their files in /lib until
merged /usr was required, by systemd seen in /usr/lib (https://wiki.debian.org/UsrMerge,
https://discourse.ubuntu.com/t/usr-merge-to-become-required-in-hh/18962,
https://www.freedesktop.org/wiki/Software/systemd/TheCaseForTheUsrMerge/). An executable that is really below
/bin, /sbin or /lib disproves it. A program at /usr/bin/x alone proves nothing: SUSE had systemd there, and
bash in /bin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fleetaudit.model import UNKNOWN, Maybe, Process

# os-release ID -> the first VERSION_ID that has merged /usr only; () for those that roll.
_MERGED_SINCE: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "debian": (12,),
        "ubuntu": (22, 10),
        "fedora": (17,),
        "rhel": (7,),
        "centos": (7,),
        "rocky": (8,),
        "almalinux": (8,),
        "ol": (7,),
        "arch": (),
    }
)
_PACKAGED_BY_DEBIAN: Final = frozenset({"debian", "ubuntu", "raspbian", "linuxmint", "kali", "pop"})
_SYSTEMD: Final = "/usr/lib/systemd/systemd"
_UNMERGED: Final = re.compile(r"/(?:bin|sbin|lib(?:32|64|x32)?)/")
_MERGED: Final = re.compile(r"/usr(/(?:bin|sbin|lib(?:32|64|x32)?)/.)")


def is_merged(os_id: str | None, os_version: str | None, processes: Iterable[Process]) -> Maybe[bool]:
    """Whether the host has merged /usr. Only paths count that the agent verified: others are claims."""
    paths = {process.exe for process in processes if process.exe_verified is True}
    if any(isinstance(path, str) and _UNMERGED.match(path) for path in paths):
        return False
    since = _MERGED_SINCE.get(os_id or "")
    if since is not None and _numbers(os_version) >= since:
        return True
    return True if os_id in _PACKAGED_BY_DEBIAN and _SYSTEMD in paths else UNKNOWN


def short_name(path: str) -> str | None:
    """The name that a file in /usr has besides, on a host with merged /usr: /bin/dash of /usr/bin/dash."""
    return path.removeprefix("/usr") if _MERGED.match(path) else None


def has_long_name(path: str) -> bool:
    """Whether a path is below /bin, /sbin or /lib, which merged /usr makes names of others."""
    return _UNMERGED.match(path) is not None


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,9}", version or "")[:4])
