"""A fleet ends whichever way it is ended, and leaves nothing; and it starts wherever it can."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.demo.plan import DemoError, Isolation, Server
from tests.demo.conftest import Way, start
from tests.demo.looking import alive, descendants, log_in, look, mounts, program

ROOT = Path(__file__).resolve().parents[2]
WaitUntil = Callable[[Callable[[], bool], str], None]

# Starts a fleet and holds it until stdin ends, or somebody ends this process.
CONTROLLER = """
import sys
from pathlib import Path
from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.demo.plan import Isolation, Server
isolation = Isolation[sys.argv[2]] if len(sys.argv) > 2 else None
server = Server[sys.argv[3]] if len(sys.argv) > 3 else None
with DemoFleet.start(Path(sys.argv[1]), isolation=isolation, server=server) as fleet:
    print(fleet.isolation.name, fleet.server.name, *fleet.notes, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _controller(directory: Path, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[_Controller]:
    command = [*before, sys.executable, "-c", CONTROLLER, str(directory), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
    ) as process:
        try:
            yield _Controller(process)
        finally:
            process.kill()


class _Controller:
    """Another process that runs a fleet. `said` is its first line: isolation, server, notes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self.process = process
        self.said = process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def test_closing_leaves_no_process_mount_or_key(tmp_path: Path, way: Way, wait_until: WaitUntil) -> None:
    before, mounted = descendants(os.getpid()), mounts()
    directory = tmp_path / "demo"
    with start(directory, way) as fleet:
        client = log_in(fleet, "web1")
        stdin, stdout, _ = client.exec_command("echo started; sleep 600 & sleep 600", timeout=20)
        assert stdout.readline() == "started\n"
        during = descendants(os.getpid()) - before
        assert len(during) > 8
    if way[0] is Isolation.NONE:
        # Killed, too; but what a command had started in the background is collected by this machine's init.
        wait_until(lambda: not alive(during), "processes of the fleet outlived it")
    assert not alive(during)
    assert mounts() == mounted
    files = {path.name for path in directory.iterdir()}
    assert files == {".fleetaudit-demo", "inventory.yaml", "known_hosts", "policies"}
    fleet.close()
    client.close()
    del stdin


def test_the_fleet_ends_when_its_controller_is_killed(
    tmp_path: Path, way: Way, wait_until: WaitUntil, running: Callable[[Way], DemoFleet]
) -> None:
    running(way)  # skips where the machine cannot
    mounted = mounts()
    with _controller(tmp_path / "demo", way[0].name, way[1].name) as controller:
        assert controller.said.startswith(f"{way[0].name} {way[1].name}")
        fleet = descendants(controller.process.pid)
        assert len(fleet) > 8
        controller.kill()
        wait_until(lambda: not alive(fleet), "processes of the fleet outlived their controller")
    assert mounts() == mounted


def test_a_host_ends_when_its_acceptor_is_killed(tmp_path: Path, way: Way, wait_until: WaitUntil) -> None:
    before = descendants(os.getpid())
    with start(tmp_path, way) as fleet:
        acceptors = {
            pid for pid, _ in descendants(os.getpid()) - before if "fleetaudit.demo.acceptor" in _command(pid)
        }
        assert len(acceptors) == sum(host.name != "down1" for host in fleet.describe())
        hosts = set().union(*(descendants(pid) for pid in acceptors))
        assert len(hosts) >= 8
        for pid in acceptors:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(hosts), "processes of a host outlived its acceptor")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


# In a process of its own: an exception from a signal handler may leave Python's own objects half made.
INTERRUPTED = """
import signal, sys
from pathlib import Path
from fleetaudit.demo.fleet import DemoFleet

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
try:
    with DemoFleet.start(Path(sys.argv[2])):
        signal.setitimer(signal.ITIMER_REAL, 0)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("seconds", ["0.3", "0.5", "0.8"])
def test_interrupting_the_start_leaves_nothing(seconds: str, tmp_path: Path, wait_until: WaitUntil) -> None:
    folder = tmp_path / "interrupted"
    mark = f"FLEETAUDIT_TEST={folder}"
    command = [sys.executable, "-c", INTERRUPTED, seconds, str(folder)]
    subprocess.run(command, check=True, timeout=60, env=os.environ | dict([mark.split("=", 1)]))
    wait_until(lambda: not _with_environment(mark), "left after an interrupt")
    assert not (folder / "keys").exists()


def _with_environment(mark: str) -> set[int]:
    """Processes that inherited this from whoever started them."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; others test it everywhere")
def test_a_plain_user_gets_isolated_hosts(tmp_path: Path, wait_until: WaitUntil) -> None:
    # Not below tmp_path, whose parents are closed to other users.
    with (
        tempfile.TemporaryDirectory(prefix="fleetaudit-demo-") as home,
        _controller(Path(home), before=_as_nobody(tmp_path, home)) as controller,
    ):
        try:
            assert controller.said.split()[:2] == ["USER_NAMESPACES", "EMBEDDED"]
            fleet = descendants(controller.process.pid)
            services = sorted(program(_argv(pid)) for pid, _ in fleet if "services/" in _command(pid))
            assert services == ["database.py", *["storefront.py"] * 4, "webshop.py"]
        finally:
            controller.kill()
        wait_until(lambda: not alive(fleet), "processes of the fleet outlived their controller")


def _argv(pid: int) -> list[str]:
    return _command(pid).split()


def _as_nobody(stash: Path, home: str) -> tuple[str, ...]:
    """A command prefix that becomes uid 65534, owner of `home`, with this Python and checkout in reach.

    They often lie below a home directory of mode 0700: then, in a mount namespace of the command's own, an
    open directory takes the place of the closed one, with the needed parts bound back into it.
    """
    os.chown(home, 65534, 65534)
    needed = sorted({sys.prefix, sys.base_prefix, str(ROOT)})
    closed = sorted({str(path) for need in needed for path in _closed_parents(Path(need))}, key=len)
    stash.chmod(0o755)
    lines = ["set -e"]
    for number, need in enumerate(needed):
        lines += [f"mkdir -p {stash}/{number}", f"mount --bind '{need}' {stash}/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs '{path}'" for path in closed[:1]]
    for number, need in enumerate(needed):
        if any(Path(path) in Path(need).parents for path in closed):
            lines += [f"mkdir -p '{need}'", f"mount --bind {stash}/{number} '{need}'"]
    become = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all"
    lines.append(f'exec {become} "$@"')
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh")


def _closed_parents(path: Path) -> list[Path]:
    return [parent for parent in path.parents if not parent.stat().st_mode & 0o001]


def test_where_namespaces_are_refused_it_says_so_and_runs_fewer(tmp_path: Path) -> None:
    script = (
        'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    )
    refused = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    with _controller(tmp_path / "demo", before=refused) as controller:
        assert controller.said.split()[:2] == ["NONE", "EMBEDDED"]
        assert "Not with the embedded server in user namespaces" in controller.said
        assert "not isolated" in controller.said
        controller.kill()


def test_what_cannot_be_had_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="No demo fleet can be started"):
        DemoFleet.start(tmp_path, isolation=Isolation.USER_NAMESPACES, server=Server.OPENSSH)


def test_a_directory_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "policies" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("version: 1\n")
    with pytest.raises(DemoError, match="is not empty, and no demo made it"):
        DemoFleet.start(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="cannot be used"):
        DemoFleet.start(tmp_path / "file" / "demo")


def test_a_directory_serves_one_demo_after_another_not_two_at_once(tmp_path: Path) -> None:
    with DemoFleet.start(tmp_path) as first:
        with pytest.raises(DemoError, match="another demo runs"):
            DemoFleet.start(tmp_path)
        assert look(first, "web1").hostname
    (tmp_path / "report.json").write_text("{}")
    with DemoFleet.start(tmp_path) as second:
        first.close()
        assert look(second, "web1").hostname
    assert (tmp_path / "report.json").exists()


def test_any_directory_name_will_do(tmp_path: Path, way: Way) -> None:
    with start(tmp_path / "a b'\"%h \\ ünï", way) as fleet:
        assert look(fleet, "web1").hostname


def test_private_keys_are_readable_by_their_owner_only(any_fleet: DemoFleet) -> None:
    files = [path for path in any_fleet.directory.rglob("*") if path.is_file()]
    keys = [path for path in files if "PRIVATE KEY" in path.read_text()]
    assert len(keys) >= 3
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert {(any_fleet.directory / name).stat().st_mode & 0o777 for name in ("hosts", "keys")} == {0o700}


def test_a_directory_below_run_is_found_inside() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can write below /run")
    directory = Path("/run/fleetaudit-test-demo")
    try:
        with DemoFleet.start(directory) as fleet:
            assert look(fleet, "web1").hostname == "web1"
    finally:
        shutil.rmtree(directory)
