"""What the agent could not see, it says: never a listener that merely looks ownerless."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.agent.looking import AS_NOBODY, Start, codes, pids, socket_on, take_census

# Every gap of this machine itself: its init may be closed even to root.
ROOT_MAY_MEET = {"denied_process", "denied_fd"}


def test_as_root_nothing_but_closed_processes_is_missing(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s))")
    document = take_census()
    initial = str(Path("/proc/self/ns/pid").readlink()) == "pid:[4026531836]"
    allowed = ROOT_MAY_MEET | (set() if initial else {"pid_namespace"})
    assert codes(document) <= allowed
    coverage = document["coverage"]
    assert coverage["complete"] is (not coverage["gaps"])
    assert coverage["euid"] == 0
    assert coverage["processes"]["seen"] > 3
    assert socket_on(document, facts["socket"])["owner_state"] == "owned"


def test_in_a_container_the_pid_namespace_is_the_only_gap(start: Start) -> None:
    # In a network namespace of their own: what is in flight in this machine's unix sockets is a gap too.
    code = 's = listener(address="0.0.0.0")\nready(socket=inode(s), pid=os.getpid())'
    facts = start(code, prefix=["unshare", "--net"])
    enter = ["nsenter", f"--net=/proc/{facts['pid']}/ns/net"]
    document = take_census(prefix=[*enter, "unshare", "--pid", "--fork", "--mount-proc"])
    assert codes(document) == {"pid_namespace"}
    assert document["coverage"]["complete"] is False
    found = socket_on(document, facts["socket"])
    assert (found["owners"], found["owner_state"]) == ([], "unknown"), "the owner is outside"


INSIDE = """
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
libc.unshare(0x40000000)
kept = os.open("/proc/self/ns/net", os.O_RDONLY)  # a namespace that nothing but this descriptor keeps
libc.unshare(0x40000000)
sleeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # one that a process lives in
libc.setns(home, 0x40000000)
done = subprocess.run([sys.executable, "-I", "-S", "-"], input=sys.stdin.buffer.read(), capture_output=True)
sys.stdout.buffer.write(done.stdout)
sleeper.stdin.close()
sleeper.wait()
"""


def test_a_namespace_that_nobody_inside_is_in_is_marked_outside(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s))")
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    document = take_census(prefix=prefix, interpreter=[sys.executable, "-c", INSIDE])
    spaces = document["network_namespaces"]
    assert spaces[0]["host"] is True
    assert sorted(space.get("outside", False) for space in spaces) == [False, False, True]
    found = socket_on(document, facts["socket"])
    assert found["owner_state"] == "unknown", "still there after the second look, from our own namespace"


def test_as_nobody_owners_are_unknown_not_absent(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s))")
    document = take_census(interpreter=[sys.executable, "-I", "-c", AS_NOBODY])
    found = socket_on(document, facts["socket"])
    assert (found["owners"], found["owner_state"]) == ([], "unknown")
    assert {"not_root", "no_sys_ptrace", "denied_process"} <= codes(document)
    assert document["coverage"]["euid"] == 65534
    assert document["coverage"]["processes"]["unreadable"] > 0


def test_root_without_ptrace_does_not_take_sockets_for_ownerless(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s), pid=os.getpid())")
    document = take_census(prefix=["setpriv", "--bounding-set=-sys_ptrace"])
    assert {"no_sys_ptrace", "denied_process", "denied_fd"} <= codes(document)
    assert "not_root" not in codes(document)
    assert socket_on(document, facts["socket"])["owner_state"] == "unknown"


def test_a_namespace_that_may_not_be_entered_is_named(start: Start) -> None:
    facts = start(
        "s = listener()\nready(netns=os.stat('/proc/self/ns/net').st_ino, socket=inode(s))",
        prefix=["unshare", "-n"],
    )
    document = take_census(prefix=["setpriv", "--bounding-set=-sys_admin"])
    gaps = {(gap["code"], gap.get("netns")) for gap in document["coverage"]["gaps"]}
    assert ("netns_not_entered", facts["netns"]) in gaps
    assert facts["netns"] in {space["id"] for space in document["network_namespaces"]}
    assert not [item for item in document["sockets"] if item["inode"] == facts["socket"]]


@pytest.mark.parametrize(("option", "gap"), [("hidepid=2", True), ("hidepid=0", False)])
def test_hidden_processes_are_a_gap_for_whom_they_hide_from(option: str, gap: bool) -> None:
    mount = ["unshare", "-m", "sh", "-c", f'mount -t proc -o {option} none /proc; exec "$@"', "sh"]
    document = take_census(prefix=mount, interpreter=[sys.executable, "-I", "-c", AS_NOBODY])
    assert ("hidepid" in codes(document)) is gap
    assert "hidepid" not in codes(take_census(prefix=mount)), "root sees them all the same"


def test_a_spent_budget_is_a_gap(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s))")
    document = take_census(budget_seconds=0.000001)
    assert "budget" in codes(document)
    assert socket_on(document, facts["socket"])["owner_state"] == "unknown"


def test_spent_memory_is_a_gap(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s))")
    document = take_census(interpreter=[sys.executable, "-I", "-c", BIG], budget_mib=256)
    (gap,) = [gap for gap in document["coverage"]["gaps"] if gap["code"] == "budget"]
    assert gap["detail"] == "stopped after three quarters of 256 MiB of memory, before every process was seen"
    assert socket_on(document, facts["socket"])["owner_state"] == "unknown"


BIG = """
import sys
ballast = b"x" * (200 << 20)
del ballast
exec(compile(sys.stdin.buffer.read(), "agent", "exec"))
"""


@pytest.mark.parametrize("limit", [6000, 1])
def test_what_does_not_fit_is_left_out_and_said(start: Start, limit: int) -> None:
    start("made = [listener() for _ in range(200)]\nready()")
    whole, cut = take_census(), take_census(max_output=limit)
    assert "truncated" in codes(cut)
    assert cut["coverage"]["complete"] is False
    assert len(cut["sockets"]) < len(whole["sockets"])
    assert not [process for process in cut["processes"].values() if "argv" in process]
    for found in cut["sockets"]:
        assert {str(pid) for pid in pids(found)} <= set(cut["processes"])


def test_a_vsock_socket_that_cannot_be_listed_is_a_gap(start: Start) -> None:
    if not Path("/dev/vsock").exists():
        pytest.skip("this kernel has no vsock")
    start("""
s = socket.socket(socket.AF_VSOCK)
s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
s.listen()
ready()
""")
    document = take_census()
    listed = [item for item in document["sockets"] if item["protocol"] == "vsock"]
    gaps = [gap for gap in document["coverage"]["gaps"] if gap.get("protocol") == "vsock"]
    assert bool(listed) != bool(gaps)


def test_what_is_mounted_over_a_process_is_a_gap(start: Start) -> None:
    facts = start("s = listener()\nready(pid=os.getpid())")
    cover = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none /proc/{facts["pid"]}; exec "$@"', "sh"]
    details = [gap["detail"] for gap in take_census(prefix=cover)["coverage"]["gaps"]]
    assert "something is mounted over a process's directory in /proc" in details


def test_root_of_a_user_namespace_is_not_spared_by_hidepid() -> None:
    inside = ["unshare", "-m", "sh", "-c", 'mount -t proc -o hidepid=2 none /proc; exec "$@"', "sh"]
    document = take_census(prefix=[*inside, "unshare", "-r"])
    assert "hidepid" in codes(document)
