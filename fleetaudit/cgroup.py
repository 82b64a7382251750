"""What a control group's path tells of a process: its systemd unit, its container, its pod."""

from __future__ import annotations

import re
from typing import NamedTuple

# Path components by which engines and systemd name a container, under either cgroup driver: those of Docker,
# Podman, CRI-O and containerd with the container's id, those of LXC and systemd-nspawn with its name.
_IDS = r"[-/:]([0-9a-f]{12,64})(?:\.scope)?(?:/|$)"
_RUNTIMES = {
    "docker": re.compile(r"(?:^|/)docker" + _IDS),
    "podman": re.compile(r"(?:^|/)libpod" + _IDS),
    "cri-o": re.compile(r"(?:^|/)crio" + _IDS),
    "containerd": re.compile(r"(?:^|/)(?:cri-)?containerd" + _IDS),
    "lxc": re.compile(r"(?:^|/)lxc(?:\.payload\.|/)([^/]+)"),
    "nspawn": re.compile(r"(?:^|/)(?:systemd-nspawn@|machine-)([^/]+?)\.(?:service|scope)(?:/|$)"),
    None: re.compile(r"/kubepods[^/]*(?:/[^/]+)*/([0-9a-f]{64})(?:/|$)"),  # any engine, told by the kubelet
}
# "pod" and its UID; the systemd driver writes the UID with underscores.
_POD = re.compile(
    r"/(?:kubepods[^/]*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:/|$)"
)
_UNIT = re.compile(r"\.(?:service|scope|socket|mount|swap)$")
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
    names = [name for name in cgroup.split("/") if _UNIT.search(name)]
    if not names:
        return None, None
    inner = names[1:] if _USER_MANAGER.match(names[0]) else []
    return names[0], inner[-1] if inner else None


def is_claimed(cgroup: str) -> bool:
    """Whether the path lies below user@UID.service, where names are the user's own claims."""
    return any(_USER_MANAGER.match(name) for name in cgroup.split("/"))


def container_of(cgroup: str) -> Container | None:
    """The container in a cgroup path, None when the path is no container's."""
    for runtime, pattern in _RUNTIMES.items():
        found = pattern.search(cgroup)
        if found:
            pod = _POD.search(cgroup)
            return Container(found[1], runtime, pod[1].replace("_", "-") if pod else None)
    return None
