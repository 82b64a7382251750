"""The agent for hosts without Python, under dash and under busybox's sh and tools, beside agent.py."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.agent.launch import read_frame
from fleetaudit.agent.payload import script, sh_script
from fleetaudit.conversation import Reply
from fleetaudit.derive import derive
from fleetaudit.model import HostStatus
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.snapshot import decode_line
from tests.build import policy

TOOLS = ("awk", "cat", "ls", "od", "readlink", "tr", "sha256sum", "uname", "date", "cmp")
# Its first 15 bytes are what ss shows of it, which other tests read meanwhile.
ODD = b'of-an-odd-name-a"b\\c\nd\xff' + "é€😀".encode()


@dataclass(frozen=True)
class Scene:
    """Listeners of this process, who else holds them, and what each agent says of them."""

    shared: int  # inode: held by this process and by a shell
    copied: int  # held by a shell that goes by another name
    odd: int  # held by a program whose name is hardly one
    path: str
    shell: int
    disguised: int
    named: int
    answers: dict[str, dict[str, Any]]


def ask(arguments: list[str], program: bytes, path: str = os.defpath) -> bytes:
    """The document that an agent sends, out of its frame."""
    done = subprocess.run(
        arguments, input=program, capture_output=True, check=False, env={"PATH": path}, timeout=120
    )
    assert done.stderr == b""
    return read_frame("bare", Reply(done.returncode, done.stdout, done.stderr))


def holder(stack: ExitStack, program: bytes, listener: socket.socket) -> int:
    """A program that sleeps and holds the listener."""
    process = subprocess.Popen(
        [program, "300"] if program.endswith(ODD) else [program, "-c", "read line; :"],
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    stack.callback(process.stdin.close)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Everything below at once: each agent is run one time."""
    folder = tmp_path_factory.mktemp("scene")
    tools = folder / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to("/usr/bin/busybox")
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        shared, copied, odd = listeners
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(folder / "with space.sock"))
        unix.listen()
        nginx = bytes(folder / "nginx")
        shutil.copy("/bin/dash", os.fsdecode(nginx))
        strange = bytes(folder) + b"/" + ODD
        shutil.copy("/bin/sleep", os.fsdecode(strange))
        inode = os.fstat(shared.fileno()).st_ino
        # What `ls -l` shows of these names looks like descriptors, of this process and of others.
        for number, name in enumerate(
            (
                f"x\nlrwx------ 1 0 0 64 Jan  1 00:00 977 -> socket:[{inode}]",
                f"y\n/proc/1/fd:\nlrwx------ 1 root root 64 Jan  1 00:00 978 -> socket:[{inode}]",
            )
        ):
            place = folder / f"forged{number}" / name.replace("/", "\u2215")
            place.parent.mkdir()
            stack.enter_context(place.open("w"))
        pids = [
            holder(stack, b"/bin/dash", shared),
            holder(stack, nginx, copied),
            holder(stack, strange, odd),
        ]
        answers = {
            "walk": ask([sys.executable, "-I", "-S", "-"], script()),
            "dash": ask(["/bin/dash", "-s"], sh_script()),
            "busybox": ask(["/usr/bin/busybox", "sh", "-s"], sh_script(), f"{tools}"),
        }
        inodes = [os.fstat(item.fileno()).st_ino for item in listeners]
        yield Scene(
            shared=inodes[0],
            copied=inodes[1],
            odd=inodes[2],
            path=str(folder / "with space.sock"),
            shell=pids[0],
            disguised=pids[1],
            named=pids[2],
            answers={name: json.loads(body) for name, body in answers.items()},
        )


SHELLS = ("dash", "busybox")


def of(document: dict[str, Any], inode: int) -> dict[str, Any]:
    (found,) = (item for item in document["sockets"] if item["inode"] == inode)
    assert isinstance(found, dict)
    return found


def owners(document: dict[str, Any], inode: int) -> dict[int, list[int]]:
    return {owner["pid"]: owner["fds"] for owner in of(document, inode)["owners"]}


@pytest.mark.parametrize("name", SHELLS)
def test_it_finds_every_owner_and_no_other(scene: Scene, name: str) -> None:
    walk, mine = scene.answers["walk"], scene.answers[name]
    for inode in (scene.shared, scene.copied, scene.odd):
        assert owners(mine, inode) == owners(walk, inode)
    assert set(owners(mine, scene.shared)) == {os.getpid(), scene.shell}


@pytest.mark.parametrize("name", SHELLS)
def test_what_both_agents_see_is_the_same(scene: Scene, name: str) -> None:
    walk, mine = scene.answers["walk"], scene.answers[name]
    for inode in (scene.shared, scene.copied, scene.odd):
        theirs = of(walk, inode)
        for key, value in of(mine, inode).items():
            if key != "owners":
                assert value == theirs[key], key
    for pid in map(str, (os.getpid(), scene.shell, scene.disguised, scene.named, 1)):
        for key, value in mine["processes"][pid].items():
            assert value == walk["processes"][pid].get(key, value), (pid, key)
    for key in ("hostname", "machine_id", "boot_id", "kernel", "arch", "os"):
        assert mine["host"][key] == walk["host"][key]
    assert mine["agent"]["mode"] == "sh"


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_is_one_whatever_it_is_called(scene: Scene, name: str) -> None:
    processes = scene.answers[name]["processes"]
    assert processes[str(scene.shell)]["shell"] is True
    assert processes[str(scene.disguised)]["exe"].endswith("/nginx")
    assert processes[str(scene.disguised)]["shell"] is True
    assert processes[str(scene.named)]["shell"] is False


@pytest.mark.parametrize("name", SHELLS)
def test_texts_are_escaped_as_by_the_other_agent(scene: Scene, name: str) -> None:
    exe = scene.answers[name]["processes"][str(scene.named)]["exe"]
    assert exe == scene.answers["walk"]["processes"][str(scene.named)]["exe"]
    assert exe.endswith('/of-an-odd-name-a"b\\c\\x0ad\\xffé€😀')
    paths = {item["path"] for item in scene.answers[name]["sockets"]}
    assert scene.path in paths


@pytest.mark.parametrize("name", SHELLS)
def test_it_says_what_it_did_not_see_and_acquits_nobody(scene: Scene, name: str) -> None:
    document = scene.answers[name]
    codes = {gap["code"] for gap in document["coverage"]["gaps"]}
    assert {"hidden_holders", "netns_not_entered"} <= codes
    outcome = derive(decode_line(json.dumps(document).encode()))
    assert outcome.status is HostStatus.PARTIAL
    rules = "- {id: shells, deny_owners: [{shell: true}]}\n- {id: anybody, allow_owners: [{comm: '*'}]}"
    verdicts = {result.rule: result.verdict.value for result in evaluate(outcome, [policy(rules)]).results}
    assert verdicts == {"shells": "fail", "anybody": "unknown"}


@pytest.mark.parametrize("missing", ["sha256sum", "awk", "od"])
def test_what_lacks_is_named(tmp_path: Path, missing: str) -> None:
    for tool in {*TOOLS} - {missing}:
        (tmp_path / tool).symlink_to("/usr/bin/busybox")
    program = sh_script().replace(b":/usr/sbin:/usr/bin:/sbin:/bin", b"")
    done = subprocess.run(
        ["/usr/bin/busybox", "ash", "-s"],
        input=program,
        capture_output=True,
        check=False,
        env={"PATH": str(tmp_path)},
    )
    # A busybox may run its own applets without looking for them: then nothing lacks.
    if done.returncode == 0:
        read_frame("bare", Reply(0, done.stdout, b""))
        return
    assert done.returncode == 127
    assert done.stdout == f"FLEETAUDIT-NO-INTERPRETER bare no Python, and no {missing}\n".encode()
