"""INI files, directories, variables beside them, scripts: what is wrong with them is said, and where."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import Disk, Inventory, load, script
from tests import running


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)


def read(path: Path) -> Inventory:
    return load([str(path)], home="/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[web\n", ":1: "),
        ("[we b]\n", ":1: '[we b]' is no section"),
        ("[web:hosts:vars]\n", ":1: '[web:hosts:vars]' is no section"),
        ("[web:var]\nw1\n", ":1: 'var' is no kind of section"),
        ("[web:vars]\nx=1\n", ":1: no section declares the group 'web'"),
        ("w1\n[top:children]\nwbe\n", ":3: no section declares the group 'wbe'"),
        ("[ungrouped:children]\n", ":1: 'ungrouped' cannot have children"),
        (
            "[web]\nw1\nansible_user=joe\n",
            ":3: 'ansible_user=joe' is no host name (write a group's variables",
        ),
        ("[web]\nw1 user\n", ":2: 'user' is no variable"),
        ("[web]\nw1 a='b\n", ":2: no closing quotation"),
        ("[web]\nw1\n[web:vars]\nuser\n", ":4: 'user' is no variable"),
        ("[top:children]\na b\n", ":2: 'a b' is no group name"),
        ("[web]\nw[1:\n", ":2: "),
        ("[web]\nw1:99999\n", ":2: 'w1:99999': 99999 is not a port"),
        ("[web]\n-oProxyCommand\n", ":2: host name '-oProxyCommand' begins"),
        ("[a:children]\nb\n[b:children]\na\n[b]\nw1\n", "a group contains itself: a -> b -> a"),
        ("[web]\nw1 ansible_user={{x}}\n", ":2: ansible_user: the value is a template"),
        ("[web]\nw1 ansible_port=x\n", ":2: "),
        ("[web]\nw1 a=" + "[" * 5000 + "\n", ":2: "),
        ("[web]\nw1 a=1\n" + "b" * 300 + "\n", ":3: "),
        ("", "the inventory has no host"),
    ],
)
def test_mistakes_in_ini(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    if "[" * 5000 in text:
        assert read(path).hosts[0].name == "w1"  # no literal, so it is text
        return
    with pytest.raises(InventoryError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_literal_that_no_report_can_hold_stays_text(tmp_path: Path) -> None:
    write(tmp_path, {"hosts": "w1 fleetaudit_a=1e999 fleetaudit_b=\"['\\\\ud800']\" fleetaudit_c=1e9\n"})
    assert dict(read(tmp_path / "hosts").hosts[0].context.variables) == {
        "fleetaudit_a": "1e999",
        "fleetaudit_b": "['\\ud800']",
        "fleetaudit_c": 1e9,
    }


def test_all_mistakes_come_together(tmp_path: Path) -> None:
    write(tmp_path, {"a.ini": "w1 x\n[web:var]\n", "b.yml": "web: [1]\n"})
    with pytest.raises(InventoryError) as caught:
        load([str(tmp_path / "a.ini"), str(tmp_path / "b.yml")], home="/")
    assert len(caught.value.problems) == 3


@settings(max_examples=200, deadline=3000)
@given(
    st.lists(
        st.sampled_from(
            [
                "[web]",
                "[a:children]",
                "[web:vars]",
                "web",
                "w[1:3] x=1",
                "w1 y='",
                "a=b",
                "#c",
                "[",
                "\\",
                "é=[1",
            ]
        )
        | st.text(max_size=12),
        max_size=8,
    )
)
def test_any_text_is_an_inventory_or_a_located_mistake(lines: list[str]) -> None:
    text = "\n".join(lines).encode("utf-8", "replace")
    try:
        found = load(["f.ini"], Disk(lambda _: text, lambda _: None, lambda _: False), home="/")
    except InventoryError as error:
        messages = [str(problem) for problem in error.problems]
    else:
        assert found.hosts
        messages = ["f.ini"]
    assert [message for message in messages if not message.startswith("f.ini")] == []


def test_a_wrong_file_beside_is_located_and_nothing_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "hosts": "[web]\nw1\n",
            "group_vars/web.yml": "a: 1\nb: [\n",
            "host_vars/w1.yml": "- a list\n",
            "group_vars/nobody.yml": "]",
        },
    )
    with pytest.raises(InventoryError) as caught:
        read(tmp_path / "hosts")
    assert "group_vars/web.yml:3" in str(caught.value)
    assert "host_vars/w1.yml:1:1: these are no variables" in str(caught.value)
    assert "nobody" not in str(caught.value)


def test_files_beside_are_on_record(tmp_path: Path) -> None:
    write(tmp_path, {"hosts": "[web]\nw1\n", "group_vars/web.yml": "ansible_user: joe\n"})
    inventory = read(tmp_path)
    assert [(Path(source.path).name, source.name) for source in inventory.sources] == [
        ("hosts", "ansible_ini"),
        ("web.yml", "group_vars"),
    ]
    assert inventory.hosts[0].user == "joe"


def test_a_directory_that_contains_itself(tmp_path: Path) -> None:
    write(tmp_path, {"hosts": "w1\n"})
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(InventoryError, match="nested deeper than 20 levels"):
        read(tmp_path)


def test_a_group_cannot_be_named_out_of_the_directory(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"in/hosts": "[../x]\nw1\n", "in/group_vars/y.yml": "a: 1\n", "x.yml": "ansible_user: evil\n"},
    )
    assert read(tmp_path / "in" / "hosts").hosts[0].user is None


# ---------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#!/bin/sh\necho no luck >&2; exit 3\n",
            "`hosts --list` ended with status 3: no luck (run it by hand",
        ),
        ("#!/no/such/interpreter\n", "`hosts --list` cannot be started: No such file"),
        ("#!/bin/sh\necho hosts\n", "this is no JSON"),
        ("#!/bin/sh\necho '[1]'\n", "this is no JSON object"),
        ('#!/bin/sh\necho \'{"web": {"hosts": [1]}}\'\n', "'web' has hosts that are no list of names"),
        ("#!/bin/sh\necho '{\"web\": 7}'\n", "'web' is no group"),
        ('#!/bin/sh\necho \'{"web": ["a"], "web": ["b"]}\'\n', "'web' stands twice"),
        ('#!/bin/sh\necho \'{"web": ["-a"]}\'\n', "host name '-a' begins with '-'"),
        ('#!/bin/sh\nprintf \'{"web": {"vars": {"a": 1e999}}}\'\n', "not JSON compliant"),
        ('#!/bin/sh\nprintf \'{"web": {"vars": {"a": "\\\\ud800"}}}\'\n', "this is no JSON: "),
        ('#!/bin/sh\necho \'{"_meta": 1, "web": ["a"]}\'\n', "'_meta' has no hostvars"),
        ("#!/bin/sh\necho '{}'\n", "the inventory has no host"),
        ("#!/bin/sh\nhead -c 40000000 /dev/zero\n", "prints more than"),
        ("#!/bin/sh\nyes '[' | head -c 200000\n", "nested too deep"),
        ('#!/bin/sh\ntest $1 = --list && echo \'{"web": ["a"]}\'\n', "`hosts --host a` ended with status 1"),
    ],
)
def test_scripts_that_fail(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"hosts": text})
    with pytest.raises(InventoryError) as caught:
        read(tmp_path / "hosts")
    assert str(caught.value).startswith(f"{tmp_path}/hosts: ")
    assert message in str(caught.value)


def test_a_script_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "SECONDS", 0.5)
    write(tmp_path, {"hosts": f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/pid; wait\n"})
    threads = running.threads()
    began = time.monotonic()
    with pytest.raises(InventoryError, match=r"did not end within 0\.5 seconds"):
        read(tmp_path / "hosts")
    assert time.monotonic() - began < 30
    assert running.threads() <= threads
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_script_in_this_directory_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    write(tmp_path, {"hosts": '#!/bin/sh\necho \'{"web": {"hosts": ["w1"]}, "_meta": {"hostvars": {}}}\'\n'})
    inventory = load(["hosts"], home="/")
    assert [host.name for host in inventory.hosts] == ["w1"]
    assert [source.name for source in inventory.sources] == ["script"]
