"""Holders that are easily missed or mistaken: odd protocols, odd states, changing crowds, reused numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.agent import agent
from tests.agent.looking import Document, Start, codes, pids, socket_on, take_census

WaitUntil = Callable[[Callable[[], bool], str], None]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# ---------------------------------------------------------------- protocols


def test_an_mptcp_listener_is_one_row(start: Start) -> None:
    facts = start("""
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
except OSError:
    ready(made=False)
s.bind(("127.0.0.1", 0))
s.listen()
child = os.fork()
if child == 0:
    wait()
ready(made=True, socket=inode(s), port=s.getsockname()[1], pids=[os.getpid(), child])
""")
    if not facts["made"]:
        pytest.skip("this kernel has no MPTCP")
    document = take_census()
    home = document["network_namespaces"][0]["id"]
    rows = [row for row in document["sockets"] if (row["port"], row["netns"]) == (facts["port"], home)]
    assert [(row["protocol"], row["inode"], pids(row)) for row in rows] == [
        ("tcp", facts["socket"], set(facts["pids"]))
    ]


RARE = """
family, kind, number = [int(word) for word in sys.argv[1:]]
try:
    s = socket.socket(family, kind, number)
except OSError as error:
    ready(made=False, why=error.errno)
s.bind((socket.VMADDR_CID_ANY, 40123) if family == socket.AF_VSOCK else ("127.0.0.1", 0))
if kind != socket.SOCK_DGRAM:
    s.listen()
ready(made=True, socket=inode(s), pid=os.getpid())
"""


@pytest.mark.parametrize(
    ("protocol", "numbers", "marker"),
    [
        ("sctp", (2, 1, 132), "SCTP"),
        ("dccp", (2, 6, 33), "DCCP"),
        ("udplite", (2, 2, 136), "UDP-Lite"),
        ("vsock", (40, 1, 0), "AF_VSOCK"),
    ],
)
def test_a_rare_protocol_is_listed_or_missed_aloud_or_not_there(
    start: Start, protocol: str, numbers: tuple[int, int, int], marker: str
) -> None:
    facts = start(RARE, *map(str, numbers))
    document = take_census()
    missed = [gap for gap in document["coverage"]["gaps"] if gap.get("protocol") == protocol]
    if facts["made"]:
        found = [row for row in document["sockets"] if row["inode"] == facts["socket"]]
        assert [(row["protocol"], pids(row)) for row in found] == [(protocol, {facts["pid"]})] or (
            not found and [gap["code"] for gap in missed] == ["protocol_not_dumped"]
        )
    else:
        assert marker not in agent.parse_protocols(Path("/proc/net/protocols").read_bytes()), "it is there"
        assert missed == [], "what the kernel lacks cannot be missed"
        assert not [row for row in document["sockets"] if row["protocol"] == protocol]


# ---------------------------------------------------------------- states


def test_an_owner_in_a_pid_namespace_below_ours(start: Start) -> None:
    code = """
s = listener()
child = os.fork()
if child == 0:
    wait()
ready(socket=inode(s), inner=[os.getpid(), child], outer=int(os.readlink("/proc/self")))
"""
    facts = start(code, prefix=["unshare", "--pid", "--fork"])
    assert facts["inner"][0] == 1, "in its own eyes"
    found = socket_on(document := take_census(), facts["socket"])
    (below,) = pids(found) - {facts["outer"]}
    assert document["processes"][str(below)]["ppid"] == facts["outer"]
    assert Path(f"/proc/{below}/status").read_text().partition("NSpid:")[2].split()[:2] == [
        str(below),
        str(facts["inner"][1]),
    ]


def test_an_owner_that_cannot_be_interrupted(start: Start, tmp_path: Path, wait_until: WaitUntil) -> None:
    """posix_spawn(3) holds its caller, in state D, until the child executes: which opens a pipe before."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = """
s = listener()
print(json.dumps(dict(socket=inode(s), pid=os.getpid())), flush=True)
first = (os.POSIX_SPAWN_OPEN, 9, sys.argv[1], os.O_RDONLY, 0)
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=[first]), 0)
os.read(0, 1)
"""
    facts = start(code, str(pipe))
    try:
        wait_until(lambda: state_of(facts["pid"]) == "D", "it is not held")
        document = take_census()
        assert state_of(facts["pid"]) == "D"
    finally:
        os.close(os.open(pipe, os.O_RDWR))
    found = pids(socket_on(document, facts["socket"]))
    (child,) = found - {facts["pid"]}
    assert facts["pid"] in found
    told = document["processes"]
    assert (told[str(facts["pid"])]["state"], told[str(child)]["ppid"]) == ("D", facts["pid"])


def test_close_on_exec_is_told_of_each_descriptor(start: Start) -> None:
    facts = start("""
kept, closed = listener(), listener()
os.set_inheritable(kept.fileno(), True)
copy = os.dup(closed.fileno())
os.set_inheritable(copy, True)
pid = os.fork()
if pid == 0:
    os.execv("/bin/cat", ["cat"])
while os.readlink("/proc/%d/exe" % pid) != os.path.realpath("/bin/cat"):
    time.sleep(0.005)
ready(kept=inode(kept), closed=inode(closed), me=os.getpid(), child=pid,
      fds=[kept.fileno(), closed.fileno(), copy])
""")
    document = take_census()
    kept, closed, copy = facts["fds"]
    me, child = facts["me"], facts["child"]
    assert holders(document, facts["kept"]) == {me: ([kept], []), child: ([kept], [])}
    assert holders(document, facts["closed"]) == {me: ([closed, copy], [closed]), child: ([copy], [])}


def holders(document: Document, inode: int) -> dict[int, tuple[list[int], list[int]]]:
    """By process: its descriptors, and those of them that close on exec."""
    return {owner["pid"]: (owner["fds"], owner["cloexec"]) for owner in socket_on(document, inode)["owners"]}


# ---------------------------------------------------------------- a crowd that changes


# Each line of the log is one moment of one worker; what a worker is certain to live through lies between
# `born` and `until`, what it may have lived through between `before` and `gone`.
CROWD = """
import random, select
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(what, pid, moment):
    os.write(log, b"%s %d %r\\n".replace(b"%r", repr(moment).encode()) % (what, pid))
s = listener()
os.set_inheritable(s.fileno(), True)
chance, alive, told = random.Random(7), set(), False
while not select.select([0], [], [], 0.002)[0]:
    while True:
        pid = os.waitpid(-1, os.WNOHANG)[0] if alive else 0
        if not pid:
            break
        alive.discard(pid)
        note(b"gone", pid, time.monotonic())
    while len(alive) < 30:
        before, span = time.monotonic(), chance.uniform(0.05, float(sys.argv[2]))
        pid = os.fork()
        if pid == 0:
            time.sleep(span)
            os._exit(0)
        born = time.monotonic()
        note(b"before", pid, before)
        note(b"until", pid, before + span)
        note(b"born", pid, born)
        alive.add(pid)
    if not told:
        told = True
        print(json.dumps(dict(socket=inode(s), pid=os.getpid())), flush=True)
"""


@dataclass
class Life:
    """Moments of the monotonic clock."""

    before: float = 0.0
    born: float = float("inf")
    until: float = 0.0
    gone: float = float("inf")


def lives_in(log: Path) -> dict[int, list[Life]]:
    """By number, every worker that had it."""
    found: dict[int, list[Life]] = {}
    for line in log.read_text().splitlines():
        what, pid, moment = line.split()
        if what == "before":
            found.setdefault(int(pid), []).append(Life())
        setattr(found[int(pid)][-1], what, float(moment))
    return found


def test_a_prefork_server_that_replaces_its_workers(start: Start, tmp_path: Path) -> None:
    begin = time.monotonic()
    take_census()
    # Workers live 50 to 300 ms; on a busy machine, where a census takes longer, some longer than that.
    longest = max(0.3, 10 * (time.monotonic() - begin))
    log = tmp_path / "log"
    facts = start(CROWD, str(log), str(longest))
    looks: list[tuple[float, float, Document]] = []
    throughout = 0
    while (throughout < 20 or len(looks) < 3) and len(looks) < 60:
        begin = time.monotonic()
        document = take_census()
        end = time.monotonic()
        looks.append((begin, end, document))
        lives = [life for every in lives_in(log).values() for life in every]
        throughout += sum(life.born < begin and life.until > end for life in lives)
    assert throughout >= 20, "too few workers lived all the while: nothing is shown"
    for begin, end, document in looks:
        lived = lives_in(log)
        found = pids(socket_on(document, facts["socket"]))
        whole = {
            pid for pid, every in lived.items() for life in every if life.born < begin and life.until > end
        }
        ever = {
            pid for pid, every in lived.items() for life in every if life.before < end and life.gone > begin
        }
        assert {facts["pid"]} | whole <= found, "who lived all the while is found"
        assert found <= {facts["pid"]} | ever, "who is named was one"
        assert "denied_process" not in codes(document) - codes(looks[0][2])
        told = document["processes"]
        assert {told[str(pid)].get("ppid") for pid in found - {facts["pid"]}} <= {facts["pid"]}


# ---------------------------------------------------------------- numbers reused


# In a pid namespace of its own the next number can be chosen (/proc/sys/kernel/ns_last_pid). The agent is
# stepped through its walk, and the process changes under it.
REUSED = """
import posix, signal
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import agent
def fork_as(number, run):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(number - 1))
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    assert pid == number, "another process took the number"
def become(program):
    return lambda: os.execv(program, [program])
def end(pid):
    os.kill(pid, 9)
    os.waitpid(pid, 0)
s = listener()
os.set_inheritable(s.fileno(), True)
link = "socket:[%d]" % inode(s)
coverage = agent.Coverage()
describer = agent.Describer(agent.our_mounts(), "full")
walk = agent.Walk("/proc", coverage, describer, agent.Budget(1e9, 1024, coverage))
def tell(*numbers):
    holders = sorted(walk.owners.get(link, {}))
    told = [walk.processes[pid] for pid in numbers if pid in walk.processes]
    names = [[one["comm"], one.get("exe"), one.get("argv")] for one in told]
    ready(holders=holders, names=names, vanished=sorted(coverage.vanished))
"""


def reused(start: Start, code: str) -> Any:
    return start(REUSED + code, agent.__file__, prefix=["unshare", "--pid", "--fork", "--mount-proc"])


@pytest.mark.parametrize(
    "moment", ["listdir, after", "describe, before", "stat, after", "cmdline, before", "exe, before"]
)
def test_a_number_that_is_reused_during_the_visit_lends_no_name(start: Start, moment: str) -> None:
    """The server is killed, and a stranger that holds nothing takes its number, at one step of the visit."""
    what, when = moment.split(", ")
    facts = reused(
        start,
        f"""
what, when = {what!r}, {when!r}
fork_as(500, wait)
swapped = []
def swap():
    if not swapped:
        swapped.append(1)
        end(500)
        os.set_inheritable(s.fileno(), False)
        fork_as(500, become("/bin/cat"))
        os.waitid(os.P_PID, 500, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        while os.readlink("/proc/500/exe") != os.path.realpath("/bin/cat"):
            time.sleep(0.005)
def hooked(call, matches):
    def run(*args):
        hit = matches(args)
        if hit and when == "before":
            swap()
        found = call(*args)
        if hit and when == "after":
            swap()
        return found
    return run
at = lambda args: os.getcwd() == "/proc/500/fd"
if what == "listdir":
    posix.listdir = hooked(posix.listdir, at)
elif what == "describe":
    walk.describer.describe = hooked(walk.describer.describe, at)
elif what == "exe":
    posix.readlink = hooked(posix.readlink, lambda args: str(args[0]).endswith("exe"))
else:
    agent.read = hooked(agent.read, lambda args: str(args[0]).endswith(what))
walk.visit(["500"], {{link}})
assert swapped, "the step was never taken"
tell(500)
""",
    )
    told = [word for word in facts["names"][0] if word is not None] if facts["names"] else []
    assert not {"cat", os.path.realpath("/bin/cat"), repr(["/bin/cat"])} & set(map(str, told))
    assert facts["holders"] or facts["vanished"] == ["500"]


def test_a_number_that_is_reused_between_two_visits_is_another_process(start: Start) -> None:
    facts = reused(
        start,
        """
fork_as(500, wait)
walk.visit(["500"], {link})
assert sorted(walk.owners[link]) == [500]
end(500)
other = listener()
theirs = "socket:[%d]" % inode(other)
r, w = os.pipe()
def stranger():
    s.close()
    libc.prctl(15, b"stranger", 0, 0, 0)
    os.write(w, b"x")
    wait()
time.sleep(0.05)  # start times are told in hundredths of a second
fork_as(500, stranger)
os.read(r, 1)
walk.visit(["500"], {theirs})
assert sorted(walk.owners[theirs]) == [500]
tell(500)
""",
    )
    assert (facts["holders"], facts["vanished"]) == ([], ["500"])
    assert [name for name, _, _ in facts["names"]] == ["stranger"]


def test_a_parents_number_that_is_reused_is_no_parent(start: Start) -> None:
    facts = reused(
        start,
        """
r, w = os.pipe()
def middle():
    fork_as(501, wait)
    os.write(w, b"x")
    wait()
fork_as(500, middle)
os.read(r, 1)
walk.visit(["501"], {link})
end(500)
time.sleep(0.05)  # start times are told in hundredths of a second
fork_as(500, become("/bin/cat"))
walk.climb()
tell(500, 501)
""",
    )
    assert facts["holders"] == [501]
    assert len(facts["names"]) == 1, "the child alone"


def test_the_census_in_a_namespace_where_numbers_are_reused_all_the_time(start: Start) -> None:
    """Of a few numbers taken in turn by holders and by others, none is told of as both."""
    facts: Mapping[str, Any] = reused(
        start,
        """
turns = [os.pipe(), os.pipe()]
def take_turns(place, run):
    if os.fork():
        return
    if not run:
        s.close()
    number = 0
    while True:
        os.read(turns[place][0], 1)
        number += 1
        fork_as(700 + number % 3, run or become("/bin/true"))
        os.waitpid(-1, 0)
        os.write(turns[1 - place][1], b"x")
take_turns(0, lambda: time.sleep(0.002))
take_turns(1, None)
os.write(turns[0][1], b"x")
seen = []
for _ in range(30):
    coverage = agent.Coverage()
    describer = agent.Describer(agent.our_mounts(), "full")
    walk = agent.Walk("/proc", coverage, describer, agent.Budget(1e9, 1024, coverage))
    rows = agent.find_listeners(agent.Namespaces("/proc", coverage), walk)
    for pid in walk.owners.get(link, {}):
        if pid >= 700:
            told = walk.processes[pid]
            seen.append((told["comm"], told.get("exe")))
mine = walk.processes[os.getpid()]
ready(seen=seen, mine=(mine["comm"], mine["exe"]))
""",
    )
    seen = {tuple(one) for one in facts["seen"]}
    comm, exe = facts["mine"]
    assert (comm, exe) in seen, "holders were met"
    assert seen <= {(comm, exe), (comm, None)}, "some had ended before all was read"
