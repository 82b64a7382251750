"""What a host may do to the agent: file systems that hang, endless and forged words, damage everywhere."""

from __future__ import annotations

import _socket
import json
import os
import re
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleetaudit.agent import agent
from fleetaudit.snapshot import decode
from tests.agent.looking import (
    Document,
    Start,
    codes,
    hold,
    inside,
    pids,
    socket_on,
    take_census,
    told_of,
)

# ---------------------------------------------------------------- a file system that hangs

# A FUSE file system (linux/fuse.h) with /program, /file and /dir, which stops answering at a word. What is
# asked then waits for ever, or until the server ends: which it does by itself after a while, so that a test
# that fails ends as well. A server that still reads, and never answers, makes those who ask unkillable.
FUSE = r"""
import mmap, select, struct
folder, where, reads_on = sys.argv[1], sys.argv[2], sys.argv[3] == "reads on"
program = open("/bin/cat", "rb").read()
nodes = {b"program": 2, b"file": 3, b"dir": 4}
fuse = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse
assert libc.mount(b"hangs", folder.encode(), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
def attributes(node):
    mode = 0o40755 if node in (1, 4) else 0o100755
    size = 0 if node in (1, 4) else len(program)
    return struct.pack("=6Q10I", node, size, size // 512 + 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
def answer(kind, node, body):
    if kind == 26:  # INIT
        return struct.pack("=4I2H2I2HI7I", 7, 31, 1 << 17, 0, 9, 9, 1 << 17, 1, 32, 0, 0, *[0] * 7)
    if kind == 1 and body[:-1] in nodes:  # LOOKUP; neither name nor attributes may be remembered
        found = nodes[body[:-1]]
        return struct.pack("=4Q2I", found, 0, 0, 0, 0, 0) + attributes(found)
    if kind == 3:  # GETATTR
        return struct.pack("=Q2I", 0, 0, 0) + attributes(node)
    if kind in (14, 27):  # OPEN, OPENDIR
        return struct.pack("=Q2I", 0, 0, 0)
    if kind == 15:  # READ
        _, offset, size = struct.unpack_from("=QQI", body)
        return program[offset : offset + size]
    if kind in (18, 25, 29):  # RELEASE, FLUSH, RELEASEDIR
        return b""
    return None
def serve(stop):
    while stop not in select.select([fuse, stop], [], [])[0]:
        request = os.read(fuse, 1 << 18)
        _, kind, unique, node = struct.unpack_from("=IIQQ", request)
        if kind in (2, 42):  # FORGET, BATCH_FORGET
            continue
        found = answer(kind, node, request[40:])
        head = struct.pack("=IiQ", 16 + len(found or b""), 0 if found is not None else -38, unique)
        os.write(fuse, head + (found or b""))
    end = time.monotonic() + 40
    while time.monotonic() < end:
        ready = select.select([0, fuse] if reads_on else [0], [], [], 1)[0]
        if 0 in ready:
            break
        if ready:
            os.read(fuse, 1 << 18)
    os._exit(0)
stop = os.pipe()
server = os.fork()
if server == 0:
    serve(stop[0])
os.close(fuse)
s = listener()
os.set_inheritable(s.fileno(), True)
facts, children = dict(socket=inode(s), pid=os.getpid()), []
"""
HANG = r"""
os.write(stop[1], b"x")
print(json.dumps(facts), flush=True)
os.read(0, 1)
os.waitpid(server, 0)
for child in children:
    child.kill()
    child.wait()
os._exit(0)
"""
STUCK = {
    "descriptor": "kept = [os.open(folder + name, os.O_RDONLY) for name in ('/file', '/dir')]",
    "working directory": "os.chdir(folder + '/dir')",
    "executable": """
children.append(subprocess.Popen(["cat"], executable=folder + "/program", close_fds=False,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
facts["child"] = children[0].pid
""",
    "detached executable": """
children.append(subprocess.Popen(["cat"], executable=folder + "/program", close_fds=False,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
facts["child"] = children[0].pid
assert libc.umount2(folder.encode(), 2) == 0  # MNT_DETACH: what is in use stays
""",
    # The program's path, in its own mount namespace, is for others a link to what hangs.
    "linked path": """
top = os.path.dirname(folder) + "/top"
os.mkdir(top)
os.symlink(folder, top + "/links")
script = ("mount -t tmpfs none %s && mkdir %s/links && cp /bin/cat %s/links/program && "
          "exec %s/links/program" % (top, top, top, top))
children.append(subprocess.Popen(["unshare", "-m", "sh", "-c", script], close_fds=False,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
facts["child"] = children[0].pid
while not os.readlink("/proc/%d/exe" % facts["child"]).endswith("/program"):
    time.sleep(0.01)
""",
    # A network namespace that nothing keeps but a socket and a mount over a file that hangs.
    "way into a namespace": """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
s.close()
s = listener()
facts["socket"] = inode(s)
subprocess.run(["mount", "--bind", "/proc/self/ns/net", folder + "/file"], check=True)
assert libc.setns(home, 0x40000000) == 0
os.close(home)
""",
    "memory": """
file = os.open(folder + "/file", os.O_RDONLY)
memory = mmap.mmap(file, 4096, prot=mmap.PROT_READ)
def touch():
    memory[0]
def change():
    while True:
        mmap.mmap(-1, 1 << 16).close()
threading.Timer(0.2, touch).start()
threading.Timer(0.3, change).start()
""",
    "root directory": """
os.chroot(folder)
""",
}
VIEWS = ("outside", "inside")
HARMLESS = ("descriptor", "working directory", "root directory", "memory")
CASES = [(where, view) for where in HARMLESS for view in VIEWS]
CASES += [("executable", "inside"), ("linked path", "outside")]
CASES += [("executable", "outside"), ("linked path", "inside")]
CASES += [(where, view) for where in ("detached executable", "way into a namespace") for view in VIEWS]
PATIENCE = 30  # seconds; the server lasts for 40


def stuck(start: Start, folder: Path, where: str, server: str) -> Document:
    facts = start(FUSE + STUCK[where] + HANG, str(folder), where, server, prefix=["unshare", "-m"])
    assert isinstance(facts, dict)
    return facts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no FUSE")
    made = tmp_path / "hangs"
    made.mkdir()
    return made


@pytest.mark.parametrize("server", ["reads on", "reads no more"])
@pytest.mark.parametrize(("where", "seen_from"), CASES)
def test_a_file_system_that_hangs_does_not_hang_the_agent(
    start: Start, folder: Path, where: str, server: str, seen_from: str
) -> None:
    """Behind a descriptor, a working directory and so on; in the agent's mount namespace or in another."""
    facts = stuck(start, folder, where, server)
    begin = time.monotonic()
    document = take_census(inside(facts) if seen_from == "inside" else ())
    assert time.monotonic() - begin < PATIENCE
    found = [row for row in document["sockets"] if row["inode"] == facts["socket"]]
    if where == "way into a namespace" and not found:
        assert "netns_not_entered" in codes(document), "then it says so"
        return
    owners = {facts["pid"], facts.get("child", facts["pid"])}
    assert [pids(row) for row in found] == [owners]
    told = document["processes"]
    assert {str(pid) for pid in owners} <= set(told)
    if "child" in facts:
        child = told[str(facts["child"])]
        assert str(child.get("exe")).endswith("/program")
        seen = (where, seen_from) == ("executable", "inside")  # a mount that the agent has as well
        assert child.get("exe_verified", "unknown") == ("unknown" if seen else False), "nobody could look"


# ---------------------------------------------------------------- words


def escaped(raw: bytes) -> str:
    r"""Controls and what is not UTF-8, as the agent shows them; the rest is ASCII here."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in raw)


EVIL = b"a) S 1 (\x1b[31m\n\xff\\x41 }{\"'\r\x7f"


def test_a_megabyte_of_arguments_is_cut_with_a_note(start: Start) -> None:
    facts = start("s = listener()\nready(socket=inode(s), pid=os.getpid())", *["x" * 100_000] * 11)
    document = take_census(argv="full")
    assert pids(socket_on(document, facts["socket"])) == {facts["pid"]}
    found = document["processes"][str(facts["pid"])]
    assert (found["argv_cut"], found["argv"][-1]) == (True, "[cut at 32768 bytes]")
    assert sum(map(len, found["argv"])) < 40_000


def test_arguments_arrive_escaped(start: Start) -> None:
    forged = b"x\nFLEETAUDIT-END t-1\n"
    facts = start("s = listener()\nready(pid=os.getpid())", os.fsdecode(EVIL), "", os.fsdecode(forged))
    argv = take_census(argv="full")["processes"][str(facts["pid"])]["argv"]
    assert argv[-3:] == [escaped(EVIL), "", escaped(forged)]


def test_a_program_with_an_odd_path_arrives_escaped(start: Start, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(EVIL + b" (deleted)")
    shutil.copy("/bin/cat", path)
    facts = hold(start, {"odd": (path, "odd")})
    (found,) = told_of(facts).values()
    assert found["exe"] == escaped(bytes(path))
    assert (found["exe_deleted"], found["exe_verified"]) == (False, True)
    path.unlink()
    (found,) = told_of(facts).values()
    assert (found["exe"], found["exe_deleted"]) == (escaped(bytes(path)), True)


def test_names_of_processes_arrive_escaped_and_split_nothing(start: Start) -> None:
    """The name stands in the middle of /proc/PID/stat, and may hold what follows it there."""
    code = """
import binascii
s = listener()
names = [binascii.unhexlify(word) for word in sys.argv[1:]]
pids = []
for name in names:
    pid = os.fork()
    if pid == 0:
        libc.prctl(15, name, 0, 0, 0)
        wait()
    pids.append(pid)
def comm(pid):
    return open("/proc/%d/comm" % pid, "rb").read()[:-1]
while [comm(pid) for pid in pids] != names:
    time.sleep(0.005)
ready(socket=inode(s), pid=os.getpid(), pids=pids)
"""
    names = [b"", b")", b") Z 1 1 (", b"a\nState:\tZ", b"\xff\xfe\x1b[2J", b"\xe2\x80\xae gnp", b" (deleted)"]
    facts = start(code, *[name.hex() for name in names])
    told = take_census()["processes"]
    found = [told[str(pid)] for pid in facts["pids"]]
    assert [process["comm"] for process in found] == [
        "\u202e gnp" if name.startswith(b"\xe2") else escaped(name) for name in names
    ]
    assert {process["ppid"] for process in found} == {facts["pid"]}
    assert "Z" not in {process["state"] for process in found}


def test_a_unix_path_arrives_escaped_in_one_row(start: Start, tmp_path: Path) -> None:
    code = """
import binascii
path = binascii.unhexlify(sys.argv[1])
s, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
s.bind(path)
abstract.bind(b"\\0" + path[-40:] + b"\\0tail")
s.listen()
abstract.listen()
ready(path=inode(s), abstract=inode(abstract))
"""
    path = bytes(tmp_path) + b"/" + EVIL
    facts = start(code, path.hex())
    document = take_census()
    assert socket_on(document, facts["path"])["path"] == escaped(path)
    assert socket_on(document, facts["abstract"])["path"] == "@" + escaped(path[-40:] + b"\0tail")


def test_the_name_of_a_namespace_arrives_escaped(start: Start) -> None:
    code = """
import binascii
name = binascii.unhexlify(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
os.mkdir("/run/netns")
open(b"/run/netns/" + name, "w").close()
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert libc.unshare(0x40000000) == 0
s = listener()
number = os.stat("/proc/self/ns/net").st_ino
subprocess.run([b"mount", b"--bind", b"/proc/self/ns/net", b"/run/netns/" + name], check=True)
assert libc.setns(home, 0x40000000) == 0
ready(socket=inode(s), netns=number)
"""
    facts = start(code, EVIL.hex(), prefix=["unshare", "-m"])
    document = take_census()
    (name,) = [space["name"] for space in document["network_namespaces"] if space["id"] == facts["netns"]]
    assert name == escaped(EVIL)
    assert socket_on(document, facts["socket"])["netns"] == facts["netns"]


def test_the_name_of_a_control_group_arrives_escaped(start: Start, tmp_path: Path) -> None:
    name = EVIL.replace(b"\n", b" 0::/")  # the kernel refuses newlines here
    code = """
import binascii
folder, name = sys.argv[1].encode(), binascii.unhexlify(sys.argv[2])
named = ":name=systemd:" in open("/proc/self/cgroup").read()
kind = ["cgroup", "-o", "none,name=systemd"] if named else ["cgroup2"]
subprocess.run(["mount", "-t", *kind, "none", folder], check=True)
group = folder + b"/%d " % os.getpid() + name
os.mkdir(group)
s = listener()
pid = os.fork()
if pid == 0:
    wait()
with open(group + b"/cgroup.procs", "w") as members:
    members.write(str(pid))
print(json.dumps(dict(pid=pid, mine=os.getpid())), flush=True)
os.read(0, 1)
os.waitpid(pid, 0)
os.rmdir(group)
"""
    evil = name.replace(b"/", b"")
    facts = start(code, str(tmp_path), evil.hex(), prefix=["unshare", "-m"])
    found = take_census()["processes"][str(facts["pid"])]
    assert found["cgroup"].endswith(f"/{facts['mine']} {escaped(evil)}")


# ---------------------------------------------------------------- damage


NOT_TOO_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# Numbers that no process of this machine can have, in a tree that is otherwise like /proc.
PIDS = (4_194_401, 4_194_402, 4_194_403)
STAT = b"%d (x) S %d 6 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0 18446744073709551615\n"
STATUS = b"Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t1\nCapEff:\t000001ffffffffff\n"
MOUNTS = b"99 1 0:4 net:[4026532999] /run/netns/a rw shared:5 - nsfs nsfs rw\n"
FILES = {
    "stat": STAT,
    "status": STATUS,
    "cmdline": b"x\0y\0",
    "cgroup": b"0::/a.service\n",
    "environ": b"LISTEN_PID=1\0LISTEN_FDS=1\0",
    "mountinfo": MOUNTS,
    "fdinfo/3": b"scm_fds: 0\nino: 5\nflags: 02000002\n",
    "fdinfo/4": b"UserFiles:\t1\n    0: socket:[5]\nUserBufs:\t0\n",
    "fdinfo/5": b"scm_fds: 1\n",
    "loginuid": b"0",
    "attr/current": b"unconfined\0\n",
}
LINKS = {
    "exe": "/bin/cat",
    "ns/net": "net:[4026532998]",
    "ns/mnt": "mnt:[4026532997]",
    "ns/pid": "pid:[4026531836]",
    "ns/user": "user:[4026531837]",
    "fd/4": "anon_inode:[io_uring]",
    "fd/5": "socket:[5]",
    "fd/6": "net:[4026532996]",
    "fd/7": "/tmp/x",
}
NUMBERS = (
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b"9" * 400,
    b"",
    b"x",
    b"\xff",
    b"1.5",
    b"0x10",
)


def make_tree(tree: Path, inode: int) -> None:
    (tree / "self").symlink_to("/proc/self")
    for pid in PIDS:
        make_process(tree / str(pid), pid, inode)


def make_process(folder: Path, pid: int, inode: int) -> None:
    for base in (folder, folder / f"task/{pid}", folder / f"task/{pid + 10}"):
        for name, content in FILES.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_bytes(content % (pid, pid - 1) if name == "stat" else content)
        for name, link in {**LINKS, "fd/3": f"socket:[{inode}]"}.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).symlink_to(link)


def numbers_replaced(content: bytes, number: bytes) -> bytes:
    return re.sub(rb"[0-9]+", lambda _: number, content)


damages = st.lists(
    st.tuples(
        st.sampled_from(PIDS[:2]),  # one stays whole
        st.sampled_from(["", "", "", f"task/{PIDS[0]}/", f"task/{PIDS[0] + 10}/"]),
        st.sampled_from([*FILES, *LINKS, "fd/3", "fd", "fdinfo", "task", "ns"]),
        st.one_of(
            st.sampled_from(["missing", "folder", "empty", "loop", "half"]),
            st.sampled_from(NUMBERS),
            st.binary(max_size=80).map(lambda data: b"=" + data),
        ),
    ),
    max_size=5,
)


def damage(path: Path, how: str | bytes) -> None:
    linked = path.is_symlink()
    if not linked and not path.exists():
        return
    folder = not linked and path.is_dir()
    content = bytes(path.readlink()) if linked else b"" if folder else path.read_bytes()
    shutil.rmtree(path) if folder else path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)
    elif how in ("empty", "half"):
        path.write_bytes(content[: len(content) // 2] if how == "half" else b"")
    elif isinstance(how, bytes):
        new = how[1:] if how.startswith(b"=") else numbers_replaced(content, how)
        if not linked:
            path.write_bytes(new)
        elif new and b"\0" not in new:
            path.symlink_to(os.fsdecode(new))


@pytest.fixture
def listening() -> Iterator[int]:
    """The inode of a listener of this process."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield os.fstat(made.fileno()).st_ino


@settings(max_examples=60, deadline=None, suppress_health_check=NOT_TOO_SLOW)
@given(damages=damages)
@example(damages=[(PIDS[0], "", "stat", b"9" * 400)])
@example(damages=[(PIDS[0], "", "status", b"9" * 400)])
@example(damages=[(PIDS[0], "", "stat", b"-1")])
@example(damages=[(PIDS[0], "", "status", b"-1")])
@example(damages=[(PIDS[1], "", "fdinfo/3", b"4294967296")])
def test_a_damaged_proc_loses_no_more_than_what_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, listening: int, damages: list[tuple[int, str, str, str | bytes]]
) -> None:
    tree, here = tmp_path_factory.mktemp("proc"), Path.cwd()
    make_tree(tree, listening)
    for pid, base, name, how in damages:
        damage(tree / str(pid) / (base + name), how)
    try:
        document = agent.take_census(str(tree), agent.Config({"budget_seconds": 1e9}))  # of this process
    finally:
        os.chdir(here)
        shutil.rmtree(tree)
    body = agent.compose(document, 1 << 24)
    decode(body)
    found = json.loads(body)
    whole = PIDS[2]
    assert whole in pids(socket_on(found, listening)), "the process that was left alone is an owner"
    assert found["processes"][str(whole)]["comm"] == "x"


INET = struct.pack("!BBBBHH16s16s", 2, 10, 0, 0, 80, 0, b"\0" * 16, b"\0" * 16) + struct.pack(
    "=IIIIIIII", 0, 5, 0, 0, 0, 128, 33, 99
)
UNIX = struct.pack("=BBBxIII", 1, 1, 10, 9, 1, 0) + struct.pack("=HH", 8, 0) + b"\0abc"
PACKET = struct.pack("=BBHIII", 17, 3, 768, 9, 1, 0)


def message(payload: bytes, kind: int = 20, flags: int = 2) -> bytes:
    head = struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0)
    return head + payload.ljust((len(payload) + 3) & ~3, b"\0")


DONE = message(b"\0\0\0\0", kind=3)
whole_messages = st.sampled_from(
    [
        *[message(body) for body in (INET, UNIX, PACKET, INET[:71], UNIX[:15], b"")],
        message(INET, flags=0x12),
        message(struct.pack("=i", -2), kind=2),
        message(struct.pack("=i", 7), kind=2),
        message(b"", kind=2),
        message(b"", kind=3),
        message(b"\0" * 12, kind=1),
        DONE,
    ]
)
datagrams = st.lists(
    st.one_of(
        st.lists(whole_messages, max_size=4).map(b"".join),
        st.binary(max_size=60),
        st.builds(
            lambda whole, place, byte, cut: (whole[:place] + bytes([byte]) + whole[place + 1 :])[:cut],
            st.lists(whole_messages, min_size=1, max_size=3).map(b"".join),
            st.integers(0, 300),
            st.integers(0, 255),
            st.integers(0, 400),
        ),
    ),
    max_size=25,
)


class Liar(_socket.socket):
    """A netlink socket whose answers are not the kernel's; when they run out it falls silent."""

    answers: ClassVar[Iterator[bytes]] = iter(())

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, tuple[int, int]]:
        for answer in type(self).answers:
            return answer, (0, 0)
        raise BlockingIOError(11, "Resource temporarily unavailable")


@settings(max_examples=150, deadline=None, suppress_health_check=NOT_TOO_SLOW)
@given(answers=datagrams)
def test_damaged_answers_of_the_kernel_are_worked_around(
    monkeypatch: pytest.MonkeyPatch, listening: int, answers: list[bytes]
) -> None:
    """Each question either has an answer that makes sense, or is answered from /proc/net, or is a gap."""
    coverage = agent.Coverage()
    monkeypatch.setattr(Liar, "answers", iter(answers))
    with monkeypatch.context() as patched:
        patched.setattr(_socket, "socket", Liar)
        with agent.Dump(1, coverage) as dump:
            rows = dump.run()
    for row in rows:
        assert json.loads(agent.encode(row.fields)) == row.fields
    assert all({"code", "detail"} <= set(gap) for gap in coverage.gaps)
    if not answers:
        assert listening in {row.inode for row in rows}, "from /proc/net"


@settings(max_examples=60, deadline=None, suppress_health_check=NOT_TOO_SLOW)
@given(answers=datagrams)
def test_damaged_answers_about_devices_prove_nothing(
    monkeypatch: pytest.MonkeyPatch, answers: list[bytes]
) -> None:
    spaces = agent.Namespaces("/proc", agent.Coverage())
    monkeypatch.setattr(Liar, "answers", iter(answers))
    with monkeypatch.context() as patched:
        patched.setattr(_socket, "socket", Liar)
        assert spaces.tunnels(spaces.home) == {}
    os.close(spaces.home_door)
