"""Hosts without Python are asked by sh, in the same connection: real sshd, roots with nothing but busybox."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build, build_sh
from fleetaudit.errors import HostError, InterpreterError
from fleetaudit.library import collect
from fleetaudit.model import Become, Host, HostStatus, Secret
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.session import Options
from tests.agent.test_launch import hold
from tests.build import policy
from tests.conftest import Sshd, running_sshd

NONCE = "n0nce-1"
SUDO = """\
#!/bin/sh
while [ "$1" != -- ]; do [ "$1" != -p ] || prompt=$2; shift; done
shift
printf %s "$prompt" >&2; read -r word; [ "$word" = sesame ] || { echo "Sorry, try again." >&2; exit 1; }
exec "$@"
"""


def bare_root(place: Path, *, without: str | None = None, busybox: str = "/usr/bin/busybox") -> Path:
    """A root file system of busybox and the libraries it is linked with."""
    for folder in ("bin", "dev", "proc", "etc", "tmp"):
        (place / folder).mkdir(parents=True)
    shutil.copy(busybox, place / "bin/busybox")
    linked = subprocess.run(["ldd", busybox], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        (place / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place / library[1:])
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in set(applets) - {"busybox", without}:
        (place / "bin" / applet).symlink_to("busybox")
    return place


def within(root: Path) -> str:
    """The setting of sshd by which every command runs in that root, with mounts that nobody else has."""
    mounts = f"mount --bind /dev {root}/dev && mount -t proc proc {root}/proc"
    inside = f'{mounts} && exec chroot {root} /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
    return f"ForceCommand PATH=/bin:/usr/bin:/usr/sbin:/sbin exec unshare -m sh -c {shlex.quote(inside)}"


def options(sshd: Sshd, **more: object) -> Options:
    return Options(known_hosts=[sshd.known_hosts], ssh_config="none", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_a_host_with_busybox_alone_is_audited(tmp_path: Path, transport: str) -> None:
    root = bare_root(tmp_path / "root")
    folder = tmp_path / "sshd"
    folder.mkdir()
    with (
        running_sshd(folder, within(root)) as sshd,
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            ["/bin/dash", "-c", "read line"], stdin=subprocess.PIPE, pass_fds=[listener.fileno()]
        ),
    ):
        host = replace(sshd.host(), transport=transport)
        (outcome,) = collect([host], options=options(sshd))
        assert outcome.snapshot is not None, outcome.detail
        assert (outcome.status, outcome.snapshot.agent.mode) == (HostStatus.PARTIAL, "sh")
        assert outcome.host == "web1"
        port = listener.getsockname()[1]
    rules = f"""
- {{id: shells, listeners: {{port: {port}}}, deny_owners: [{{shell: true}}]}}
- {{id: anybody, listeners: {{port: {port}}}, allow_owners: [{{comm: '*'}}]}}
"""
    verdicts = {result.rule: result.verdict.value for result in evaluate(outcome, [policy(rules)]).results}
    assert verdicts == {"shells": "fail", "anybody": "unknown"}
    assert not [*(root / "tmp").iterdir(), *(root / "proc").iterdir()]


def talk(path: Path, host: Host) -> str:
    """The mode of the agent that answered."""
    conversation = AgentConversation(
        host,
        NONCE,
        build(AgentConfig(NONCE)),
        sh_payload=partial(build_sh, AgentConfig(NONCE, budget_seconds=0.5)),
    )
    reply = hold(command(host, NONCE), conversation, str(path / "sh"), str(path))
    mode: str = json.loads(read_frame(NONCE, reply))["agent"]["mode"]
    return mode


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with busybox and a sudo that wants a password."""
    place = bare_root(tmp_path_factory.mktemp("root")) / "bin"
    (place / "sudo").unlink(missing_ok=True)
    (place / "sudo").write_text(SUDO)
    (place / "sudo").chmod(0o755)
    return place


def test_the_user_is_changed_first(path: Path) -> None:
    assert talk(path, Host("h", "h", become=Become("sudo", "auditor", Secret("sesame")))) == "sh"


def test_an_interpreter_that_was_named_is_not_replaced(path: Path) -> None:
    with pytest.raises(InterpreterError, match=r"no Python >= 3\.6 found \(set ansible_python_interpreter"):
        talk(path, Host("h", "h", interpreter="/opt/python3"))


@pytest.mark.parametrize("method", ["su", "doas"])
def test_what_asks_on_a_terminal_needs_python(path: Path, method: str) -> None:
    with pytest.raises(
        InterpreterError, match=f"{method} with a password needs Python 3.6 there, or use sudo"
    ):
        talk(path, Host("h", "h", become=Become(method, "auditor", Secret("sesame"))))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, r"no Python >= 3\.6 found"),
        (
            lambda: b"echo FLEETAUDIT-NO-INTERPRETER n0nce-1 no Python, and no tr; exit 127\n",
            "no Python, and no tr",
        ),
        (lambda: b"false\n", r"no Python >= 3\.6 found"),
        (lambda: build_sh(AgentConfig(NONCE)).replace(b"fields E end", b""), "half of one"),
        (lambda: build_sh(AgentConfig(NONCE)).replace(b"fields S", b": S"), "half of one"),
        (lambda: build_sh(AgentConfig(NONCE)).replace(b"FNR == 1", b"{ exit 3 } FNR == 1"), "half of one"),
    ],
    ids=["nothing sent", "a tool lacks", "no answer", "ended early", "rows lost", "a list cut short"],
)
def test_no_answer_is_a_failure(path: Path, payload: Callable[[], bytes] | None, message: str) -> None:
    if payload is not None and b"fleetaudit" in payload():
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket()
    host = Host("h", "h")
    conversation = AgentConversation(host, NONCE, build(AgentConfig(NONCE)), sh_payload=payload)
    with listener, pytest.raises(HostError, match=message):
        read_frame(NONCE, hold(command(host, NONCE), conversation, str(path / "sh"), str(path)))
