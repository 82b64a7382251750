"""What a control group's path tells of a process: its systemd unit, its container, its pod.

Whoever manages a part of the tree names what is below it, so of nested names only the outermost is the host's
word: a container may call its own groups `nginx.service` or `docker-….scope`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Path components by which engines and systemd name a container, under either cgroup driver: those of Docker,
# Podman, CRI-O and containerd with the container's id, those of LXC and systemd-nspawn with its name.
# With a colon: runc, told a systemd path (slice:prefix:id) by an engine that uses the other driver.
_IDS = r"[-/:]([0-9a-f]{12,64})(?:\.scope)?(?:/|$)"
_RUNTIMES = {
    "docker": re.compile(r"(?:^|[/:])docker" + _IDS),
    "podman": re.compile(r"(?:^|/)libpod(?:-payload)?" + _IDS),
    "cri-o": re.compile(r"(?:^|[/:])crio" + _IDS),
    "containerd": re.compile(r"(?:^|[/:])(?:cri-)?containerd" + _IDS),
    "lxc": re.compile(r"(?:^|/)lxc(?:\.payload\.|/)([^/]+)"),
    "nspawn": re.compile(r"(?:^|/)(?:systemd-nspawn@|machine-)([^/]+?)\.(?:service|scope)(?:/|$)"),
    None: re.compile(r"/kubepods[^/]*(?:/[^/]+)*?/([0-9a-f]{64})(?:/|$)"),  # any engine, told by the kubelet
}
# "pod" and its UID; the systemd driver writes the UID with underscores.
_POD = re.compile(
    r"/(?:kubepods[^/]*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
    r"(?:\.slice)?(?:[/:]|$)"
)
_UNIT = re.compile(r"\.(?:service|scope|socket|mount|swap)$")
_NOT_SYSTEMDS = ("lxc.payload.", "lxc.monitor.")  # what follows is a container's name, however it ends
_USER_MANAGER = re.compile(r"^user@\d+\.service$")


class Container(NamedTuple):
    """A container: its id or name, the engine (None where the path does not tell), the UID of its pod."""

    name: str
    runtime: str | None
    pod: str | None


def unit_of(cgroup: str) -> tuple[str | None, str | None]:
    """(unit, user unit) of a cgroup path. Below user@UID.service only that is the system manager's word;
    the inner name is the user's own claim.
    """
    unit, below = _first_unit(cgroup.split("/")[1:])
    if unit is None or not _USER_MANAGER.match(unit):
        return unit, None
    return unit, _first_unit(below)[0]


def _first_unit(names: list[str]) -> tuple[str | None, list[str]]:
    """(the unit that a manager made, the names below it), as systemd reads it (cg_path_get_unit).

    Slices, then the unit: what comes after any other name is not the manager's.
    """
    for place, name in enumerate(names):
        if name.startswith(_NOT_SYSTEMDS):
            break
        if _UNIT.search(name):
            return name.removeprefix("_"), names[place + 1 :]  # an escape for names of kernel files
        if not name.endswith(".slice"):
            break
    return None, []


def is_claimed(cgroup: str) -> bool:
    """Whether the path's container lies below user@UID.service, where names are the user's own claims."""
    found = _outermost(cgroup)
    return found is not None and any(_USER_MANAGER.match(name) for name in cgroup[: found[0]].split("/"))


def container_of(cgroup: str) -> Container | None:
    """The outermost container in a cgroup path, None when the path is no container's."""
    found = _outermost(cgroup)
    if found is None:
        return None
    start, name, runtime = found
    pod = _POD.search(cgroup, 0, start)
    return Container(name, runtime, pod[1].replace("_", "-") if pod else None)


def _outermost(cgroup: str) -> tuple[int, str, str | None] | None:
    """(where its name begins, name, engine) of the container that is named first."""
    found = [
        (match.start(1), match[1], runtime)
        for runtime, pattern in _RUNTIMES.items()
        if (match := pattern.search(cgroup))
    ]
    return min(found, key=lambda item: item[0], default=None)


def below(root: str, cgroup: str) -> str | None:
    """The path as seen from `root` (empty: as it is); None for a group that lies outside.

    The kernel begins a path outside of the reader's own cgroup namespace with `/..` (cgroup_namespaces(7)).
    """
    if cgroup.startswith("/..") and cgroup[3:4] in ("", "/"):
        return None
    if not (cgroup + "/").startswith(root + "/"):
        return None
    return cgroup[len(root) :] or "/"
