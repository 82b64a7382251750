"""The running fleet, looked at over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.demo.plan import Isolation, Server
from tests.demo.looking import log_in, look, own_namespaces, program, run

HOSTS = ("web1", "web2", "batch1", "db1")


def test_every_host_is_a_host_of_its_own(fleet: DemoFleet) -> None:
    seen = [look(fleet, name) for name in HOSTS]
    assert tuple(host.hostname for host in seen) == HOSTS
    for kind, ours in own_namespaces().items():
        assert len({host.namespaces[kind] for host in seen} | {ours}) == len(HOSTS) + 1
    assert {host.euid for host in seen} == {0}


def test_a_host_sees_only_its_own_processes(fleet: DemoFleet) -> None:
    seen = look(fleet, "web2")
    assert program(seen.argv[1]) == "init.py"
    services = [pid for pid, argv in seen.argv.items() if program(argv) == "storefront.py"]
    session = {pid for pid, parent in seen.parents.items() if parent == 0 and pid != 1}
    related = {pid for pid, parent in seen.parents.items() if parent in session}
    others = set(seen.argv) - {1} - set(services) - session - related
    assert len(services) == 4
    assert not {pid for pid in others if seen.parents[pid] not in related}


def test_web1_shell_holds_the_web_server_socket_too(fleet: DemoFleet) -> None:
    seen = look(fleet, "web1")
    assert list(seen.owners) == [("0.0.0.0", 8080)]
    assert seen.programs("0.0.0.0", 8080) == ["sh", "webshop.py"]
    shell = next(pid for pid in seen.owners["0.0.0.0", 8080] if program(seen.argv[pid]) == "sh")
    assert program(seen.argv[seen.parents[shell]]) == "webshop.py"


def test_web2_is_a_clean_prefork_server(fleet: DemoFleet) -> None:
    assert look(fleet, "web2").programs("0.0.0.0", 8080) == ["storefront.py"] * 4


def test_batch1_shell_is_the_last_holder(fleet: DemoFleet) -> None:
    seen = look(fleet, "batch1")
    assert seen.programs("0.0.0.0", 9090) == ["sh"]
    assert [seen.parents[pid] for pid in seen.owners["0.0.0.0", 9090]] == [1]
    assert "report_server.py" not in {program(argv) for argv in seen.argv.values()}


def test_db1_database_is_bound_to_all_addresses(fleet: DemoFleet) -> None:
    assert look(fleet, "db1").programs("0.0.0.0", 5432) == ["database.py"]


def test_services_answer_inside_and_nowhere_else(fleet: DemoFleet) -> None:
    ask = (
        "import socket; link = socket.create_connection(('127.0.0.1', 8080), 10);"
        "link.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(link.makefile().read())"
    )
    for name, greeting in (("web1", b"demo shop"), ("web2", b"demo storefront")):
        with log_in(fleet, name) as client:
            status, output, _ = run(client, f'python3 -I -S -c "{ask}" || python -c "{ask}"')
        assert (status, greeting in output) == (0, True)


@contextlib.contextmanager
def _named_namespace() -> Iterator[int]:
    """Another network namespace of this machine, kept alive in /run as `ip netns add` does; its inode."""
    keeper = Path("/run/fleetaudit-test-netns")
    keeper.touch()
    try:
        subprocess.run(["unshare", f"--net={keeper}", "true"], check=True)
        yield keeper.stat().st_ino
    finally:
        subprocess.run(["umount", str(keeper)], check=False)
        keeper.unlink()


@pytest.mark.parametrize("server", list(Server))
def test_nothing_of_this_machines_network_is_visible_inside(tmp_path: Path, server: Server) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can name a network namespace")
    with _named_namespace() as elsewhere, DemoFleet.start(tmp_path, server=server) as fleet:
        seen = look(fleet, "web1")
        assert elsewhere not in seen.reachable
        assert seen.reachable == [seen.namespaces["net"]]
        assert seen.nsfs == []
        assert seen.run == ["demo", "sshd"]


def test_streams_and_exit_status_arrive_whole(any_fleet: DemoFleet) -> None:
    data = bytes(range(256)) * 4096
    with log_in(any_fleet, "web1") as client:
        assert run(client, "cat", data) == (0, data, b"")
        assert run(client, "cat >&2; echo out; exit 7", data) == (7, b"out\n", data)
        assert run(client, "exec 0<&-; echo done", data)[:2] == (0, b"done\n")
        assert run(client, "no-such-command")[0] == 127


def test_a_killed_command_has_no_zero_status(any_fleet: DemoFleet) -> None:
    with log_in(any_fleet, "web1") as client:
        assert run(client, "kill -9 $$")[0] != 0


def test_a_command_gets_no_terminal(any_fleet: DemoFleet) -> None:
    with log_in(any_fleet, "web1") as client, pytest.raises(paramiko.SSHException):
        client.exec_command("true", get_pty=True, timeout=20)


def test_only_the_fleets_key_and_user_get_in(any_fleet: DemoFleet) -> None:
    stranger = paramiko.RSAKey.generate(2048)
    with pytest.raises(paramiko.AuthenticationException):
        log_in(any_fleet, "web1", key_filename=None, pkey=stranger)
    with pytest.raises(paramiko.AuthenticationException):
        log_in(any_fleet, "web1", username="nobody-of-that-name")
    with pytest.raises(paramiko.SSHException):
        log_in(any_fleet, "web1", key_filename=None, password="guess")


def test_badkey1_shows_another_key_than_recorded(any_fleet: DemoFleet) -> None:
    with pytest.raises(paramiko.BadHostKeyException):
        log_in(any_fleet, "badkey1")


def test_down1_refuses_at_once(any_fleet: DemoFleet) -> None:
    began = time.monotonic()
    with pytest.raises(paramiko.ssh_exception.NoValidConnectionsError):
        log_in(any_fleet, "down1")
    assert time.monotonic() - began < 5


def test_a_command_ends_with_its_connection(any_fleet: DemoFleet) -> None:
    with log_in(any_fleet, "web1") as watcher:
        client = log_in(any_fleet, "web1")
        stdin, stdout, _ = client.exec_command("echo $$; cat; echo unheard", timeout=20)
        running = f"test -d /proc/{int(stdout.readline())}"
        assert run(watcher, running)[0] == 0
        client.close()
        deadline = time.monotonic() + 20
        while run(watcher, running)[0] == 0:
            assert time.monotonic() < deadline, "the command outlived its connection"
            time.sleep(0.05)
        del stdin  # paramiko says end of file when nobody holds it


def test_without_isolation_three_hosts_share_this_machine(tmp_path: Path) -> None:
    with DemoFleet.start(tmp_path, isolation=Isolation.NONE) as fleet:
        assert [host.name for host in fleet.describe()] == ["web1", "down1", "badkey1"]
        assert "not isolated" in fleet.notes[-1]
        policy = (fleet.policies / "web.yaml").read_text()
        ports = json.loads(policy.split("port: ")[1].split("}")[0])
        seen = look(fleet, "web1")
        assert seen.namespaces == own_namespaces()
        owners = sorted(seen.programs("127.0.0.1", port) for port in ports)
        assert owners == [["sh", "webshop.py"], ["storefront.py"] * 4]
        assert not [key for key in seen.owners if key[1] in ports and key[0] != "127.0.0.1"]
