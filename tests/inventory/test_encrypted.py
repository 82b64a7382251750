"""Encrypted values: those that nothing here reads refuse no inventory, and no other takes their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import load

_VAULT = "__ansible_vault"
_GROUP = {"policy_vars": ["runs_as", "deep", "plain"], "runs_as": "www-data", "deep": "d", "plain": "p"}


def seen(source: Path) -> dict[str, dict[str, object]]:
    return {host.name: dict(host.context.variables) for host in load([str(source)], home="/").hosts}


EXPECTED = {"w1": {"plain": "p"}, "w2": {"runs_as": "www-data", "deep": "d", "plain": "p"}}


def test_a_group_does_not_speak_for_a_host_whose_value_is_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(
        f"web:\n  vars: {json.dumps(_GROUP)}\n"
        "  hosts:\n    w1: {runs_as: !vault x, deep: [{a: !vault x}]}\n    w2:\n"
    )
    assert seen(path) == EXPECTED


def test_what_ansible_prints_is_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "printed.json"
    host = {"runs_as": {_VAULT: "x"}, "deep": [{"a": {_VAULT: "x"}}]}
    document = {"_meta": {"hostvars": {"w1": host}}, "web": {"hosts": ["w1", "w2"], "vars": _GROUP}}
    path.write_text(json.dumps(document))
    assert seen(path) == EXPECTED


def test_files_beside_an_inventory_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("[web]\nw1\nw2\n")
    for folder, name, text in (
        ("group_vars", "web.yml", json.dumps(_GROUP)),
        ("host_vars", "w1.yml", "runs_as: !vault x\ndeep: [{a: !vault x}]\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    assert seen(path) == EXPECTED


def test_a_plain_value_outdoes_an_encrypted_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(
        "web:\n  vars: {policy_vars: [runs_as], runs_as: !vault x}\n  hosts: {w1: {runs_as: httpd}, w2: }\n"
    )
    assert seen(path) == {"w1": {"runs_as": "httpd"}, "w2": {}}


@pytest.mark.parametrize("name", ["fleetaudit_agent", "fleetaudit_boundary", "policy_vars", "ansible_user"])
def test_a_setting_is_never_dropped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "printed.json"
    document = {"_meta": {"hostvars": {"w1": {name: {_VAULT: "x"}}}}, "web": {"hosts": ["w1"]}}
    path.write_text(json.dumps(document))
    with pytest.raises(InventoryError, match=rf"the value of {name} is encrypted \(pass --inventory-via"):
        load([str(path)], home="/")
