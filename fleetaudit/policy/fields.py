"""The fields a policy can name: what kind of value each has, and where a subject keeps it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from fleetaudit.model import UNKNOWN, Inherited, Listener, Missing, Owner, Process
from fleetaudit.policy.values import Candidates, Kind

Subject = TypeVar("Subject")

PROTOCOLS: Final = ("tcp", "udp", "udplite", "sctp", "dccp", "raw", "unix", "packet", "vsock")
NETWORK_PROTOCOLS: Final = frozenset({"tcp", "udp", "udplite", "sctp", "dccp"})
FAMILIES: Final = ("inet", "inet6", "unix", "packet", "vsock")
STATES: Final = ("LISTEN", "UNCONN")
_LONGEST_ADDRESS = 45  # INET6_ADDRSTRLEN without its end
SCOPES: Final = ("loopback", "link_local", "multicast", "private", "any", "public", "unix")


@dataclass(frozen=True, slots=True)
class Field(Generic[Subject]):
    """One field: its kind, how to read its candidates from a subject, and its fixed words if it has any."""

    kind: Kind
    read: Callable[[Subject], Candidates]
    choices: tuple[str, ...] = ()


def _user(owner: Owner) -> Candidates:
    process = owner.process
    return (process.user, process.euid if isinstance(process.euid, Missing) else str(process.euid))


def _group(owner: Owner) -> Candidates:
    process = owner.process
    return (process.group, process.gid if isinstance(process.gid, Missing) else str(process.gid))


def _argv(owner: Owner) -> Candidates:
    argv = owner.process.argv
    if not isinstance(argv, tuple):
        return (argv,)
    line = " ".join(argv)
    # What was cut off or redacted on the host could match what is left of it cannot.
    return (line, UNKNOWN) if owner.process.argv_cut or "***" in line else (line,)


def _inherited(owner: Owner) -> Candidates:
    inherited = owner.inherited
    return (inherited if isinstance(inherited, Missing) else inherited.value,)


def _process(read: Callable[[Process], object]) -> Callable[[Owner], Candidates]:
    return lambda owner: (read(owner.process),)


OWNER_FIELDS: Final[Mapping[str, Field[Owner]]] = MappingProxyType(
    {
        "exe": Field(Kind.TEXT, _process(lambda process: process.exe)),
        "exe_deleted": Field(Kind.FLAG, _process(lambda process: process.exe_deleted)),
        "exe_in_container": Field(Kind.TEXT, _process(lambda process: process.exe_in_container)),
        "comm": Field(Kind.TEXT, _process(lambda process: process.comm)),
        "argv": Field(Kind.TEXT, _argv),
        "pid": Field(Kind.NUMBER, _process(lambda process: process.pid)),
        "user": Field(Kind.TEXT, _user),
        "uid": Field(Kind.NUMBER, _process(lambda process: process.uid)),
        "group": Field(Kind.TEXT, _group),
        "unit": Field(Kind.TEXT, _process(lambda process: process.unit)),
        "user_unit": Field(Kind.TEXT, _process(lambda process: process.user_unit)),
        "container": Field(Kind.TEXT, _process(lambda process: process.container)),
        "cgroup": Field(Kind.TEXT, _process(lambda process: process.cgroup)),
        "shell": Field(Kind.FLAG, _process(lambda process: process.shell)),
        "self": Field(Kind.FLAG, _process(lambda process: process.self_audit)),
        "inherited": Field(Kind.TEXT, _inherited, tuple(kind.value for kind in Inherited)),
    }
)

# Fields that processes of one kind have in common, and what of a process decides them.
OF_KIND: Final = frozenset(OWNER_FIELDS) - {"argv", "pid", "inherited"}
kind_of: Final[Callable[[Process], tuple[object, ...]]] = attrgetter(
    *("exe", "exe_deleted", "exe_verified", "exe_in_container", "usr_merged", "comm", "shell", "self_audit"),
    *("user", "euid", "uid", "group", "gid", "unit", "user_unit", "container", "cgroup"),
)


def _known_word(value: object, words: tuple[str, ...]) -> object:
    """A word that fleetaudit does not know could mean anything: it neither matches nor differs."""
    return value if value is None or value in words else UNKNOWN


def _parsed(listener: Listener) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not isinstance(listener.address, str):
        return None
    address = listener.address.split("%")[0]
    return _read_address(address) if len(address) <= _LONGEST_ADDRESS else None


@lru_cache(1024)
def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _ipv4_too(listener: Listener) -> tuple[object, ...]:
    """The IPv4 addresses that an IPv6 listener serves as well: its mapped one, or all without v6only."""
    ip = _parsed(listener)
    if not isinstance(ip, ipaddress.IPv6Address):
        return ()
    if ip.ipv4_mapped is not None:
        return (str(ip.ipv4_mapped),)
    if not ip.is_unspecified or listener.v6only is True:
        return ()
    return ("0.0.0.0",) if listener.v6only is False else (UNKNOWN,)  # noqa: S104 (matched, not bound)


def _family(listener: Listener) -> Candidates:
    also = tuple(UNKNOWN if address is UNKNOWN else "inet" for address in _ipv4_too(listener))
    return (_known_word(listener.family, FAMILIES), *also)


def _address(listener: Listener) -> Candidates:
    ip = _parsed(listener)
    if ip is not None:
        return (str(ip), *_ipv4_too(listener))
    if listener.protocol in NETWORK_PROTOCOLS and isinstance(listener.address, str):
        return (UNKNOWN,)  # an address that cannot be read is not known to be another one
    return (listener.address,)


def _port(listener: Listener) -> Candidates:
    """A network socket has a port: without one the snapshot does not say which."""
    return (UNKNOWN if listener.port is None and listener.protocol in NETWORK_PROTOCOLS else listener.port,)


LISTENER_FIELDS: Final[Mapping[str, Field[Listener]]] = MappingProxyType(
    {
        "protocol": Field(Kind.TEXT, lambda item: (_known_word(item.protocol, PROTOCOLS),), PROTOCOLS),
        "family": Field(Kind.TEXT, _family, FAMILIES),
        "address": Field(Kind.ADDRESS, _address),
        "port": Field(Kind.PORT, _port),
        "path": Field(Kind.TEXT, lambda item: (item.path,)),
        "scope": Field(Kind.TEXT, lambda item: (item.scope,), SCOPES),
        "state": Field(Kind.TEXT, lambda item: (_known_word(item.state, STATES),), STATES),
        "device": Field(Kind.TEXT, lambda item: (item.device,)),
        "ephemeral": Field(Kind.FLAG, lambda item: (item.ephemeral,)),
    }
)
OF_LISTENER_KIND: Final = frozenset({"protocol", "state", "scope", "device", "ephemeral"})
_listener_kind: Final[Callable[[Listener], tuple[object, ...]]] = attrgetter(*sorted(OF_LISTENER_KIND))


def listener_kind_of(listener: Listener) -> tuple[object, ...]:
    """Equal for listeners of one kind: of one namespace, with the fields of `OF_LISTENER_KIND` in common."""
    return (id(listener.netns), *_listener_kind(listener))


# Read from a listener's owners: some owner has it.
VIA_OWNERS: Final = ("unit", "container")
