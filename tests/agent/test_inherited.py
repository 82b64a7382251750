"""How owners came to their socket: real processes, through the agent and the snapshot to the judgement."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fleetaudit.derive import derive
from fleetaudit.model import HostStatus, Inherited, Missing, Outcome, Owner
from fleetaudit.snapshot import decode
from tests.agent.looking import Document, Start, by_path, take_census

# Every program leads a session of its own, so that nothing above it matters.
FAMILY = """
os.setsid()
def child(run, uid=0):
    "A child, as another user if one is named, that calls a function or becomes a program."
    pid = os.fork()
    if pid == 0:
        if uid:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        if callable(run):
            run()
            os._exit(0)
        os.execv(run[0], run)
    while not callable(run) and os.readlink("/proc/%d/exe" % pid) != os.path.realpath(run[0]):
        time.sleep(0.005)
    return pid
def told_by(run):
    "What a child tells before it ends, and that it has ended."
    r, w = os.pipe()
    def tell():
        os.write(w, json.dumps(run()).encode())
    os.waitpid(child(tell), 0)
    return json.loads(os.read(r, 4096))
def shared():
    s = listener()
    os.set_inheritable(s.fileno(), True)
    return s
CAT, SH, BASH = ["/bin/cat"], ["/bin/sh"], ["/bin/bash"]
"""
ADOPT = "libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER\n"


def judged(document: Document, inode: int) -> dict[int, Owner]:
    """The owners of one socket, as the controller sees them."""
    snapshot = decode(json.dumps(document).encode())
    derived = derive(Outcome("here", HostStatus.OK, snapshot=snapshot)).snapshot
    assert derived is not None
    (found,) = [listener for listener in derived.listeners if listener.inode == inode]
    return {owner.process.pid: owner for owner in found.owners}


def origins(facts: Document) -> dict[str, tuple[str, str | None]]:
    """By name: how it came to the socket, with a ? if that is not certain, and who handed it down."""
    owners = judged(take_census(), facts["socket"])
    names = {pid: name for name, pid in facts["pids"].items()}
    assert set(owners) == set(names), "all of them hold it, and nobody else"
    return {
        names[pid]: (
            "unknown"
            if isinstance(owner.inherited, Missing)
            else owner.inherited.value + ("" if owner.certain else "?"),
            None if owner.handed_by is None else names[owner.handed_by],
        )
        for pid, owner in owners.items()
    }


def original(facts: Document, name: str = "server") -> tuple[str, None]:
    """What the first holder is: certain only if the chain above it, which is not ours, is whole."""
    owner = judged(take_census(), facts["socket"])[facts["pids"][name]]
    return ("original?" if owner.ancestry_cut else "original"), None


# ---------------------------------------------------------------- by descent


def test_a_server_alone_is_the_original(start: Start) -> None:
    facts = start(FAMILY + "s = listener()\nready(socket=inode(s), pids=dict(server=os.getpid()))")
    assert origins(facts) == {"server": original(facts)}


def test_workers_are_handed_down_by_whoever_forked_them(start: Start) -> None:
    facts = start(
        FAMILY
        + """
s = shared()
pids = dict(server=os.getpid())
pids.update(("worker%d" % number, child(wait)) for number in range(3))
pids["unprivileged"] = child(wait, 12345)
r, w = os.pipe()
def fork_on():
    os.write(w, b"%d\\n" % child(wait))
    wait()
pids["forker"] = child(fork_on)
pids["grandchild"] = int(os.read(r, 20))
ready(socket=inode(s), pids=pids)
"""
    )
    workers = dict.fromkeys(("worker0", "worker1", "worker2", "unprivileged", "forker"), ("worker", "server"))
    assert origins(facts) == {"server": original(facts), **workers, "grandchild": ("worker", "forker")}


def test_another_program_is_handed_down_to_and_a_shell_is_a_leak(start: Start) -> None:
    facts = start(
        FAMILY
        + """
s = shared()
pids = dict(server=os.getpid(), helper=child(CAT), sh=child(SH), bash=child(BASH))
pids["unprivileged helper"] = child(CAT, 12345)
ready(socket=inode(s), pids=pids)
"""
    )
    assert origins(facts) == {
        "server": original(facts),
        "helper": ("handed_down", "server"),
        "unprivileged helper": ("handed_down", "server"),  # root may become anyone
        "sh": ("leak", "server"),
        "bash": ("leak", "server"),
    }


def test_what_a_leaked_shell_starts_has_it_from_the_shell(start: Start) -> None:
    facts = start(
        FAMILY
        + """
s = shared()
script = "exec 4<&0; cat <&4 & echo $!; wait"
shell = subprocess.Popen(["sh", "-c", script], close_fds=False, stdout=subprocess.PIPE)
cat = int(shell.stdout.readline())
while os.readlink("/proc/%d/exe" % cat) != os.path.realpath("/bin/cat"):
    time.sleep(0.005)
ready(socket=inode(s), pids=dict(server=os.getpid(), shell=shell.pid, cat=cat))
"""
    )
    assert origins(facts) == {
        "server": original(facts),
        "shell": ("leak", "server"),
        "cat": ("handed_down", "shell"),
    }


def test_a_user_that_the_server_could_not_become_is_a_leak(start: Start) -> None:
    facts = start(
        FAMILY
        + """
s = shared()
pids = dict(server=os.getpid(), stranger=child(CAT, 12345), mate=child(CAT, 65534))
pids["worker"] = child(wait, 12345)
os.setresuid(65534, 65534, 65534)
ready(socket=inode(s), pids=pids)
"""
    )
    assert origins(facts) == {
        "server": original(facts),
        "stranger": ("leak", "server"),
        "mate": ("handed_down", "server"),
        "worker": ("worker", "server"),
    }


# Puts the process `pids["moved"]` into a unit of its own, in the hierarchy that names units.
UNIT = """
folder = sys.argv[1]
named = ":name=systemd:" in open("/proc/self/cgroup").read()
kind = ["cgroup", "-o", "none,name=systemd"] if named else ["cgroup2"]
subprocess.run(["mount", "-t", *kind, "none", folder], check=True)
unit = folder + "/fleetaudit-%d.service" % os.getpid()
os.mkdir(unit)
with open(unit + "/cgroup.procs", "w") as members:
    members.write(str(pids["moved"]))
print(json.dumps(dict(socket=inode(s), pids=pids)), flush=True)
os.read(0, 1)
os.kill(pids["moved"], 9)
os.waitpid(pids["moved"], 0)
os.rmdir(unit)
"""


def test_another_unit_is_a_leak(start: Start, tmp_path: Path) -> None:
    family = 's = shared()\npids = dict(server=os.getpid(), helper=child(CAT), moved=child(["/bin/cat"]))\n'
    facts = start(FAMILY + family + UNIT, str(tmp_path), prefix=["unshare", "-m"])
    assert origins(facts) == {
        "server": original(facts),
        "helper": ("handed_down", "server"),
        "moved": ("leak", "server"),
    }


# ---------------------------------------------------------------- after a death


@pytest.mark.parametrize("adopted", [False, True], ids=["by init", "by a subreaper"])
def test_a_shell_whose_server_died_is_an_orphan(start: Start, adopted: bool) -> None:
    facts = start(
        FAMILY
        + (ADOPT if adopted else "")
        + """
def serve():
    os.setsid()
    s = shared()
    return dict(socket=inode(s), pids=dict(sh=child(SH), bash=child(BASH)))
ready(**told_by(serve))
"""
    )
    assert origins(facts) == {"sh": ("orphan", None), "bash": ("orphan", None)}


def test_an_orphan_that_its_session_does_not_betray(start: Start) -> None:
    """Adopted by its own session's leader, it looks like a shell that this one started."""
    facts = start(
        FAMILY
        + ADOPT
        + """
def serve():
    s = shared()
    return dict(socket=inode(s), pids=dict(sh=child(SH)))
ready(**told_by(serve))
"""
    )
    assert origins(facts) == {"sh": ("orphan?", None)}


def test_workers_that_outlive_their_master(start: Start) -> None:
    facts = start(
        FAMILY
        + """
def serve():
    os.setsid()
    s = shared()
    return dict(socket=inode(s), pids=dict(worker=child(wait), sh=child(SH)))
ready(**told_by(serve))
"""
    )
    assert origins(facts) == {"worker": ("original?", None), "sh": ("orphan", None)}


def test_a_shell_that_lost_its_parent_while_the_server_lives(start: Start) -> None:
    facts = start(
        FAMILY
        + """
s = shared()
facts = told_by(lambda: dict(sh=child(SH), helper=child(CAT)))
ready(socket=inode(s), pids=dict(facts, server=os.getpid()))
"""
    )
    assert origins(facts) == {
        "server": original(facts),
        "sh": ("leak?", "server"),
        "helper": ("handed_down?", "server"),
    }


def test_a_daemon_is_the_original_of_its_workers(start: Start) -> None:
    facts = start(
        FAMILY
        + """
def daemonise():
    os.setsid()
    r, w = os.pipe()
    def serve():
        s = shared()
        pids = dict(daemon=os.getpid(), worker=child(wait), sh=child(SH))
        os.write(w, json.dumps(dict(socket=inode(s), pids=pids)).encode())
        wait()
    child(serve)
    return json.loads(os.read(r, 4096))
ready(**told_by(daemonise))
"""
    )
    assert origins(facts) == {
        "daemon": ("original?", None),
        "worker": ("worker", "daemon"),
        "sh": ("leak", "daemon"),
    }


# ---------------------------------------------------------------- passed


# Neither descends from the other, and who started them holds nothing; `oldest` says who was born first.
PASSED = """
ours, theirs = socket.socketpair()
given, taken = os.pipe(), os.pipe()
def give():
    s = listener()
    socket.send_fds(ours, [b"x"], [s.fileno()])
    os.write(given[1], b"%d" % inode(s))
    wait()
def receive():
    fd = socket.recv_fds(theirs, 1, 1)[1][0]
    os.set_inheritable(fd, True)
    pids = dict(receiver=os.getpid(), **also())
    os.write(taken[1], json.dumps(pids).encode())
    become(fd)
def pass_on(oldest, other):
    pids = {run.__name__: child(run) for run in (oldest, other)}
    number, holders = int(os.read(given[0], 20)), json.loads(os.read(taken[0], 4096))
    own = os.readlink("/proc/self/exe")
    while become is not stay and os.readlink("/proc/%d/exe" % pids["receive"]) == own:
        time.sleep(0.005)
    ready(socket=number, pids=dict(holders, giver=pids["give"]))
def stay(fd):
    wait()
also, become = dict, stay
"""


def test_a_stranger_was_passed_it_by_the_older_holder(start: Start) -> None:
    family = "also = lambda: dict(worker=child(wait), helper=child(CAT))\n"
    facts = start(FAMILY + PASSED + family + "pass_on(give, receive)")
    assert origins(facts) == {
        "giver": ("original?", None),
        "receiver": ("passed?", "giver"),
        "worker": ("worker", "receiver"),
        "helper": ("handed_down", "receiver"),
    }


def test_a_shell_that_was_passed_it_is_a_leak(start: Start) -> None:
    facts = start(FAMILY + PASSED + "become = lambda fd: os.execv(SH[0], SH)\npass_on(give, receive)")
    assert origins(facts) == {"giver": ("original?", None), "receiver": ("leak?", None)}


def test_a_giver_younger_than_the_receiver_is_not_judged_with_certainty(start: Start) -> None:
    facts = start(FAMILY + PASSED + "pass_on(receive, give)")
    assert {how[-1] for how, _ in origins(facts).values()} == {"?"}


# ---------------------------------------------------------------- activation


def test_the_activation_protocol_without_descent_is_a_hint(start: Start) -> None:
    """sd_listen_fds(3), from a manager that is no ancestor."""
    code = """
def become(fd):
    os.dup2(fd, 3)
    os.execve("/bin/cat", ["cat"], {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
pass_on(give, receive)
"""
    facts = start(FAMILY + PASSED + code)
    assert origins(facts) == {"giver": ("original?", None), "receiver": ("activation?", None)}


def test_a_manager_of_ones_own_hands_down(start: Start) -> None:
    """Whoever speaks the protocol need not be systemd: by descent then, and a shell leaks."""
    facts = start(
        FAMILY
        + """
s = shared()
def activated(program):
    def become():
        os.dup2(s.fileno(), 3)
        os.execve(program, [program], {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    return become
pids = dict(server=os.getpid(), cat=child(activated("/bin/cat")), sh=child(activated("/bin/sh")))
own = os.readlink("/proc/self/exe")
while own in [os.readlink("/proc/%d/exe" % pids[name]) for name in ("cat", "sh")]:
    time.sleep(0.005)
ready(socket=inode(s), pids=pids)
"""
    )
    assert origins(facts) == {
        "server": original(facts),
        "cat": ("handed_down", "server"),
        "sh": ("leak", "server"),
    }


# systemd itself as somebody's manager, with one socket and its service, in a group of its own of the
# hierarchy that is only for groups. What it wants of /run is given to it alone.
MANAGER = r"""
folder, systemd = sys.argv[1:]
def call(*words):
    subprocess.run(words, check=True)
def write(path, content):
    with open(path, "w") as file:
        file.write(content)
call("mount", "-t", "tmpfs", "none", "/run")
for path in ("/run/systemd/system", folder + "/run", folder + "/units", folder + "/groups"):
    os.makedirs(path, 0o700)
call("mount", "-t", "cgroup2", "none", folder + "/groups")
group = folder + "/groups/fleetaudit-%d" % os.getpid()
os.mkdir(group)
call("umount", "-l", "/sys/fs/cgroup")
call("mount", "--bind", folder + "/groups", "/sys/fs/cgroup")
unit = "[Unit]\nDefaultDependencies=no\n"
path = folder + "/run/socket"
write(folder + "/units/web.socket", unit + "[Socket]\nListenStream=%s\n" % path)
write(folder + "/units/web.service", unit + "[Service]\nExecStart=/bin/sleep 60\n")
manager = subprocess.Popen(
    [systemd, "--user", "--unit=web.socket"],
    preexec_fn=lambda: write(group + "/cgroup.procs", str(os.getpid())),
    env=dict(XDG_RUNTIME_DIR=folder + "/run", HOME=folder, SYSTEMD_UNIT_PATH=folder + "/units"),
)
def members(where):
    try:
        return [int(line) for line in open(where + "/cgroup.procs")]
    except OSError:
        return []
def runs():
    found = members(group + "/app.slice/web.service")
    return [pid for pid in found if os.path.basename(os.readlink("/proc/%d/exe" % pid)) == "sleep"]
def until(condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
client = socket.socket(socket.AF_UNIX)
try:
    until(lambda: client.connect_ex(path) == 0)
    until(runs)
    print(json.dumps(dict(path=path, pids=dict(systemd=manager.pid, service=runs()[0]))), flush=True)
    os.read(0, 1)
finally:
    write(group + "/cgroup.kill", "1")
    manager.wait()
    for where, _, _ in os.walk(group, topdown=False):
        until(lambda: not members(where))
        os.rmdir(where)
"""
SYSTEMD = Path("/usr/lib/systemd/systemd")


def test_what_systemd_passed_is_activation(start: Start, tmp_path: Path) -> None:
    if not SYSTEMD.exists():
        pytest.skip("systemd is not installed")
    facts = start(FAMILY + MANAGER, str(tmp_path), str(SYSTEMD), prefix=["unshare", "-m"])
    document = take_census()
    row = by_path(document, facts["path"])
    owners = judged(document, row["inode"])
    manager, service = facts["pids"]["systemd"], facts["pids"]["service"]
    assert set(owners) == {manager, service}
    assert (owners[service].inherited, owners[service].certain) == (Inherited.ACTIVATION, True)
    assert owners[service].handed_by == manager
    assert owners[service].process.listen_fds is True
    assert owners[manager].inherited is Inherited.ORIGINAL


def test_what_systemd_socket_activate_becomes_is_the_original(start: Start, tmp_path: Path) -> None:
    """That tool opens the socket, waits for a client and becomes the server: nobody else holds it then.

    That the environment names LISTEN_FDS is the process's own word, so it proves no activation.
    """
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("systemd-socket-activate is not installed")
    path = tmp_path / "socket"
    code = """
tool, path = sys.argv[1:]
nowhere = subprocess.DEVNULL
server = subprocess.Popen([tool, "-l", path, "/bin/cat"], stdout=nowhere, stderr=nowhere)
client = socket.socket(socket.AF_UNIX)
while client.connect_ex(path):
    assert server.poll() is None
    time.sleep(0.01)
while os.readlink("/proc/%d/exe" % server.pid) != os.path.realpath("/bin/cat"):
    assert server.poll() is None
    time.sleep(0.01)
ready(path=path, pid=server.pid)
"""
    facts = start(FAMILY + code, tool, str(path))
    document = take_census()
    (owner,) = judged(document, by_path(document, facts["path"])["inode"]).values()
    assert (owner.process.pid, owner.process.listen_fds) == (facts["pid"], True)
    assert owner.inherited is Inherited.ORIGINAL


def test_the_leader_of_a_session_is_told_though_it_is_no_ancestor(start: Start) -> None:
    facts = start("""
os.setsid()
r, w = os.pipe()
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    s = listener()
    os.write(w, json.dumps(dict(socket=inode(s), pid=os.getpid())).encode())
    wait()
os.wait()  # the process between them has ended
ready(leader=os.getpid(), **json.loads(os.read(r, 4096)))
""")
    told = take_census()["processes"]
    assert told[str(facts["pid"])]["session"] == facts["leader"]
    assert told[str(facts["pid"])]["ppid"] != facts["leader"]
    assert str(facts["leader"]) in told
