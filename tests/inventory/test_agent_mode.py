"""How the agent looks for owners: the inventory wins over the command line, and both are checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.errors import ConfigError, InventoryError
from fleetaudit.inventory import Overrides, load
from fleetaudit.session import Options


def mode_of(folder: Path, variable: str, given: str | None) -> str:
    (folder / "hosts.yaml").write_text(f"all: {{hosts: {{h: {{{variable}}}}}}}\n")
    inventory = load([str(folder / "hosts.yaml")], home="/root", overrides=Overrides(agent_mode=given))
    return inventory.hosts[0].agent_mode


@pytest.mark.parametrize(
    ("variable", "given", "mode"),
    [
        ("", None, "walk"),
        ("", "bpf", "bpf"),
        ("fleetaudit_agent_mode: bpf", None, "bpf"),
        ("fleetaudit_agent_mode: walk", "bpf", "walk"),
    ],
)
def test_the_inventory_wins(tmp_path: Path, variable: str, given: str | None, mode: str) -> None:
    assert mode_of(tmp_path, variable, given) == mode


@pytest.mark.parametrize("value", ["ebpf", "''", "1", "[bpf]"])
def test_another_mode_is_a_mistake_with_its_place(tmp_path: Path, value: str) -> None:
    with pytest.raises(InventoryError, match=r"hosts\.yaml:1:.*fleetaudit_agent_mode"):
        mode_of(tmp_path, f"fleetaudit_agent_mode: {value}", None)


def test_the_library_refuses_it_too() -> None:
    with pytest.raises(ConfigError, match="agent_mode is one of walk, bpf"):
        Options(agent_mode="ebpf")


def test_an_audit_says_which_mode_ran(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: p\nrules: [{id: r, listeners: {port: 1}, expect: none}]\n"
    )
    audit = [sys.executable, "-m", "fleetaudit", "audit", "--local", "-p", "p.yaml", "-q", "-o", "json=-"]
    done = subprocess.run(
        [*audit, "--agent-mode", "bpf"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert report["run"]["options"]["agent_mode"] == "bpf"
    assert report["hosts"][0]["agent"]["mode"] in ("bpf", "walk")  # the latter where the kernel refuses
