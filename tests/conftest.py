"""What several parts' tests share: a real OpenSSH server on loopback, and keys for it."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetaudit.model import Host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything that the suite can ask for is installed, a skipped test is a failure."""
    report = yield
    if report.skipped and os.environ.get("FLEETAUDIT_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


# Tests that take a census of this machine, or hold what such a census finds.
_OF_THE_WHOLE_MACHINE = frozenset({"agent", "demo", "e2e"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where tests run side by side, those of the whole machine take turns: one would find the other's."""
    if item.path.parent.name not in _OF_THE_WHOLE_MACHINE:
        return (yield)
    with Path(__file__).open() as turn:  # a file that every process of the run has
        fcntl.flock(turn, fcntl.LOCK_EX)
        return (yield)


@pytest.fixture(autouse=True, scope="session")
def state_of_our_own() -> Iterator[None]:
    """Runs of one state directory do not overlap: tests keep away from the user's; likewise settings."""
    with (
        tempfile.TemporaryDirectory(prefix="fleetaudit-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_STATE_HOME", directory)
        patch.setenv("XDG_CONFIG_HOME", f"{directory}/config")
        yield


@dataclass(frozen=True)
class Sshd:
    """A running sshd. `known_hosts` has its key, `key` logs in, `host()` is the target."""

    port: int
    directory: Path
    address: str = "127.0.0.1"

    @property
    def key(self) -> str:
        return str(self.directory / "login")

    @property
    def known_hosts(self) -> str:
        return str(self.directory / "known_hosts")

    def host(self, name: str = "web1") -> Host:
        return Host(name, self.address, self.port, user=getpass.getuser(), private_key=self.key)


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """A fresh key pair; returns the public line."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.with_name(f"{path.name}.pub").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes(marker: str) -> list[int]:
    """Processes of the machine that carry the marker in their command line, but this one."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@contextmanager
def running_sshd(directory: Path, *settings: str) -> Iterator[Sshd]:
    """sshd in `directory` with more settings; a first value given here wins over the defaults."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("OpenSSH's sshd is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own demand when run by root
    sshd = Sshd(free_port(), directory)
    (directory / "authorized").write_text(make_key(directory / "login"))
    kind, encoded, *_ = make_key(directory / "host_ed25519").split()
    Path(sshd.known_hosts).write_text(f"[{sshd.address}]:{sshd.port} {kind} {encoded}\n")
    config = directory / "config"
    defaults = (
        f"ListenAddress {sshd.address}:{sshd.port}",
        f"HostKey {directory}/host_ed25519",
        f"AuthorizedKeysFile {directory}/authorized",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 200",
        "SetEnv SHLVL=9",  # bash then reads no start-up files
    )
    config.write_text("\n".join([*settings, *defaults]) + "\n")
    log = directory / "log"
    process = subprocess.Popen([program, "-D", "-E", str(log), "-f", str(config)])
    try:
        _wait_until(lambda: _answers(sshd) or process.poll() is not None, "sshd does not listen")
        assert process.poll() is None, log.read_text()
        yield sshd
    finally:
        process.terminate()
        process.wait(10)


def _answers(sshd: Sshd) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((sshd.address, sshd.port)) == 0


def _wait_until(condition: Callable[[], bool], otherwise: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(otherwise)
        time.sleep(0.01)


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """One sshd for all tests that need nothing special of it."""
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as directory, running_sshd(Path(directory)) as it:
        yield it


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts an sshd of one's own: `start_sshd("AllowTcpForwarding no", ...)`, once per test."""
    with ExitStack() as stack:
        yield lambda *settings: stack.enter_context(running_sshd(tmp_path, *settings))


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], str], None]:
    """Polls a condition for at most ten seconds, then fails with the message."""
    return _wait_until
