"""What is told of an owner: odd and foreign executables, hostile words, ids, what it was passed."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.agent import agent
from tests.agent.looking import Start, hold, socket_on, take_census, told_of


def test_a_name_that_ends_like_the_kernels_mark(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "odd (deleted)"
    shutil.copy("/bin/cat", path)
    found = told_of(hold(start, {"odd": (path, "odd")}))["odd"]
    assert (found["exe"], found["exe_deleted"], found["exe_verified"]) == (str(path), False, True)


def test_a_path_from_another_mount_namespace_is_not_verified(start: Start) -> None:
    mount = 'subprocess.run(["mount", "--bind", "/bin/cat", "/bin/sleep"], check=True)'
    facts = hold(start, {"cat": ("/bin/sleep", "cat")}, mount, prefix=["unshare", "-m"])
    found = told_of(facts)["cat"]
    assert (found["exe"], found["exe_verified"]) == (os.path.realpath("/bin/sleep"), False)


HOSTILE = r"""
libc.prctl(15, b"a) S 1\n(\x1b[3\xff", 0, 0, 0)
s = listener()
ready(socket=inode(s), pid=os.getpid())
"""


def test_hostile_names_arrive_escaped_and_in_one_piece(start: Start) -> None:
    facts = start(HOSTILE, "a\nb", "\x1b[31m", "-" * 5000, *["x" * 1000] * 100)
    found = take_census(argv="full")["processes"][str(facts["pid"])]
    assert found["comm"] == r"a) S 1\x0a(\x1b[3\xff"
    assert found["ppid"] == os.getpid()
    argv = found["argv"]
    assert argv[4:6] == [r"a\x0ab", r"\x1b[31m"]
    assert argv[6] == "-" * 4096 + " [cut, 5000 bytes in all]"
    assert argv[-1] == "[cut at 32768 bytes]"
    assert sum(map(len, argv)) < 33_000
    assert found["argv_cut"] is True


def test_command_lines_in_three_modes(start: Start) -> None:
    facts = start("s = listener()\nready(pid=os.getpid())", "--db-password", "hunter2", "--port=80")

    def argv(mode: str) -> Any:
        return take_census(argv=mode)["processes"][str(facts["pid"])].get("argv", "absent")

    assert argv("full")[-3:] == ["--db-password", "hunter2", "--port=80"]
    assert argv("redacted")[-3:] == ["--db-password", "***", "--port=80"]
    assert argv("none") == "absent"


def test_ids_and_names(start: Start) -> None:
    facts = start("""
s = listener()
children = {}
wanted = dict(nobody=(65534,) * 3, stranger=(12345,) * 3, raised=(0, 12345, 0))
for name, ids in wanted.items():
    pid = os.fork()
    if pid == 0:
        os.setgid(12345)
        os.setresuid(*ids)
        wait()
    children[name] = pid
def euid(pid):
    return open("/proc/%d/status" % pid).read().partition("Uid:")[2].split()[1]
while [euid(pid) for pid in children.values()] != ["65534", "12345", "12345"]:
    time.sleep(0.01)
ready(**children)
""")
    processes = take_census()["processes"]
    nobody, stranger, raised = (processes[str(facts[name])] for name in ("nobody", "stranger", "raised"))
    assert (nobody["user"], nobody["uid"]) == ("nobody", 65534)
    assert (stranger["gid"], raised["uid"], raised["euid"]) == (12345, 0, 12345)
    # Without a name in the files: none where they are all there is, else not known.
    switch = Path("/etc/nsswitch.conf")
    whole = agent.only_files(switch.read_bytes() if switch.exists() else b"", b"passwd")
    for process in (stranger, raised):
        assert process.get("user", "not known") == (None if whole else "not known")


def test_sockets_passed_by_a_service_manager(start: Start) -> None:
    facts = start("""
s = listener()
pids = []
for fds in ("1", "0"):
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(s.fileno(), True)
        env = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": fds}
        os.execve("/bin/cat", ["cat"], env)
    pids.append(pid)
while any(open("/proc/%d/comm" % pid).read() != "cat\\n" for pid in pids):
    time.sleep(0.01)
ready(pids=pids)
""")
    processes = take_census()["processes"]
    assert [processes[str(pid)]["listen_fds"] for pid in facts["pids"]] == [True, False]


def test_process_facts(start: Start) -> None:
    facts = start(
        "s = listener()\nready(pid=os.getpid(), ppid=os.getppid(), sid=os.getsid(0), pgrp=os.getpgrp())"
    )
    found = take_census()["processes"][str(facts["pid"])]
    assert (found["ppid"], found["session"], found["process_group"]) == (
        facts["ppid"],
        facts["sid"],
        facts["pgrp"],
    )
    assert found["exe"] == os.path.realpath(sys.executable)
    status = Path(sys.executable).stat()
    assert found["exe_file"] == f"{status.st_dev}:{status.st_ino}"
    assert found["exe_verified"] is True
    assert found["start_time"] == int(
        Path(f"/proc/{facts['pid']}/stat").read_text().rpartition(")")[2].split()[19]
    )
    assert found["cgroup"].startswith("/")
    assert found["self"] is False
    assert found["shell"] is False


def test_what_brought_the_agent_here_is_marked(start: Start) -> None:
    # The shell that runs the agent holds a listener of its caller: shown, and marked as ours.
    code = """
import json, socket, subprocess, sys
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
s.set_inheritable(True)
sh = ["sh", "-c", sys.argv[1] + " -I -S -; exit"]
done = subprocess.run(sh, close_fds=False, capture_output=True, input=sys.stdin.buffer.read())
sys.stdout.buffer.write(done.stdout)
"""
    document = take_census(interpreter=[sys.executable, "-c", code, sys.executable])
    mine = {process["comm"]: process["self"] for process in document["processes"].values() if process["self"]}
    assert "sh" in mine
    assert not document["processes"][str(os.getpid())]["self"]


def test_the_facts_of_an_owner(start: Start) -> None:
    facts = start("""
s = listener()
other = os.dup(s.fileno())
os.set_inheritable(other, True)
ready(socket=inode(s), pid=os.getpid(), fds=[s.fileno(), other])
""")
    document = take_census()
    found = document["processes"][str(facts["pid"])]
    stat = Path(f"/proc/{facts['pid']}/stat").read_text().rpartition(") ")[2].split()
    assert found["start_time"] == int(stat[19])
    started = datetime.fromisoformat(found["started_at"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - started).total_seconds()) < 600
    spaces = {
        kind: Path(f"/proc/{facts['pid']}/ns/{kind}").stat().st_ino for kind in ("net", "mnt", "pid", "user")
    }
    assert found["namespaces"] == spaces
    assert int(found["capabilities"], 16) > 0
    assert found["tty"] == agent.terminal(int(stat[4]))
    assert "loginuid" in found or not Path("/proc/self/loginuid").exists()
    assert "lsm" in found
    (owner,) = socket_on(document, facts["socket"])["owners"]
    assert owner == {"pid": facts["pid"], "fds": facts["fds"], "cloexec": facts["fds"][:1]}


def test_a_controlling_terminal_is_named(start: Start) -> None:
    facts = start("""
import pty
pid, master = pty.fork()
if pid == 0:
    s = listener()
    os.write(1, os.ttyname(0).encode())
    time.sleep(600)
print(json.dumps(dict(pid=pid, name=os.read(master, 100).decode())), flush=True)
os.read(0, 1)
os.kill(pid, 9)
""")
    assert "/dev/" + take_census()["processes"][str(facts["pid"])]["tty"] == facts["name"]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, None),
        (0x8803, "pts/3"),
        (0x8900, "pts/256"),
        (0x401, "tty1"),
        (0x440, "ttyS0"),
        (0xCC40, "204:64"),
    ],
)
def test_terminals_by_number(number: int, name: str | None) -> None:
    assert agent.terminal(number) == name


def test_a_path_that_cannot_be_looked_at_is_not_called_another_file(tmp_path: Path) -> None:
    here = (tmp_path / "here").resolve()
    here.write_text("x")
    known = agent.Executables(agent.our_mounts())
    status = known.look(os.fsencode(here))
    assert known.is_file(os.fsencode(here), status) is True
    assert known.is_file(os.fsencode(tmp_path), status) is False
    assert known.is_file(os.fsencode(here / "below"), status) is False, "not a folder"
    assert known.is_file(b"/" + b"x" * 300, status) is None, "the look itself failed: name too long"


def test_a_path_is_looked_at_through_links_but_not_for_ever(tmp_path: Path) -> None:
    here = tmp_path.resolve() / "here"
    here.write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/../here")
    (tmp_path / "way").symlink_to(tmp_path / "folder")
    for name in ("loop", "bush"):
        (tmp_path / name).symlink_to(f"{name}/{name}")
    known = agent.Executables(agent.our_mounts())
    look = known.look(os.fsencode(here))
    assert known.look(os.fsencode(tmp_path / "link")) == look
    assert known.look(os.fsencode(tmp_path) + b"//way/./../here") == look
    assert known.is_file(b"/opt" + b"/d" * 70, look) is False, (
        "a path too deep to be looked at is not taken as told"
    )
    for endless in (tmp_path / "loop", tmp_path / "bush" / "x", Path("/x" * 2000)):
        with pytest.raises(OSError, match=r"."):
            known.look(os.fsencode(endless))
