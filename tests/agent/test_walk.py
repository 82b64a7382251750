"""Races, replayed: the parts of the census driven step by step over real and made-up processes."""

from __future__ import annotations

import _socket
import os
import posix
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetaudit.agent import agent
from tests.agent.looking import Start

STAT = b"%d (x) S %d 6 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 0 0\n"


@pytest.fixture(autouse=True)
def stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # the walk moves about; this moves back


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


def make_walk(proc: str = "/proc") -> agent.Walk:
    coverage = agent.Coverage()
    describer = agent.Describer(agent.our_mounts(), "redacted")
    return agent.Walk(proc, coverage, describer, agent.Budget(1e9, 1024, coverage))


def make_process(tree: Path, pid: int, ppid: int, start_time: int, **fds: str) -> Path:
    process = tree / str(pid)
    for folder in ("fd", f"task/{pid}"):
        (process / folder).mkdir(parents=True)
    (process / "stat").write_bytes(STAT % (pid, ppid, start_time))
    for name, link in fds.items():
        (process / "fd" / name[2:]).symlink_to(link)
    return process


def row_of(made: socket.socket, cookie: str = "") -> agent.Row:
    row = agent.Row("tcp", "inet", os.fstat(made.fileno()).st_ino, cookie, {})
    row.netns = Path("/proc/self/ns/net").stat().st_ino
    return row


def test_a_socket_that_vanished_is_dropped_and_counted(listener: socket.socket) -> None:
    walk = make_walk()
    gone, reused, alive = agent.Row("tcp", "inet", 1, "5", {}), row_of(listener, "1"), row_of(listener)
    gone.netns = alive.netns
    spaces = agent.Namespaces("/proc", walk.coverage)
    assert agent.look_twice([gone, reused, alive], spaces, walk) == [alive]
    assert walk.coverage.vanished_sockets == 2
    assert os.getpid() in walk.owners[alive.link()], "what remained was searched for again"


def test_a_second_look_that_failed_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = make_walk()
    gone = agent.Row("tcp", "inet", 1, "5", {})
    spaces = agent.Namespaces("/proc", walk.coverage)
    gone.netns = spaces.home

    def fail(space: agent.Namespace) -> list[agent.Row]:
        walk.coverage.gap("netns_not_entered", "refused", space.number)
        return []

    monkeypatch.setattr(spaces, "dump", fail)
    assert agent.look_twice([gone], spaces, walk) == [gone]


def test_processes_born_during_the_walk_are_caught_up_with(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = start("s = listener()\nready(pid=os.getpid())", prefix=["unshare", "-n"])["pid"]
    child = start("s = listener()\nready(pid=os.getpid())")["pid"]
    everyone = agent.list_pids("/proc")
    moments = iter([set(everyone) - {str(late), str(child)}, set(everyone) - {str(late)}])
    monkeypatch.setattr(agent, "list_pids", lambda proc: sorted(next(moments, set(everyone))))
    walk = make_walk()
    rows = agent.find_listeners(agent.Namespaces("/proc", walk.coverage), walk)
    owners = {pid for row in rows for pid in walk.owners.get(row.link(), ())}
    assert {late, child} <= owners


def test_the_owners_of_a_late_namespace_are_sought_everywhere(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's namespace is known only by a process that came late; its other owner was walked before."""
    facts = start(
        """
inside = os.fork()
r, w = os.pipe()
home = os.open("/proc/self/ns/net", os.O_RDONLY)
if inside == 0:
    wait()
assert libc.unshare(0x40000000) == 0
s = listener()
late = os.fork()
if late == 0:
    wait()
assert libc.setns(home, 0x40000000) == 0
os.close(home)
ready(pid=os.getpid(), late=late)
"""
    )
    everyone = agent.list_pids("/proc")
    moments = iter([set(everyone) - {str(facts["late"])}])
    monkeypatch.setattr(agent, "list_pids", lambda proc: sorted(next(moments, set(everyone))))
    walk = make_walk()
    agent.find_listeners(agent.Namespaces("/proc", walk.coverage), walk)
    together = {facts["pid"], facts["late"]}
    assert [set(holders) for holders in walk.owners.values() if together & set(holders)] == [together]


def test_a_reused_number_inherits_nothing(tmp_path: Path) -> None:
    process = make_process(tmp_path, 7, 0, 4242, fd3="socket:[1]")
    walk = make_walk(str(tmp_path))
    walk.visit(["7"], {"socket:[1]"})
    assert list(walk.owners) == ["socket:[1]"]
    (process / "fd/3").unlink()
    (process / "fd/4").symlink_to("socket:[2]")
    (process / "stat").write_bytes(STAT % (7, 0, 5000))
    walk.visit(["7"], {"socket:[2]"})
    assert list(walk.owners) == ["socket:[2]"]
    assert walk.processes[7]["start_time"] == 5000
    assert walk.coverage.vanished == {"7"}


def test_a_parent_younger_than_its_child_is_not_its_parent(tmp_path: Path) -> None:
    make_process(tmp_path, 3, 0, 10)
    make_process(tmp_path, 5, 3, 9999)
    make_process(tmp_path, 7, 5, 4242, fd3="socket:[1]")
    make_process(tmp_path, 8, 3, 4242, fd3="socket:[1]")
    walk = make_walk(str(tmp_path))
    walk.visit(["7", "8"], {"socket:[1]"})
    walk.climb()
    assert sorted(walk.processes) == [3, 7, 8]


def test_a_process_without_its_directory_is_counted(tmp_path: Path) -> None:
    walk = make_walk(str(tmp_path))
    walk.visit(["7"], {"socket:[1]"})
    assert (walk.coverage.vanished, walk.coverage.seen, walk.coverage.gaps) == ({"7"}, set(), [])


def test_a_ring_that_cannot_be_read_is_a_gap(tmp_path: Path) -> None:
    process = make_process(tmp_path, 7, 0, 1, fd9=agent.RING)
    walk = make_walk(str(tmp_path))
    walk.visit(["7"], set())
    assert [gap["code"] for gap in walk.coverage.gaps] == ["hidden_holders"]
    (process / "fdinfo").mkdir()
    (process / "fdinfo/9").write_text("UserFiles:\t1\n    0: socket:[5]\nUserBufs:\t0\n")
    walk = make_walk(str(tmp_path))
    walk.visit(["7"], set())
    assert walk.coverage.gaps == []
    assert walk.held_by["socket:[5]"][7].fds == {9}


def test_without_kcmp_every_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(tmp_path, 7, 0, 1, fd3="socket:[1]")
    other = process / "task/8/fd"
    other.mkdir(parents=True)
    (other / "3").symlink_to("socket:[2]")  # the same numbers in both tables
    monkeypatch.setattr(agent, "KCMP", {})
    walk = make_walk(str(tmp_path))
    walk.visit(["7"], {"socket:[1]", "socket:[2]"})
    assert sorted(walk.owners) == ["socket:[1]", "socket:[2]"]
    assert walk.owners["socket:[2]"][7].tids == {8}


def test_a_door_to_another_namespace_is_not_taken() -> None:
    spaces = agent.Namespaces("/proc", agent.Coverage())
    assert spaces._step_in(spaces.home, "/proc/self/ns/net")
    assert not spaces._step_in(spaces.home + 1, "/proc/self/ns/net"), "something was mounted over it"


class Forged(_socket.socket):
    """A netlink socket to which another process sends an end of the list before the kernel can answer."""

    def send(self, data: bytes) -> int:  # type: ignore[override]  # only this form is used
        if not self.getsockname()[0]:
            self.bind((0, 0))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as stranger:
            stranger.sendto(struct.pack("=IHHIIi", 20, agent.NLMSG_DONE, 2, 1, 0, 0), self.getsockname())
        return super().send(data)


def test_only_the_kernel_is_listened_to(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_socket, "socket", Forged)
    with agent.Dump(1, agent.Coverage()) as dump:
        rows = dump.run()
    assert os.fstat(listener.fileno()).st_ino in {row.inode for row in rows if row.cookie}


def test_programs_in_etc_shells_that_are_no_shells(tmp_path: Path) -> None:
    known = agent.Executables(agent.our_mounts())
    for name in ("tmux", "mysh"):
        (tmp_path / name).write_text(name)
        known._register(os.fsencode(tmp_path / name), "shell")
    paths = [tmp_path / name for name in ("tmux", "mysh")]
    assert [known.kind(os.fsencode(path), known.look(os.fsencode(path)), str(path)) for path in paths] == [
        "",
        "shell",
    ]
    tmux = known.look(os.fsencode(tmp_path / "tmux"))
    assert known.kind(b"/opt/nginx", tmux, "/gone") in ("", "unknown")
    assert known.kind(b"/opt/busybox", tmux, "/x") == "multi-call"


# ---------------------------------------------------------------- descriptors in flight


def make_queue(tree: Path, fdinfo: str) -> agent.Walk:
    process = make_process(tree, 7, 0, 1, fd3="socket:[1]")
    (process / "fdinfo").mkdir()
    (process / "fdinfo/3").write_text(fdinfo)
    walk = make_walk(str(tree))
    walk.may_queue = walk.waiting = {"socket:[1]"}
    walk.visit(["7"], set())
    return walk


@pytest.mark.parametrize(
    ("before", "after", "gap"),
    [
        ("scm_fds: 1\n", "scm_fds: 1\n", True),
        ("scm_fds: 1\n", "scm_fds: 0\n", False),
        ("scm_fds: 0\n", "scm_fds: 0\n", False),
        ("pos: 0\n", "pos: 0\n", True),  # Linux before 5.5: something waits, and what it is is not told
    ],
)
def test_what_was_received_meanwhile_is_no_gap(tmp_path: Path, before: str, after: str, gap: bool) -> None:
    walk = make_queue(tmp_path, before)
    (tmp_path / "7/fdinfo/3").write_text(after)
    (tmp_path / "7/fd/4").symlink_to("socket:[2]")  # what was in flight
    walk.settle_queues({"socket:[2]"})
    assert [item["code"] for item in walk.coverage.gaps] == (["hidden_holders"] if gap else [])
    assert bool(walk.queues) is gap
    if before != after:
        assert walk.owners["socket:[2]"][7].fds == {4}


def test_a_queue_that_nobody_was_seen_to_hold_is_a_gap(tmp_path: Path) -> None:
    walk = make_queue(tmp_path, "scm_fds: 0\n")
    walk.waiting.add("socket:[5]")
    walk.settle_queues(set())
    assert [item["code"] for item in walk.coverage.gaps] == ["hidden_holders"]


def test_a_queue_that_only_a_ring_holds_is_a_gap(tmp_path: Path) -> None:
    walk = make_queue(tmp_path, "scm_fds: 0\n")
    agent.holding(walk.held_by, "socket:[1]", 7).add("9", "")
    walk.settle_queues(set())
    assert [item["code"] for item in walk.coverage.gaps] == ["hidden_holders"]


def test_queues_are_looked_at_again_before_they_are_a_gap(start: Start) -> None:
    walk = make_walk()
    spaces = agent.Namespaces("/proc", walk.coverage)
    rows = agent.find_listeners(spaces, walk)
    walk.coverage.denied.clear()
    walk.waiting.add("socket:[1]")  # closed since
    agent.look_at_queues(rows, spaces, walk)
    assert "socket:[1]" not in walk.waiting


# ---------------------------------------------------------------- sockets that no list named


def test_too_many_strangers_are_a_gap(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    start("made = [socket.socket() for _ in range(5)]\nready()")
    monkeypatch.setattr(agent, "STRANGERS_LIMIT", 2)
    walk = make_walk()
    spaces = agent.Namespaces("/proc", walk.coverage)
    agent.find_listeners(spaces, walk)
    agent.judge_walk(walk.coverage, spaces, walk)
    (gap,) = [gap for gap in walk.coverage.gaps if gap["code"] == "netns_not_entered"]
    assert "could not be asked where they live: there are too many" in str(gap["detail"])


def test_a_kernel_that_cannot_hand_out_sockets_is_a_gap(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    start("made = socket.socket()\nready()")
    monkeypatch.setattr(agent, "PIDFD_GETFD", 9999)
    walk = make_walk()
    agent.find_listeners(agent.Namespaces("/proc", walk.coverage), walk)
    assert (walk.strangers.unasked > 0, walk.strangers.why) == (True, "Function not implemented")


@pytest.mark.parametrize(
    ("release", "able"),
    [("4.18.0-553.el8.x86_64", False), ("5.5.1", False), ("5.6.0-rc1", True), ("odd", False)],
)
def test_which_kernels_can_hand_out_sockets(
    monkeypatch: pytest.MonkeyPatch, release: str, able: bool
) -> None:
    monkeypatch.setattr(posix, "uname", lambda: ("Linux", "x", release, "", "x86_64"))
    assert agent.can_ask_sockets() is able
