"""The accelerator: the same answers as the walk in every case that it sees, or the walk and the reason."""

# ruff: noqa: F401  (pytest collects the imported tests here once more)

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.agent import agent, agent_bpf
from tests.agent import looking
from tests.agent.looking import Document, Start, hold, socket_on, take_census
from tests.agent.test_holders import (
    test_a_prefork_server_that_replaces_its_workers,
    test_an_mptcp_listener_is_one_row,
    test_an_owner_in_a_pid_namespace_below_ours,
    test_an_owner_that_cannot_be_interrupted,
    test_close_on_exec_is_told_of_each_descriptor,
)
from tests.agent.test_inherited import (
    test_a_shell_whose_server_died_is_an_orphan,
    test_another_program_is_handed_down_to_and_a_shell_is_a_leak,
    test_workers_are_handed_down_by_whoever_forked_them,
)
from tests.agent.test_owners import (
    test_a_first_thread_that_ended_hides_nothing,
    test_a_listener_held_by_an_io_uring_alone,
    test_a_listener_in_flight_in_a_unix_socket,
    test_a_namespace_kept_by_a_socket_of_a_thread_alone,
    test_a_namespace_that_nothing_but_a_socket_keeps,
    test_a_namespace_that_only_a_descriptor_keeps,
    test_a_namespace_that_only_a_mount_keeps,
    test_a_namespace_that_only_a_thread_is_in,
    test_a_namespace_with_a_process_in_it,
    test_a_queue_in_a_namespace_that_is_found_late_is_a_gap,
    test_a_queue_without_descriptors_hides_nothing,
    test_a_ring_beside_an_owner_and_empty_places_in_it,
    test_a_ring_that_accepts_without_a_descriptor_is_a_gap,
    test_a_socket_of_a_ring_that_no_namespace_lists_is_a_gap,
    test_a_socket_passed_to_a_stranger,
    test_a_thread_with_descriptors_of_its_own,
    test_agrees_with_ss_on_this_machine,
    test_fork_every_child_is_an_owner,
    test_many_connections_are_listed_and_not_asked,
    test_processes_that_replace_each_other_during_the_walk,
    test_raw_and_packet_sockets,
    test_reuseport_group_is_one_row_per_socket,
    test_stopped_and_undumpable_owners,
    test_the_origin_case_server_shell_and_grandchild,
    test_udp_counts_only_while_it_hears_from_anyone,
    test_unix_sockets_that_hear_from_anyone,
)

FACTS = ("inode", "netns", "protocol", "address", "port", "path", "owner_state", "owners", "held_by")


@pytest.fixture(autouse=True)
def by_bpf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MODES", ["bpf"])


@pytest.fixture
def usable() -> None:
    """For what can only be seen where the kernel lets BPF be used."""
    try:
        agent_bpf.Iterator("/proc").close()
    except agent_bpf.Refused as refused:
        if refused.code == "bpf_untrue":
            raise
        pytest.skip(f"BPF cannot be used here: {refused}")


def refusal(document: Document) -> str:
    """The code under which the accelerator was given up; the walk took its place."""
    assert document["agent"]["mode"] == "walk"
    (only,) = document["coverage"]["reduced"]
    assert only["detail"].startswith("bpf was not used: ")
    return str(only["code"])


@pytest.mark.usefixtures("usable")
def test_it_is_used_and_sees_what_the_walk_sees(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(start, {"sh": ["/bin/sh", "sh", "-c", "read line"]})
    mine = take_census()
    assert (mine["agent"]["mode"], mine["coverage"]["reduced"]) == ("bpf", [])
    monkeypatch.setattr(looking, "MODES", ["walk"])
    theirs = take_census()
    seen = [
        {
            item["inode"]: [item.get(key) for key in FACTS]
            for item in document["sockets"]
            if {"sh"} & {document["processes"][str(pid)]["comm"] for pid in looking.pids(item)}
        }
        for document in (mine, theirs)
    ]
    assert seen[0] == seen[1] != {}
    assert mine["agent"]["sha256"] != theirs["agent"]["sha256"]


def test_what_it_is_checked_against_is_not_in_the_snapshot() -> None:
    document = take_census()
    agents = [pid for pid, process in document["processes"].items() if process["comm"].startswith("python")]
    held = [item for item in document["sockets"] if {int(pid) for pid in agents} & looking.pids(item)]
    assert not [item for item in held if item["protocol"] == "unix" and len(str(item["path"])) == 6]


def test_in_a_pid_namespace_it_is_refused(start: Start) -> None:
    facts = hold(start, {"sh": ["/bin/sh", "sh", "-c", "read line"]})
    document = take_census(["unshare", "--pid", "--fork"])
    assert refusal(document) == "bpf_pid_namespace"
    assert facts["pid"] in looking.pids(socket_on(document, facts["socket"]))


def test_without_the_rights_for_it_the_walk_is_taken() -> None:
    assert refusal(take_census(["setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon"])) == "bpf_refused"


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ("rm btf", "bpf_no_btf"),
        ("head -c 100000 /sys/kernel/btf/vmlinux > btf", "bpf_no_btf"),
        ("head -c 2000 /dev/urandom > btf", "bpf_no_btf"),
        (": > btf", "bpf_no_btf"),
        ("sed s/bpf_iter_task_file/bpf_iter_task_xxxx/ /sys/kernel/btf/vmlinux > btf", "bpf_no_iterator"),
        ("sed s/f_inode/x_inode/ /sys/kernel/btf/vmlinux > btf", "bpf_no_btf"),
    ],
    ids=["none", "cut short", "noise", "empty", "an older kernel", "another layout"],
)
def test_a_kernel_that_does_not_describe_itself(tmp_path: Path, made: str, code: str) -> None:
    (tmp_path / "run").write_text(
        f"cd {tmp_path}; touch btf; {made}; mount -t tmpfs none /sys/kernel/btf &&"
        "{ test ! -e btf || cp btf /sys/kernel/btf/vmlinux; }; "
        'exec "$@"\n'
    )
    assert refusal(take_census(["unshare", "--mount", "sh", str(tmp_path / "run")])) == code


@pytest.mark.usefixtures("usable")
def test_a_list_that_is_not_true_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = agent_bpf.Btf.offset

    def wrong(self: agent_bpf.Btf, structure: str, member: str) -> int:
        return right(self, structure, "i_size" if member == "i_ino" else member)

    monkeypatch.setattr(agent_bpf.Btf, "offset", wrong)
    with pytest.raises(agent_bpf.Refused, match="descriptors that are our own") as raised:
        agent_bpf.Iterator("/proc")
    assert raised.value.code == "bpf_untrue"


@pytest.mark.usefixtures("usable")
def test_a_list_that_breaks_off_later_is_replaced_by_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    coverage = agent.Coverage()
    describer = agent.Describer(agent.our_mounts(), "none")
    walk = agent_bpf.IteratedWalk("/proc", coverage, describer, agent.Budget(1e6, 1 << 20, coverage))
    assert walk.mode == "bpf"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
        monkeypatch.setattr(agent_bpf.Iterator, "_rows", lambda self, link: agent_bpf.Rows(b""))
        walk.visit(agent.list_pids("/proc"), {link})
        os.chdir("/")
    assert walk.mode == "walk"
    assert [entry["code"] for entry in coverage.reduced] == ["bpf_untrue"]
    assert os.getpid() in walk.owners[link]


def test_another_machine_has_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_bpf, "BPF_CALLS", {})
    with pytest.raises(agent_bpf.Refused, match="no number known"):
        agent_bpf.Iterator("/proc")


BTF = Path(agent_bpf.BTF_FILE).read_bytes() if Path(agent_bpf.BTF_FILE).exists() else b""


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda body: BTF[:24] + body, st.binary(max_size=400)))
def test_damaged_btf_is_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(agent_bpf.Refused):
        agent_bpf.program(agent_bpf.Btf(data))
