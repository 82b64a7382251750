"""Inventories as Ansible reads them: `ansible-inventory --list` of the real ansible-core is the judge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.cli import main
from fleetaudit.errors import InventoryError
from fleetaudit.inventory import FORMATS, load
from fleetaudit.inventory.gathering import DISK, gather

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
ANSIBLE = shutil.which("ansible-inventory", path=str(Path(sys.executable).parent))


def ours(sources: list[str], via: str | None = None) -> dict[str, Any]:
    """The shape of `ansible-inventory --list`."""
    tree = gather(sources, FORMATS, DISK, via).tree
    members = tree.resolve()
    variables = {
        member.name: {name: variable.value for name, variable in member.variables.items()}
        for member in members
    }
    found: dict[str, Any] = {
        "_meta": {"hostvars": {name: given for name, given in variables.items() if given}}
    }
    for name, hosts, children in tree.branches():
        # Ansible names no host under `all`: those that are in no other group are under `ungrouped`.
        parts = {"hosts": sorted(hosts) if name != "all" else [], "children": sorted(children)}
        found[name] = {key: value for key, value in parts.items() if value}
    return {name: body for name, body in found.items() if body}


def theirs(sources: list[str]) -> dict[str, Any]:
    assert ANSIBLE, "ansible-core comes with the dev extra"
    options = [option for source in sources for option in ("-i", source)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [ANSIBLE, *options, "--list"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    found["_meta"].pop("profile", None)
    for body in found.values():
        for key in ("hosts", "children"):
            if key in body:
                body[key] = sorted(body[key])
    return found


def sources_of(case: Path) -> list[str]:
    """A file or directory is a source; a directory of `1…`, `2…` is several, in this order."""
    if case.is_dir():
        several = sorted(str(path) for path in case.iterdir() if path.name[0].isdigit())
        return several or [str(case)]
    return [str(case)]


def test_the_corpus_is_read_as_ansible_reads_it() -> None:
    assert len(CORPUS) >= 40
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda case: theirs(sources_of(case)), CORPUS))
    found = [ours(sources_of(case)) for case in CORPUS]
    differing = {
        case.name: (mine, other)
        for case, mine, other in zip(CORPUS, found, expected, strict=True)
        if mine != other
    }
    assert differing == {}


def test_ansible_may_read_them_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vaults and inventory plugins: what only Ansible can read."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    (tmp_path / "group_vars").mkdir()
    encrypted = tmp_path / "group_vars" / "web.yml"
    encrypted.write_text("ansible_user: deploy\ntier: front\n")
    vault = ["ansible-vault", "encrypt", str(encrypted)]
    subprocess.run(vault, check=True, capture_output=True)
    (tmp_path / "hosts").write_text("[web]\nw1\n")
    (tmp_path / "more.constructed.yml").write_text(
        "plugin: ansible.builtin.constructed\nstrict: true\nuse_vars_plugins: true\n"
        "groups: {front: \"tier == 'front'\"}\n"
    )
    plain = [str(tmp_path / "hosts")]
    both = [*plain, str(tmp_path / "more.constructed.yml")]
    with pytest.raises(InventoryError, match=r"web\.yml: the file is encrypted.*--inventory-via ansible"):
        load(plain, home="/")
    with pytest.raises(InventoryError, match=r"constructed\.yml:1:1: .*plugin .*--inventory-via ansible"):
        load(both, home="/")
    (host,) = load(both, home="/", via="ansible").hosts
    assert (host.name, host.user, host.context.groups) == ("w1", "deploy", ("front", "web"))
    with pytest.raises(InventoryError, match=r"ansible-inventory -i .* ended with status"):
        load([str(tmp_path / "password"), "--version"], home="/", via="ansible")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InventoryError, match="install ansible-core"):
        load(both, home="/", via="ansible")


def test_ansible_leaves_no_source_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it only warns of a source that it cannot read, and the fleet is smaller."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "false")
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "hosts").write_text("[web]\nw1\n")
    bad = folder / "more.yml"
    bad.write_text("web: [1\n")
    for sources in ([str(folder)], [str(folder / "hosts"), str(bad)], ["w1,", str(tmp_path / "none")]):
        with pytest.raises(InventoryError, match=r"(?s)ended with status 1: .*ailed to parse"):
            load(sources, home="/", via="ansible")


def test_ansible_decrypts_what_says_how_to_reach_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ansible-inventory --list` prints single encrypted values as they are in the file."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    made = subprocess.run(
        ["ansible-vault", "encrypt_string", "dep 'löy"], check=True, capture_output=True, text=True
    )
    block = made.stdout.strip().replace("\n" + " " * 10, "\n            ")
    path = tmp_path / "inv.yml"
    path.write_text(
        "web:\n  hosts: {w1: , w2: }\n  vars:\n"
        "    policy_vars: [plain, secret, deep]\n"
        f"    plain: 1\n    ansible_password: {block}\n    secret: {block}\n"
        f"    deep:\n      - {{}}\n      - key: {block}\n",
        encoding="utf-8",
    )
    with pytest.raises(InventoryError, match=r"inv\.yml:6:\d+: .*--inventory-via ansible"):
        load([str(path)], home="/")
    unneeded = tmp_path / "unneeded.yml"
    unneeded.write_text(path.read_text(encoding="utf-8").replace("ansible_password", "db_password"))
    for host in load([str(unneeded)], home="/").hosts:  # what nobody here needs refuses nothing
        assert (host.password, dict(host.context.variables)) == (None, {"plain": 1})
    inventory = load([str(path)], home="/", via="ansible")
    for host in inventory.hosts:
        assert host.password is not None
        assert host.password.reveal() == "dep 'löy"
        assert dict(host.context.variables) == {"plain": 1}
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(theirs([str(path)])))
    with pytest.raises(
        InventoryError, match=r"printed\.json: the value of ansible_password is encrypted \(.*via"
    ):
        load([str(printed)], home="/")
    (tmp_path / "password").write_text("another\n")
    with pytest.raises(InventoryError, match=r"`ansible-vault decrypt .* ended with status 1: .*Decryption"):
        load([str(path)], home="/", via="ansible")


def test_what_an_older_ansible_prints_of_a_plugin(tmp_path: Path) -> None:
    said = {"ansible_host": {"__ansible_unsafe": "192.0.2.1"}, "fleetaudit_a": [{"__ansible_unsafe": "b"}]}
    path = tmp_path / "printed"
    path.write_text(json.dumps({"_meta": {"hostvars": {"w1": said}}, "web": {"hosts": ["w1"]}}))
    (host,) = load([str(path)], home="/").hosts
    assert (host.address, dict(host.context.variables)) == ("192.0.2.1", {"fleetaudit_a": ("b",)})


def test_the_printed_inventory_is_one_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Path(__file__).parent / "corpus" / "gv_precedence" / "1hosts"
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(theirs([str(case)])))
    assert ours([str(printed)]) == theirs([str(case)])
    assert main(["inventory", "list", "-i", str(printed), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: body for name, body in shown.items() if body and name != "_meta"} == {
        name: body for name, body in theirs([str(case)]).items() if name != "_meta"
    }
