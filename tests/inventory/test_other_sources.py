"""Salt rosters, ssh_config files, and what `inventory list --vars` and `inventory graph` show."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import Overrides, load


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
    assert (hosts["db"].address, hosts["db"].port) == ("192.0.2.9", None)


def test_what_an_ssh_config_does_not_state_is_left_to_others(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    text = f"Host *.skip\n  User x\nHost a b\nHost b\n  User {me}\n  Port 22\n"
    path = put(tmp_path, "with a blank [x]", f"ServerAliveInterval 60\nInclude ~no_such_user/x\n{text}")
    before = put(tmp_path, "hosts", "[web]\na ansible_port=2222\nb ansible_port=2222\n")
    found = load([before, path], home="/", overrides=Overrides(user="deploy")).hosts
    assert [(host.name, host.address, host.user, host.port) for host in found] == [
        ("a", "a", "deploy", 2222),
        ("b", "b", me, 22),
    ]
    assert [host.context.groups for host in found] == [("web",), ("web",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n  IdentityFile /k1\nHost *\n  IdentityFile /k2\n", ":1: 'a' has 2 keys"),
        ("Host a\n  IdentityFile %d/k1\n", ":1: the key of 'a' is '%d/k1'"),
        ("Host 'b\nHost a\n", ":1: the quotes"),
        ("Host a\n  Usr x\n", "Bad configuration option: usr"),
        ("Include {}/config\nHost a\n", "files include each other 16 deep"),
    ],
)
def test_mistakes_in_an_ssh_config(tmp_path: Path, text: str, message: str) -> None:
    path = put(tmp_path, "config", text.replace("{}", str(tmp_path)))
    assert message in refused(path)
    assert refused(path).startswith(path)


def test_a_host_may_be_called_host(tmp_path: Path) -> None:
    path = put(tmp_path, "hosts", "host ansible_host=192.0.2.1\nmatch port=1\ninclude\n")
    hosts = load([path], home="/").hosts
    assert [host.name for host in hosts] == ["host", "include", "match"]
    assert hosts[0].address == "192.0.2.1"


def test_a_prefix_says_how_a_file_is_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "group_vars/web.yml", "ansible_user: joe\n")
    ini = put(tmp_path, "inv.yml", "[web]\nw1\n")
    roster = put(tmp_path, "roster", "r1: 192.0.2.1\n")
    assert "this is an INI inventory, and its name says YAML" in refused(ini)
    assert "write a mapping or nothing" in refused(roster)
    inventory = load([f"ansible_ini:{ini}", f"salt_roster:{roster}"], home="/")
    assert [(host.name, host.user, host.address) for host in inventory.hosts] == [
        ("r1", None, "192.0.2.1"),
        ("w1", "joe", "w1"),
    ]
    assert [(source.path, source.name) for source in inventory.sources][:2] == [
        (ini, "ansible_ini"),
        (roster, "salt_roster"),
    ]
    assert f"{roster}:1: " in refused(f"ansible_ini:{roster}")
    assert f"{tmp_path}: the inventory cannot be read: Is a directory" in refused(f"ansible_ini:{tmp_path}")
    (host,) = load(["ansible_ini:22,"], home="/").hosts  # a comma is always a list of hosts
    assert (host.name, host.port) == ("ansible_ini", 22)
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "ansible_ini:x", "w9\n")
    assert load(["./ansible_ini:x"], home="/").hosts[0].name == "w9"


def test_a_roster_on_one_line(tmp_path: Path) -> None:
    (host,) = load([put(tmp_path, "roster", "r1: {host: 192.0.2.1, user: joe}\n")], home="/").hosts
    assert (host.address, host.user) == ("192.0.2.1", "joe")
    path = put(tmp_path, "hosts", "web: {hosts: {w1: {host: x}}}\n")
    assert load([path], home="/").hosts[0].name == "w1"


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
    assert f"  |  |  |  |--{{v = [1]  ({file}:1:4)}}" in run("graph", "-i", hosts, "--vars").splitlines()
    document = json.loads(run("list", "-i", hosts, "--vars", "--format", "json"))
    assert document["_meta"]["hostvars"]["a"] == {
        "port": 1,
        "api_token": "***",
        "d": {"password": "***"},
        "v": [1],
    }


def test_a_section_for_the_variables_of_a_group_of_another_source(tmp_path: Path) -> None:
    first, second = put(tmp_path, "a", "[w]\na\n"), put(tmp_path, "b", "[w:vars]\nansible_user=u\n")
    assert [host.user for host in load([first, second], home="/").hosts] == ["u"]
    assert f"{second}:1" in refused(second)
