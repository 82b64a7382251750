"""What the demo hands to the orchestrator: its inventory and policies are read like anybody's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetaudit import inventory, yamlio
from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.model import Boundary
from fleetaudit.policy.lint import lint
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from tests.demo.conftest import UNISOLATED, UNPRIVILEGED, Way

Running = Callable[[Way], DemoFleet]


def _policies(directory: Path) -> tuple[Policy, ...]:
    texts = {path: path.read_bytes() for path in sorted(directory.glob("*.yaml"))}
    documents = {path: yamlio.parse(text, str(path)) for path, text in texts.items()}
    policies = load(
        [(document, hashlib.sha256(texts[path]).hexdigest()) for path, document in documents.items()]
    )
    for policy, (path, document) in zip(policies, documents.items(), strict=True):
        assert lint(document, policy, texts[path].decode()) == ()
    return policies


def test_the_inventory_names_every_host(any_fleet: DemoFleet) -> None:
    hosts = inventory.load([str(any_fleet.inventory)], home="/nowhere").hosts
    planted = {host.name: host.address for host in any_fleet.describe()}
    assert {host.name: f"{host.address}:{host.port}" for host in hosts} == planted
    assert {host.private_key for host in hosts} == {str(any_fleet.directory / "keys" / "client")}
    assert all(Path(host.interpreter or "").is_absolute() for host in hosts)


def test_isolated_hosts_are_audited_as_containers(running: Running) -> None:
    hosts = inventory.load([str(running(UNPRIVILEGED).inventory)], home="/nowhere").hosts
    assert {host.context.boundary for host in hosts} == {Boundary.CONTAINER}
    assert {host.name: host.context.groups for host in hosts}["db1"] == ("db",)


def test_hosts_that_are_not_isolated_are_audited_as_hosts(running: Running) -> None:
    hosts = inventory.load([str(running(UNISOLATED).inventory)], home="/nowhere").hosts
    assert {host.context.boundary for host in hosts} == {Boundary.HOST}
    assert {host.name: host.context.groups for host in hosts}["web1"] == ("batch", "web")


@pytest.mark.parametrize("way", [UNPRIVILEGED, UNISOLATED], ids=["isolated", "unisolated"])
def test_every_rule_that_should_fail_is_in_the_policies(running: Running, way: Way) -> None:
    fleet = running(way)
    rules = {f"{policy.name}/{rule.id}" for policy in _policies(fleet.policies) for rule in policy.rules}
    expected = {rule for host in fleet.describe() for rule in host.failing}
    assert expected
    assert expected <= rules


def test_only_the_services_that_moved_change_their_policy(running: Running) -> None:
    shipped = Path(inventory.__file__).parents[1] / "demo" / "fleet_policies"
    for path in running(UNPRIVILEGED).policies.iterdir():
        assert path.read_text() == (shipped / path.name).read_text()
    moved = running(UNISOLATED).policies
    assert sorted(path.name for path in moved.iterdir()) == [
        "batch.yaml",
        "no-shell-listeners.yaml",
        "web.yaml",
    ]
    assert "8080}" not in (moved / "web.yaml").read_text()
    assert "9090}" not in (moved / "batch.yaml").read_text()
