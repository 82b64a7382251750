"""Which hosts the demo has, what is planted on each, and what an audit should find there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fleetaudit.errors import FleetauditError
from fleetaudit.model import HostStatus


class DemoError(FleetauditError):
    """The demo fleet cannot be started here; the message says what was tried and what refused."""


class Isolation(Enum):
    """How far a demo host is separated from this machine, best first."""

    NAMESPACES = "namespaces"  # pid, network, uts and mount; needs root
    USER_NAMESPACES = "user namespaces"  # the same within a user namespace; needs no privilege
    NONE = "no namespaces"  # ordinary processes of this machine


class Server(Enum):
    """Which SSH server a demo host runs."""

    OPENSSH = "OpenSSH's server"
    EMBEDDED = "the embedded server"


class Presence(Enum):
    """How a host meets whoever connects."""

    LIVE = "live"
    DOWN = "down"  # nothing listens at its address
    WRONG_KEY = "wrong key"  # its host key is not the one in known_hosts


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A program of `fleetaudit.demo.services`, and the port that the demo policies know it by.

    Not isolated, it takes any free port instead. `ends`: it is ready when it has ended.
    """

    program: str
    port: int
    ends: bool = False


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One host of the fleet. `failing` are the rules (policy/rule) that an audit should find broken."""

    name: str
    groups: tuple[str, ...]
    planted: str
    expected: str
    status: HostStatus = HostStatus.OK
    failing: tuple[str, ...] = ()
    services: tuple[PlannedService, ...] = ()
    presence: Presence = Presence.LIVE


@dataclass(frozen=True, slots=True)
class PlantedHost:
    """What to look for on one running demo host. `failing` are rules as policy/rule, sorted."""

    name: str
    address: str  # ADDRESS:PORT of its SSH server
    planted: str
    expected: str
    status: HostStatus
    failing: tuple[str, ...]


_WEBSHOP = PlannedService("webshop.py", 8080)
_STOREFRONT = PlannedService("storefront.py", 8080)
_REPORT_SERVER = PlannedService("report_server.py", 9090, ends=True)
_DATABASE = PlannedService("database.py", 5432)

_DOWN = PlannedHost(
    name="down1",
    groups=("web",),
    planted="Nothing: no SSH server at its address.",
    expected="unreachable: a row in every report, and every rule for it unknown.",
    status=HostStatus.UNREACHABLE,
    presence=Presence.DOWN,
)
_WRONG_KEY = PlannedHost(
    name="badkey1",
    groups=("web",),
    planted="An SSH server whose host key is not the one in known_hosts.",
    expected="host_key_failed: nothing is sent to it, and every rule for it is unknown.",
    status=HostStatus.HOST_KEY_FAILED,
    presence=Presence.WRONG_KEY,
)

_ISOLATED = (
    PlannedHost(
        name="web1",
        groups=("web",),
        planted="The origin case: a web server on 8080 started a shell, which holds its socket too.",
        expected="fails: port 8080 has two owners, webshop.py and sh; netstat would show one.",
        failing=("no-shell-listeners/no-shell-owner", "web/web-owners"),
        services=(_WEBSHOP,),
    ),
    PlannedHost(
        name="web2",
        groups=("web",),
        planted="A clean prefork web server on 8080: a parent and three workers.",
        expected="passes: four owners, all of them the same approved program.",
        services=(_STOREFRONT,),
    ),
    PlannedHost(
        name="batch1",
        groups=("batch",),
        planted="A report server on 9090 died; a shell it had started is the last holder of its socket.",
        expected="fails: the only owner of port 9090 is sh, adopted by pid 1.",
        failing=("batch/report-owners", "no-shell-listeners/no-shell-owner"),
        services=(_REPORT_SERVER,),
    ),
    PlannedHost(
        name="db1",
        groups=("db",),
        planted="A database on 5432, bound to all addresses.",
        expected="fails: the policy wants it on loopback only.",
        failing=("database/database-local",),
        services=(_DATABASE,),
    ),
    _DOWN,
    _WRONG_KEY,
)

# On the machine itself: loopback and free ports only, and no database that others on the network could reach.
_UNISOLATED = (
    PlannedHost(
        name="web1",
        groups=("batch", "web"),
        planted="A web server that started a shell, a clean one, and a shell that outlived its server.",
        expected="fails: sh holds two sockets. This is your whole machine: other findings are real.",
        # Without root most processes are out of sight; with it, a container still has an outside.
        status=HostStatus.PARTIAL,
        failing=("batch/report-owners", "no-shell-listeners/no-shell-owner", "web/web-owners"),
        services=(
            _WEBSHOP,
            _STOREFRONT,
            _REPORT_SERVER,
        ),
    ),
    _DOWN,
    _WRONG_KEY,
)


def hosts(isolation: Isolation) -> tuple[PlannedHost, ...]:
    """The fleet under this isolation; hosts that are not isolated are fewer."""
    return _UNISOLATED if isolation is Isolation.NONE else _ISOLATED


def policy_names(isolation: Isolation) -> tuple[str, ...]:
    """The demo policies that apply: no default deny on a machine that is not the demo's own."""
    names = ("batch", "no-shell-listeners", "web")
    return names if isolation is Isolation.NONE else (*names, "database", "nothing-else")
