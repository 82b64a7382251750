"""Salt rosters, ssh_config files, and what `inventory list --vars` and `inventory graph` show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import load


def put(folder: Path, name: str, text: str, mode: int = 0o644) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def refused(*sources: str) -> str:
    with pytest.raises(InventoryError) as caught:
        load(sources, home="/home/me")
    return str(caught.value)


def test_a_salt_roster(tmp_path: Path) -> None:
    text = "web1:\n  host: 192.0.2.1\n  user: audit\n  port: 2222\n  sudo: true\n  priv: /k\n  timeout: 5\n"
    (host,) = load([put(tmp_path, "roster", text)], home="/").hosts
    assert (host.name, host.address, host.user, host.port) == ("web1", "192.0.2.1", "audit", 2222)
    assert host.private_key == "/k"
    assert host.become
    path = put(tmp_path, "roster", text + "  ssh_pre_flight: /x\n")
    assert f"{path}:8:3: the roster's 'ssh_pre_flight' is not supported" in refused(path)


def test_an_ssh_config_means_what_ssh_says(tmp_path: Path) -> None:
    more = put(tmp_path, "more", "Host db\n  HostName 192.0.2.9\n")
    text = f"Include {more}\nHost web1 web2 *.skip !no\n  User audit\n  Port 2222\n"
    text += "Host web*\n  IdentityFile /k\n"
    path = put(tmp_path, "ssh_config", text + "Host web1\n  HostName 192.0.2.1\n  User late\n")
    hosts = {host.name: host for host in load([path], home="/").hosts}
    assert sorted(hosts) == ["db", "web1", "web2"]
    web = hosts["web1"]
    assert (web.address, web.user, web.port, web.private_key) == ("192.0.2.1", "audit", 2222, "/k")
    assert (hosts["db"].address, hosts["db"].port) == ("192.0.2.9", 22)


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fleetaudit", "inventory", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list_and_graph_show_where_variables_come_from(tmp_path: Path) -> None:
    hosts = put(
        tmp_path, "hosts", "[p:children]\nw\n[w]\na port=1 api_token=hush d=\"{'password': 'hush'}\"\n"
    )
    file = put(tmp_path, "group_vars/w.yml", "v: [1]\n")
    shown = run("list", "-i", hosts, "--vars")
    assert f"    port = 1  ({hosts}:4)\n" in shown
    assert f"    v = [1]  ({file}:1:4)\n" in shown
    assert "hush" not in shown
    assert run("graph", "-i", hosts).splitlines() == [
        "@all:",
        "  |--@p:",
        "  |  |--@w:",
        "  |  |  |--a",
        "  |--@ungrouped:",
    ]


def test_a_section_for_the_variables_of_a_group_of_another_source(tmp_path: Path) -> None:
    first, second = put(tmp_path, "a", "[w]\na\n"), put(tmp_path, "b", "[w:vars]\nansible_user=u\n")
    assert [host.user for host in load([first, second], home="/").hosts] == ["u"]
    assert f"{second}:1" in refused(second)
