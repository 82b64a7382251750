from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.looking import Document, Start, by_path, pids, socket_on, take_census


def test_fork_every_child_is_an_owner(start: Start) -> None:
    facts = start("""
s = listener()
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        wait()
    children.append(pid)
ready(port=s.getsockname()[1], fd=s.fileno(), pids=[os.getpid(), *children])
""")
    document = take_census()
    found = socket_on(document, facts["port"])
    assert found["owner_state"] == "owned"
    assert found["owners"] == [{"pid": pid, "fds": [facts["fd"]]} for pid in sorted(facts["pids"])]
    processes = document["processes"]
    assert {processes[str(pid)]["ppid"] for pid in facts["pids"][1:]} == {facts["pids"][0]}
    assert str(os.getpid()) in processes, "ancestors are in the document"


def test_the_origin_case_server_shell_and_grandchild(start: Start) -> None:
    facts = start("""
s = listener()
os.set_inheritable(s.fileno(), True)
shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], close_fds=False, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
grandchild = int(shell.stdout.readline())
facts = dict(port=s.getsockname()[1], pid=os.getpid(), shell=shell.pid, sleep=grandchild)
print(json.dumps(facts), flush=True)
os.read(0, 1)
os.kill(grandchild, 9)
shell.wait()
""")
    document = take_census()
    assert pids(socket_on(document, facts["port"])) == {facts["pid"], facts["shell"], facts["sleep"]}
    shells = [document["processes"][str(facts[name])]["shell"] for name in ("pid", "shell", "sleep")]
    assert shells == [False, True, False]


def test_what_a_tcp_listener_is(start: Start) -> None:
    facts = start("""
s = listener()
t = socket.socket(socket.AF_INET6)
t.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
t.bind(("::", 0))
t.listen(3)
t2 = socket.fromfd(t.fileno(), t.family, t.type)
u = socket.socket(socket.AF_INET6)
u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
u.bind(("::1", 0))
u.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
u.listen()
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
ready(four=s.getsockname()[1], both=t.getsockname()[1], six=u.getsockname()[1], bound=bound.getsockname()[1],
      inode=os.fstat(s.fileno()).st_ino, fds=[t.fileno(), t2.fileno()])
""")
    document = take_census()
    four, both, six = (socket_on(document, facts[name]) for name in ("four", "both", "six"))
    assert (four["family"], four["address"], four["v6only"]) == ("inet", "127.0.0.1", None)
    assert (four["state"], four["backlog"], four["device"], four["uid"]) == ("LISTEN", 7, None, os.getuid())
    assert four["inode"] == facts["inode"]
    assert four["netns"] == document["network_namespaces"][0]["id"]
    assert (both["family"], both["address"], both["v6only"]) == ("inet6", "::", False)
    assert both["owners"][0]["fds"] == facts["fds"], "every descriptor"
    assert (six["address"], six["v6only"], six["device"]) == ("::1", True, "lo")
    assert not [item for item in document["sockets"] if item["port"] == facts["bound"]]


def test_reuseport_group_is_one_row_per_socket(start: Start) -> None:
    facts = start("""
made = []
for _ in range(3):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", made[0].getsockname()[1] if made else 0))
    s.listen()
    made.append(s)
ready(port=made[0].getsockname()[1], inodes=[os.fstat(s.fileno()).st_ino for s in made])
""")
    rows = [item for item in take_census()["sockets"] if item["port"] == facts["port"]]
    assert sorted(row["inode"] for row in rows) == sorted(facts["inodes"])
    assert len({row["cookie"] for row in rows}) == 3


def test_udp_counts_only_while_it_hears_from_anyone(start: Start) -> None:
    facts = start("""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.bind(("127.0.0.1", 0))
c.connect(s.getsockname())
ready(port=s.getsockname()[1], connected=c.getsockname()[1], pid=os.getpid())
""")
    document = take_census()
    found = socket_on(document, facts["port"], "udp")
    assert (found["state"], found["backlog"], pids(found)) == ("UNCONN", None, {facts["pid"]})
    assert not [item for item in document["sockets"] if item["port"] == facts["connected"]]


def test_raw_and_packet_sockets(start: Start) -> None:
    facts = start("""
r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ready(raw=os.fstat(r.fileno()).st_ino, packet=os.fstat(p.fileno()).st_ino, pid=os.getpid())
""")
    found = {item["inode"]: item for item in take_census()["sockets"]}
    raw, packet = found[facts["raw"]], found[facts["packet"]]
    assert (raw["protocol"], raw["ip_protocol"], raw["port"], pids(raw)) == ("raw", 253, None, {facts["pid"]})
    assert (packet["protocol"], packet["family"], pids(packet)) == ("packet", "packet", {facts["pid"]})
    assert packet["uid"] == os.getuid()


def test_unix_sockets_that_hear_from_anyone(start: Start, tmp_path: Path) -> None:
    facts = start(
        r"""
folder, made = sys.argv[1], []
def unix(kind, name, listen=True):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(name)
    if listen:
        s.listen(9)
    made.append(s)
    return s
unix(socket.SOCK_STREAM, folder + "/stream")
unix(socket.SOCK_SEQPACKET, "\0fleetaudit-seq-%d" % os.getpid())
unix(socket.SOCK_STREAM, folder.encode() + b"/a\nb\x1b\xff")
unix(socket.SOCK_DGRAM, folder + "/dgram", listen=False)
client = unix(socket.SOCK_DGRAM, folder + "/client", listen=False)
client.connect(folder + "/dgram")
ready(pid=os.getpid())
""",
        str(tmp_path),
    )
    document = take_census()
    stream = by_path(document, f"{tmp_path}/stream")
    assert (stream["state"], stream["backlog"], stream["family"]) == ("LISTEN", 9, "unix")
    assert (stream["address"], stream["port"], stream["uid"]) == (None, None, os.getuid())
    assert by_path(document, f"@fleetaudit-seq-{facts['pid']}")["state"] == "LISTEN"
    assert pids(by_path(document, rf"{tmp_path}/a\x0ab\x1b\xff")) == {facts["pid"]}
    # A client makes the server's state ESTABLISHED; it still hears from anyone, the client does not.
    assert by_path(document, f"{tmp_path}/dgram")["state"] == "UNCONN"
    assert not [item for item in document["sockets"] if item["path"] == f"{tmp_path}/client"]


def test_a_socket_passed_to_a_stranger(start: Start, tmp_path: Path) -> None:
    receiver = start(
        """
u = socket.socket(socket.AF_UNIX)
u.bind(sys.argv[1])
u.listen()
def receive():
    c, _ = u.accept()
    global kept
    kept = socket.recv_fds(c, 1, 1)[1]
    c.send(b"x")
threading.Thread(target=receive, daemon=True).start()
ready(pid=os.getpid())
""",
        str(tmp_path / "pass"),
    )
    giver = start(
        """
s = listener()
c = socket.socket(socket.AF_UNIX)
c.connect(sys.argv[1])
socket.send_fds(c, [b"x"], [s.fileno()])
c.recv(1)
ready(port=s.getsockname()[1], pid=os.getpid())
""",
        str(tmp_path / "pass"),
    )
    assert pids(socket_on(take_census(), giver["port"])) == {receiver["pid"], giver["pid"]}


THREAD = """
s = listener()
result = {}
def apart():
    libc.unshare(0x400)  # CLONE_FILES
    mine = listener()
    result["mine"] = mine.getsockname()[1]
    result["tid"] = threading.get_native_id()
    if sys.argv[1] == "same":
        spare = os.dup(mine.fileno())
    ready_event.set()
    threading.Event().wait()
ready_event = threading.Event()
threading.Thread(target=apart, daemon=True).start()
ready_event.wait()
facts = dict(result, port=s.getsockname()[1], pid=os.getpid())
"""


@pytest.mark.parametrize("kind", ["plain", "same"])
def test_a_thread_with_descriptors_of_its_own(start: Start, kind: str) -> None:
    facts = start(THREAD + "other = [os.dup(2), os.dup(2)]\nready(**facts)", kind)
    document = take_census()
    (owner,) = socket_on(document, facts["mine"])["owners"]
    assert (owner["pid"], owner["tids"]) == (facts["pid"], [facts["tid"]])
    shared = socket_on(document, facts["port"])["owners"]
    assert [item["pid"] for item in shared] == [facts["pid"]]


def test_a_first_thread_that_ended_hides_nothing(start: Start) -> None:
    facts = start(
        THREAD
        + """
def last():
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=last, daemon=True).start()
print(json.dumps(facts), flush=True)
libc.syscall(60)  # exit of this thread only
""",
        "plain",
    )
    wait_until(lambda: " Z " in Path(f"/proc/{facts['pid']}/stat").read_text())
    document = take_census()
    for name in ("port", "mine"):
        assert pids(socket_on(document, facts[name])) == {facts["pid"]}
    process = document["processes"][str(facts["pid"])]
    assert process["exe"] == os.path.realpath(sys.executable)
    assert process["argv"][0] == sys.executable


def test_a_listener_held_by_an_io_uring_alone(start: Start) -> None:
    facts = start("""
s = listener()
ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
assert ring >= 0, os.strerror(ctypes.get_errno())
assert libc.syscall(427, ring, 2, (ctypes.c_int * 1)(s.fileno()), 1) == 0
port = s.getsockname()[1]
s.close()
ready(port=port, ring=ring, pid=os.getpid())
""")
    found = socket_on(take_census(), facts["port"])
    assert found["owners"] == []
    assert found["owner_state"] == "io_uring"
    assert found["held_by"] == [{"pid": facts["pid"], "fds": [facts["ring"]]}]


def test_stopped_and_undumpable_owners(start: Start) -> None:
    facts = start("""
s = listener()
pid = os.fork()
if pid == 0:
    libc.prctl(4, 0)
    os.kill(os.getpid(), 19)
    wait()
os.waitpid(pid, os.WUNTRACED)
print(json.dumps(dict(port=s.getsockname()[1], pids=[os.getpid(), pid])), flush=True)
os.read(0, 1)
os.kill(pid, 9)
""")
    assert pids(socket_on(take_census(), facts["port"])) == set(facts["pids"])


def test_processes_that_replace_each_other_during_the_walk(start: Start) -> None:
    facts = start("""
s = listener()
crowd = [os.fork() for _ in range(1)]
if crowd[0] == 0:
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(0.02)
            os._exit(0)
        os.waitpid(pid, 0)
print(json.dumps(dict(port=s.getsockname()[1], pids=[os.getpid(), crowd[0]])), flush=True)
os.read(0, 1)
os.kill(crowd[0], 9)
""")
    for _ in range(5):
        document = take_census()
        found = socket_on(document, facts["port"])
        assert pids(found) >= set(facts["pids"])
        assert pids(found) <= {int(pid) for pid in document["processes"]}


# ---------------------------------------------------------------- network namespaces


def elsewhere(document: Document, port: int) -> dict[str, Any]:
    """The namespace of the one socket of a port."""
    number = socket_on(document, port)["netns"]
    (found,) = [item for item in document["network_namespaces"] if item["id"] == number]
    assert isinstance(found, dict)
    return found


def test_a_namespace_with_a_process_in_it(start: Start) -> None:
    facts = start("s = listener()\nready(port=s.getsockname()[1], pid=os.getpid())", prefix=["unshare", "-n"])
    document = take_census()
    assert pids(socket_on(document, facts["port"])) == {facts["pid"]}
    space = elsewhere(document, facts["port"])
    assert (space["host"], space["name"]) == (False, None)
    assert space["id"] == Path(f"/proc/{facts['pid']}/ns/net").stat().st_ino
    assert space["ephemeral_ports"] == [32768, 60999]
    home = document["network_namespaces"][0]
    assert (home["host"], home["id"]) == (True, Path("/proc/self/ns/net").stat().st_ino)


MOVED = """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
s = listener()
inside = os.stat("/proc/self/ns/net").st_ino
%s
assert libc.setns(home, 0x40000000) == 0
ready(port=s.getsockname()[1], pid=os.getpid(), netns=inside)
"""


def test_a_namespace_that_only_a_mount_keeps(start: Start) -> None:
    keep = """
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
os.mkdir("/run/netns")
open("/run/netns/blue", "w").close()
subprocess.run(["mount", "--bind", "/proc/self/ns/net", "/run/netns/blue"], check=True)
"""
    facts = start(MOVED % keep, prefix=["unshare", "-m"])
    document = take_census()
    assert pids(socket_on(document, facts["port"])) == {facts["pid"]}
    assert elsewhere(document, facts["port"])["id"] == facts["netns"]
    assert elsewhere(document, facts["port"])["name"] == "blue"


def test_a_namespace_that_only_a_descriptor_keeps(start: Start) -> None:
    facts = start(MOVED % 'kept = os.open("/proc/self/ns/net", os.O_RDONLY)')
    document = take_census()
    assert pids(socket_on(document, facts["port"])) == {facts["pid"]}
    assert elsewhere(document, facts["port"])["id"] == facts["netns"]


def test_a_namespace_that_only_a_thread_is_in(start: Start) -> None:
    facts = start("""
result, done = {}, threading.Event()
def apart():
    assert libc.unshare(0x40000000) == 0
    s = listener()
    result["port"] = s.getsockname()[1]
    done.set()
    threading.Event().wait()
threading.Thread(target=apart, daemon=True).start()
done.wait()
ready(pid=os.getpid(), **result)
""")
    assert pids(socket_on(take_census(), facts["port"])) == {facts["pid"]}


# ---------------------------------------------------------------- against ss


def test_agrees_with_ss_on_this_machine(start: Start) -> None:
    start("s = [listener() for _ in range(3)]\nif os.fork() == 0: wait()\nready()")
    start("s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\ns.bind(('::', 0))\nready()")
    theirs, ours = from_ss(), from_agent(take_census())
    for _ in range(5):  # the machine lives between the two looks
        if theirs == ours:
            break
        theirs, ours = from_ss(), from_agent(take_census())
    assert ours == theirs
    assert len(ours) >= 7


def from_ss() -> set[tuple[str, int, int, int]]:
    lines = subprocess.run(["ss", "-Hlntup"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = set()
    for line in lines:
        protocol, _, _, _, local = line.split()[:5]
        port = int(local.rpartition(":")[2])
        for pid, fd in re.findall(r"pid=(\d+),fd=(\d+)", line) or [("0", "0")]:
            found.add((protocol, port, int(pid), int(fd)))
    return found


def from_agent(document: Document) -> set[tuple[str, int, int, int]]:
    home = document["network_namespaces"][0]["id"]
    rows = [row for row in document["sockets"] if row["netns"] == home and row["protocol"] in ("tcp", "udp")]
    return {
        (row["protocol"], row["port"], owner["pid"], fd)
        for row in rows
        for owner in row["owners"] or [{"pid": 0, "fds": [0]}]
        for fd in owner["fds"]
    }


def wait_until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")
