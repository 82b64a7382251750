"""Running fleets for the tests, one per way to run one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.demo.host import find_sshd
from fleetaudit.demo.plan import DemoError, Isolation, Server

Way = tuple[Isolation, Server]

ROOT_OPENSSH = (Isolation.NAMESPACES, Server.OPENSSH)
UNPRIVILEGED = (Isolation.USER_NAMESPACES, Server.EMBEDDED)
UNISOLATED = (Isolation.NONE, Server.EMBEDDED)

# Root with the embedded server is made of the parts of these; one test looks at it.
ISOLATED_WAYS = [ROOT_OPENSSH, UNPRIVILEGED]
ALL_WAYS = [*ISOLATED_WAYS, UNISOLATED]


def start(directory: Path, way: Way) -> DemoFleet:
    """A fleet of exactly this kind, or a skip where the machine cannot run it."""
    isolation, server = way
    if isolation is Isolation.NAMESPACES and os.geteuid() != 0:
        pytest.skip("namespaces without a user namespace need root")
    if server is Server.OPENSSH and not find_sshd():
        pytest.skip("OpenSSH's server is not installed")
    try:
        return DemoFleet.start(directory, isolation=isolation, server=server)
    except DemoError as error:
        if "Operation not permitted" in str(error) or "No space left" in str(error):
            pytest.skip(f"this machine refuses namespaces: {error}")
        raise


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest) -> Iterator[Callable[[Way], DemoFleet]]:
    """Gives a fleet of the kind asked for, started once and shared by all tests that only look."""
    fleets: dict[Way, DemoFleet] = {}
    with ExitStack() as stack:

        def get(way: Way) -> DemoFleet:
            if way not in fleets:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetaudit-demo-")))
                fleets[way] = stack.enter_context(start(directory, way))
            return fleets[way]

        yield get


def _name(way: Way) -> str:
    return "-".join(part.name.lower() for part in way)


@pytest.fixture(params=ISOLATED_WAYS, ids=_name)
def fleet(request: pytest.FixtureRequest, running: Callable[[Way], DemoFleet]) -> DemoFleet:
    """A shared fleet of isolated hosts, each way in turn."""
    return running(request.param)


@pytest.fixture(params=ALL_WAYS, ids=_name)
def any_fleet(request: pytest.FixtureRequest, running: Callable[[Way], DemoFleet]) -> DemoFleet:
    """A shared fleet, each way in turn."""
    return running(request.param)


@pytest.fixture(params=ALL_WAYS, ids=_name)
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to run a fleet in turn, for tests that start and end one of their own."""
    chosen: Way = request.param
    return chosen
