"""The way to a host, as the arguments that Ansible hands to ssh say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import load
from fleetaudit.inventory.base import Mistake
from fleetaudit.inventory.ssh_args import Way, way
from fleetaudit.model import Host, Jump


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-J bastion", Way((Jump("bastion"),))),
        ("-Jme@bastion:2200", Way((Jump("bastion", 2200, "me"),))),
        ("-J 'a, b@[2001:db8::1]:22'", Way((Jump("a"), Jump("2001:db8::1", 22, "b")))),
        ("-J ssh://me@bastion:2200", Way((Jump("bastion", 2200, "me"),))),
        ("-o ProxyJump=a,b", Way((Jump("a"), Jump("b")))),
        ("-oProxyJump=a", Way((Jump("a"),))),
        ("-o 'ProxyJump a'", Way((Jump("a"),))),
        ("-o proxyjump=none", Way()),
        ("-o ProxyCommand='ssh -W %h:%p -q me@bastion'", Way((), "ssh -W %h:%p -q me@bastion")),
        ('-o ProxyCommand="nc -x proxy:1080 %h %p"', Way((), "nc -x proxy:1080 %h %p")),
        ("-o ProxyCommand=none -J a", Way()),
        ("-J a -o ProxyCommand=nc", Way((Jump("a"),))),
        ("-C -o ControlMaster=auto -o ControlPersist=60s -q -vvv", Way()),
        ("-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null", Way()),
        ("", Way()),
    ],
)
def test_what_is_understood(text: str, expected: Way) -> None:
    assert way(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("-p 22", "'-p' is not understood", "use ansible_port"),
        ("-o User=joe", "'-o user' is not understood", "use ansible_user"),
        ("-o HostName=elsewhere", "'-o hostname'", "use ansible_host"),
        ("-i ~/.ssh/key", "'-i'", "use ansible_ssh_private_key_file"),
        ("-o BindAddress=10.0.0.1", "'-o bindaddress'", "remove it"),
        ("-F other", "'-F'", "remove it"),
        ("-6", "'-6'", "remove it"),
        ("elsewhere", "'elsewhere'", "remove it"),
        ("-J", "-J has no value", "write one"),
        ("-J a:0", "'a:0' is no jump host", "write [user@]host[:port]"),
        ("-J -oProxyCommand=x", "'-oProxyCommand=x' is no jump host", "write"),
        ("-J a,,b", "'' is no jump host", "write"),
        ("-o 'x", "no closing quotation", "close"),
    ],
)
def test_what_is_not_is_a_mistake(text: str, message: str, hint: str) -> None:
    with pytest.raises(Mistake) as caught:
        way(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(st.text(alphabet="-oJp=: @,[]'\"a1%\\\n", max_size=30))
def test_any_text_is_a_way_or_a_mistake(text: str) -> None:
    try:
        found = way(text)
    except Mistake as mistake:
        found = Way()
        assert mistake.hint  # noqa: PT017  (either of the two may come)
    assert not (found.jumps and found.proxy_command)


def hosts(tmp_path: Path, text: str) -> dict[str, Host]:
    path = tmp_path / "hosts"
    path.write_text(text)
    return {host.name: host for host in load([str(path)], home="/").hosts}


def test_the_first_that_says_something_counts(tmp_path: Path) -> None:
    found = hosts(
        tmp_path,
        "[all:vars]\nansible_ssh_common_args=-J common\n[web]\n"
        "w1\n"
        "w2 ansible_ssh_args='-J first'\n"
        "w3 ansible_ssh_args='-C' ansible_ssh_extra_args='-J last'\n"
        "w4 ansible_ssh_common_args=''\n"
        "w5 ansible_ssh_common_args='-o ProxyCommand=\"nc %h %p\"'\n",
    )
    ways = {name: [jump.address for jump in host.jumps] or host.proxy_command for name, host in found.items()}
    assert ways == {"w1": ["common"], "w2": ["first"], "w3": ["common"], "w4": None, "w5": "nc %h %p"}


def test_a_mistake_is_located(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"hosts:2: ansible_ssh_common_args: the ssh option '-p'"):
        hosts(tmp_path, "[web]\nw1 ansible_ssh_common_args='-p 22'\n")
    with pytest.raises(InventoryError, match=r"hosts:1: ansible_ssh_extra_args: the value is a template"):
        hosts(tmp_path, "w1 ansible_ssh_extra_args='-J {{ bastion }}'\n")


def test_names_and_passwords_of_digits_stay_text(tmp_path: Path) -> None:
    (host,) = hosts(tmp_path, "w1 ansible_user=1001 ansible_password=00123 ansible_port=22\n").values()
    assert host.user == "1001"
    assert host.password is not None
    assert host.password.reveal() == "00123"
    assert host.port == 22
