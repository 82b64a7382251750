from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.looking import Document, Start, by_path, codes, pids, socket_on, take_census


def test_fork_every_child_is_an_owner(start: Start) -> None:
    facts = start("""
s = listener()
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        wait()
    children.append(pid)
ready(socket=inode(s), fd=s.fileno(), pids=[os.getpid(), *children])
""")
    document = take_census()
    found = socket_on(document, facts["socket"])
    assert found["owner_state"] == "owned"
    owner = {"fds": [facts["fd"]], "cloexec": [facts["fd"]]}
    assert found["owners"] == [{"pid": pid, **owner} for pid in sorted(facts["pids"])]
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
facts = dict(socket=inode(s), pid=os.getpid(), shell=shell.pid, sleep=grandchild)
print(json.dumps(facts), flush=True)
os.read(0, 1)
os.kill(grandchild, 9)
shell.wait()
""")
    document = take_census()
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"], facts["shell"], facts["sleep"]}
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
ready(four=inode(s), both=inode(t), six=inode(u), bound=inode(bound),
      fds=[t.fileno(), t2.fileno()])
""")
    document = take_census()
    four, both, six = (socket_on(document, facts[name]) for name in ("four", "both", "six"))
    assert (four["family"], four["address"], four["v6only"]) == ("inet", "127.0.0.1", None)
    assert (four["state"], four["backlog"], four["device"], four["uid"]) == ("LISTEN", 7, None, os.getuid())
    assert four["netns"] == document["network_namespaces"][0]["id"]
    assert (both["family"], both["address"], both["v6only"]) == ("inet6", "::", False)
    assert both["owners"][0]["fds"] == facts["fds"], "every descriptor"
    assert (six["address"], six["v6only"], six["device"]) == ("::1", True, "lo")
    assert not [item for item in document["sockets"] if item["inode"] == facts["bound"]]


def test_reuseport_group_is_one_row_per_socket(start: Start) -> None:
    facts = start("""
made = []
for _ in range(3):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", made[0].getsockname()[1] if made else 0))
    s.listen()
    made.append(s)
ready(inodes=[inode(s) for s in made])
""")
    document = take_census()
    rows = [socket_on(document, number) for number in facts["inodes"]]
    assert len({row["port"] for row in rows}) == 1
    assert len({row["cookie"] for row in rows}) == 3


def test_udp_counts_only_while_it_hears_from_anyone(start: Start) -> None:
    facts = start("""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.bind(("127.0.0.1", 0))
c.connect(s.getsockname())
ready(socket=inode(s), connected=inode(c), pid=os.getpid())
""")
    document = take_census()
    found = socket_on(document, facts["socket"])
    assert (found["state"], found["backlog"], pids(found)) == ("UNCONN", None, {facts["pid"]})
    assert not [item for item in document["sockets"] if item["inode"] == facts["connected"]]


def test_raw_and_packet_sockets(start: Start) -> None:
    facts = start("""
r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ready(raw=inode(r), packet=inode(p), pid=os.getpid())
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
ready(socket=inode(s), pid=os.getpid())
""",
        str(tmp_path / "pass"),
    )
    assert pids(socket_on(take_census(), giver["socket"])) == {receiver["pid"], giver["pid"]}


THREAD = """
s = listener()
result = {}
def apart():
    libc.unshare(0x400)  # CLONE_FILES
    mine = listener()
    result["mine"] = inode(mine)
    result["tid"] = threading.get_native_id()
    if sys.argv[1] == "same":
        spare = os.dup(mine.fileno())
    ready_event.set()
    threading.Event().wait()
ready_event = threading.Event()
threading.Thread(target=apart, daemon=True).start()
ready_event.wait()
facts = dict(result, socket=inode(s), pid=os.getpid())
"""


@pytest.mark.parametrize("kind", ["plain", "same"])
def test_a_thread_with_descriptors_of_its_own(start: Start, kind: str) -> None:
    facts = start(THREAD + "other = [os.dup(2), os.dup(2)]\nready(**facts)", kind)
    document = take_census()
    (owner,) = socket_on(document, facts["mine"])["owners"]
    assert (owner["pid"], owner["tids"]) == (facts["pid"], [facts["tid"]])
    shared = socket_on(document, facts["socket"])["owners"]
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
    for name in ("socket", "mine"):
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
kept = inode(s)
s.close()
ready(socket=kept, ring=ring, pid=os.getpid())
""")
    found = socket_on(take_census(), facts["socket"])
    assert found["owners"] == []
    assert found["owner_state"] == "io_uring"
    assert found["held_by"] == [{"pid": facts["pid"], "fds": [facts["ring"]]}]


def gaps_of_rings(document: Document) -> list[str]:
    return [gap["detail"] for gap in document["coverage"]["gaps"] if "io_uring" in gap["detail"]]


RING = """
def ring_of(*descriptors):
    ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
    assert ring >= 0, os.strerror(ctypes.get_errno())
    assert libc.syscall(427, ring, 2, (ctypes.c_int * len(descriptors))(*descriptors), len(descriptors)) == 0
    return ring
"""


def test_a_ring_beside_an_owner_and_empty_places_in_it(start: Start) -> None:
    facts = start(
        RING
        + """
s, by = listener(), socket.socket()
by.connect(s.getsockname())
to, _ = s.accept()
ring = ring_of(-1, s.fileno(), -1, to.fileno(), -1)
to.close()
ready(socket=inode(s), ring=ring, pid=os.getpid())
"""
    )
    document = take_census()
    found = socket_on(document, facts["socket"])
    assert (found["owner_state"], pids(found)) == ("owned", {facts["pid"]})
    assert found["held_by"] == [{"pid": facts["pid"], "fds": [facts["ring"]]}]
    assert gaps_of_rings(document) == [], "a connection that only a ring holds is listed too"


def test_a_socket_of_a_ring_that_no_namespace_lists_is_a_gap(start: Start) -> None:
    start(
        RING
        + """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
s = listener()
ring = ring_of(s.fileno())
s.close()
assert libc.setns(home, 0x40000000) == 0
os.close(home)
ready()
"""
    )
    document = take_census()
    assert gaps_of_rings(document) == ["an io_uring holds a socket that no list named"]
    assert "netns_not_entered" in codes(document)


INVISIBLE_RING = """
import mmap
s = listener()
memory = [mmap.mmap(-1, 1 << 21), mmap.mmap(-1, 1 << 21)]
there = [ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in memory]
words = (ctypes.c_uint64 * 15)()
words[1] = (1 << 14 | 1 << 15) << 0  # IORING_SETUP_NO_MMAP, IORING_SETUP_REGISTERED_FD_ONLY
words[9], words[14] = there
ring = libc.syscall(425, 4, words)
put = libc.syscall(427, ring, 2 | 1 << 31, (ctypes.c_int * 1)(s.fileno()), 1) if ring >= 0 else -1
kept = inode(s)
if put == 0:
    s.close()
ready(socket=kept, hidden=put == 0, pid=os.getpid())
"""


def test_a_ring_without_descriptor_or_mapping_proves_that_nobody_holds_it_proves_nothing(
    start: Start,
) -> None:
    facts = start(INVISIBLE_RING)
    found = socket_on(take_census(), facts["socket"])
    assert found["owner_state"] == ("unknown" if facts["hidden"] else "owned")
    assert pids(found) == (set() if facts["hidden"] else {facts["pid"]})


# ---------------------------------------------------------------- in flight


IN_FLIGHT = """
s = listener()
kind = getattr(socket, sys.argv[1])
if sys.argv[2] == "embryo":  # connected and sent to, but not accepted yet
    to = socket.socket(socket.AF_UNIX, kind)
    to.bind("\\0fleetaudit-queue-%d" % os.getpid())
    to.listen()
    by = socket.socket(socket.AF_UNIX, kind)
    by.connect(to.getsockname())
else:
    by, to = socket.socketpair(socket.AF_UNIX, kind)
socket.send_fds(by, [sys.argv[2].encode() if sys.argv[2] != "empty" else b""], [s.fileno()])
by.close()
kept = inode(s)
s.close()
ready(socket=kept, pid=os.getpid(), fd=to.fileno())
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [("SOCK_STREAM", "x"), ("SOCK_DGRAM", "x"), ("SOCK_DGRAM", "empty"), ("SOCK_STREAM", "embryo")],
)
def test_a_listener_in_flight_in_a_unix_socket(start: Start, kind: str, message: str) -> None:
    facts = start(IN_FLIGHT, kind, message)
    document = take_census()
    found = socket_on(document, facts["socket"])
    assert (found["owners"], found["owner_state"]) == ([], "queue")
    assert {"pid": facts["pid"], "fds": [facts["fd"]]} in found["held_by"]
    assert "hidden_holders" in codes(document), "any other socket may be in flight as well"
    assert str(facts["pid"]) in document["processes"]


def test_a_queue_without_descriptors_hides_nothing(start: Start) -> None:
    start(
        "a, b = socket.socketpair()\na.send(b'x')\nc, d = socket.socketpair(type=socket.SOCK_DGRAM)\nready()"
    )
    assert "hidden_holders" not in codes(take_census())


# ---------------------------------------------------------------- the kernel's own


VXLAN = """
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
vxlan = "ip link add v0 type vxlan dstport 4789".split()
made = subprocess.run([*vxlan, *sys.argv[1:]])
if made.returncode == 0:
    subprocess.run(["ip", "link", "set", "v0", "up"], check=True)
ready(made=made.returncode == 0, netns=os.stat("/proc/self/ns/net").st_ino)
"""


@pytest.mark.parametrize(
    ("options", "families"),
    [("id 1", ["inet"]), ("external", ["inet", "inet6"]), ("id 1 local ::1", ["inet6"])],
    ids=["inet", "both", "inet6"],
)
def test_the_port_of_a_tunnel_is_the_kernels(start: Start, options: str, families: list[str]) -> None:
    facts = start(VXLAN, *options.split(), prefix=["unshare", "-n"])
    if not facts["made"]:
        pytest.skip("this kernel has no vxlan")
    rows = [row for row in take_census()["sockets"] if row["netns"] == facts["netns"]]
    found = sorted((row["family"], row["port"], row["owner_state"], len(row["owners"])) for row in rows)
    assert found == [(family, 4789, "kernel", 0) for family in families]


def test_beside_a_tunnels_port_nothing_is_the_kernels(start: Start) -> None:
    """A ring holds the other family's socket of that port: which of the two is the tunnel's is not told."""
    ring = INVISIBLE_RING.replace(
        "s = listener()",
        VXLAN.rpartition("ready(")[0]
        + """
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind(("::", 4789))
""",
    ).replace("ready(", "ready(made=made.returncode == 0, netns=os.stat('/proc/self/ns/net').st_ino, ")
    facts = start(ring, "id", "1", prefix=["unshare", "-n"])
    rows = [row for row in take_census()["sockets"] if row["netns"] == facts["netns"]]
    if not facts["made"] or not facts["hidden"]:
        pytest.skip("this kernel has no vxlan, or no ring without a descriptor")
    assert [(row["port"], row["owner_state"]) for row in rows] == [(4789, "unknown")] * 2


def test_stopped_and_undumpable_owners(start: Start) -> None:
    facts = start("""
s = listener()
pid = os.fork()
if pid == 0:
    libc.prctl(4, 0)
    os.kill(os.getpid(), 19)
    wait()
os.waitpid(pid, os.WUNTRACED)
print(json.dumps(dict(socket=inode(s), pids=[os.getpid(), pid])), flush=True)
os.read(0, 1)
os.kill(pid, 9)
""")
    assert pids(socket_on(take_census(), facts["socket"])) == set(facts["pids"])


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
print(json.dumps(dict(socket=inode(s), pids=[os.getpid(), crowd[0]])), flush=True)
os.read(0, 1)
os.kill(crowd[0], 9)
""")
    for _ in range(5):
        document = take_census()
        found = socket_on(document, facts["socket"])
        assert pids(found) >= set(facts["pids"])
        assert pids(found) <= {int(pid) for pid in document["processes"]}


# ---------------------------------------------------------------- network namespaces


def elsewhere(document: Document, inode: int) -> dict[str, Any]:
    """The namespace of a socket."""
    number = socket_on(document, inode)["netns"]
    (found,) = [item for item in document["network_namespaces"] if item["id"] == number]
    assert isinstance(found, dict)
    return found


def test_a_namespace_with_a_process_in_it(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s), pid=os.getpid())", prefix=["unshare", "-n"])
    document = take_census()
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"]}
    space = elsewhere(document, facts["socket"])
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
ready(socket=inode(s), pid=os.getpid(), netns=inside)
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
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"]}
    assert elsewhere(document, facts["socket"])["id"] == facts["netns"]
    assert elsewhere(document, facts["socket"])["name"] == "blue"


def test_a_namespace_that_only_a_descriptor_keeps(start: Start) -> None:
    facts = start(MOVED % 'kept = os.open("/proc/self/ns/net", os.O_RDONLY)')
    document = take_census()
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"]}
    assert elsewhere(document, facts["socket"])["id"] == facts["netns"]


def test_a_namespace_that_only_a_thread_is_in(start: Start) -> None:
    facts = start("""
result, done = {}, threading.Event()
def apart():
    assert libc.unshare(0x40000000) == 0
    s = listener()
    result["socket"] = inode(s)
    done.set()
    threading.Event().wait()
threading.Thread(target=apart, daemon=True).start()
done.wait()
ready(pid=os.getpid(), **result)
""")
    assert pids(socket_on(take_census(), facts["socket"])) == {facts["pid"]}


@pytest.mark.parametrize("kind", ["tcp", "udp", "raw", "unix"])
def test_a_namespace_that_nothing_but_a_socket_keeps(start: Start, kind: str) -> None:
    facts = start(
        """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
inside = os.stat("/proc/self/ns/net").st_ino
if sys.argv[1] == "tcp":
    s = listener()
elif sys.argv[1] == "udp":
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", 0))
elif sys.argv[1] == "raw":
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
else:
    s = socket.socket(socket.AF_UNIX)
    s.bind("\\0fleetaudit-lost")
    s.listen()
child = os.fork()
assert libc.setns(home, 0x40000000) == 0
os.close(home)
if child == 0:
    ready_event = os.write(1, b"")
    wait()
while os.stat("/proc/%d/ns/net" % child).st_ino == inside:
    time.sleep(0.01)
ready(pids=[os.getpid(), child], netns=inside, inode=inode(s))
""",
        kind,
    )
    document = take_census()
    (found,) = [row for row in document["sockets"] if row["inode"] == facts["inode"]]
    assert (found["netns"], pids(found)) == (facts["netns"], set(facts["pids"]))
    assert "netns_not_entered" not in codes(document)


def test_a_namespace_kept_by_a_socket_of_a_thread_alone(start: Start) -> None:
    facts = start("""
result, done = {}, threading.Event()
home = os.open("/proc/self/ns/net", os.O_RDONLY)
def apart():
    libc.unshare(0x400)  # CLONE_FILES
    assert libc.unshare(0x40000000) == 0
    result["netns"] = os.stat("/proc/thread-self/ns/net").st_ino
    s = listener()
    result["socket"] = inode(s)
    assert libc.setns(home, 0x40000000) == 0
    done.set()
    threading.Event().wait()
threading.Thread(target=apart, daemon=True).start()
done.wait()
ready(pid=os.getpid(), **result)
""")
    document = take_census()
    found = [row for row in document["sockets"] if row["inode"] == facts["socket"]]
    if found:
        assert (found[0]["netns"], pids(found[0])) == (facts["netns"], {facts["pid"]})
    else:  # before Linux 6.9 such a thread's descriptors cannot be asked
        assert "netns_not_entered" in codes(document)


def test_many_connections_are_listed_and_not_asked(start: Start) -> None:
    """Beyond a thousand sockets the connections are listed; the lost namespace is found all the same."""
    facts = start(
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
lost = listener()
assert libc.setns(home, 0x40000000) == 0
os.close(home)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
s = listener(backlog=1000)
made = []
for _ in range(600):
    c = socket.create_connection(s.getsockname())
    made += [c, s.accept()[0]]
ready(socket=inode(lost), pid=os.getpid())
""",
        prefix=["unshare", "-n"],
    )
    document = take_census()
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"]}
    assert "netns_not_entered" not in codes(document)


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


PENDING = """
import mmap, struct
s = listener()
words = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 8, words)
assert ring >= 0, os.strerror(ctypes.get_errno())
offsets = struct.unpack("8IQ", words.raw[40:80])
queue = mmap.mmap(ring, offsets[6] + 4096 + 128, offset=0)
entries = mmap.mmap(ring, 64 * 8, offset=0x10000000)
entries[:64] = struct.pack("=BBHiQQIIQHHIQQ", 13, 0, 1, s.fileno(), 0, 0, 0, 0, 7, 0, 0, 0, 0, 0)
queue[offsets[6]:offsets[6] + 4] = struct.pack("I", 0)
queue[offsets[1]:offsets[1] + 4] = struct.pack("I", 1)
assert libc.syscall(426, ring, 1, 0, 0, 0, 0) == 1
kept = inode(s)
pid = os.fork()
if pid == 0:
    os.close(ring)
    queue.close(), entries.close()
    wait()
s.close()
ready(socket=kept, child=pid)
"""


def test_a_ring_that_accepts_without_a_descriptor_is_a_gap(start: Start) -> None:
    start(PENDING)
    assert "hidden_holders" in codes(take_census()), "the ring's process takes connections, and is not listed"


def test_a_queue_in_a_namespace_that_is_found_late_is_a_gap(start: Start) -> None:
    start("""
s = listener()
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
by, to = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
assert libc.setns(home, 0x40000000) == 0
os.close(home)
socket.send_fds(by, [b""], [s.fileno()])
ready()
""")
    assert "hidden_holders" in codes(take_census()), "nothing but the pair keeps the namespace it was made in"


def test_another_device_that_is_called_lo_is_not_loopback(start: Start) -> None:
    facts = start("""
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
for words in ("link set lo down", "link set lo name real", "link add lo type veth peer name other",
              "link set lo up", "link set real up"):
    subprocess.run(["ip", *words.split()], check=True)
index = socket.if_nametoindex("lo")
made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for one, device in zip(made, (b"lo", b"real")):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    one.bind(("0.0.0.0", 0))
assert libc.setns(home, 0x40000000) == 0
ready(inodes=[inode(one) for one in made], index=index)
""")
    document = take_census()
    rows = [socket_on(document, number) for number in facts["inodes"]]
    assert [row["device"] for row in rows] == [f"lo#{facts['index']}", "real"]
