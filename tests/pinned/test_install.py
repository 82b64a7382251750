"""`fleetaudit agent install`: what it writes, where it refuses to, and the rules it prints."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetaudit.agent.installing import install
from fleetaudit.agent.pinned import (
    authorized_keys_line,
    executable,
    executable_sha256,
    sudoers_line,
)
from fleetaudit.errors import ConfigError
from fleetaudit.model import PINNED_AGENT
from tests.conftest import make_key


def fleetaudit(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fleetaudit", "agent", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that is root's alone with all above it, which those of pytest are not: /tmp is everybody's."""
    if os.geteuid() != 0:
        pytest.skip("only root installs a pinned agent")
    folder = Path("/var/lib") / f"fleetaudit-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


# ---------------------------------------------------------------- the file


def test_the_file_is_python_3_6_and_no_name_of_it_means_two_things() -> None:
    source = executable().decode("ascii")
    tree = ast.parse(source, feature_version=(3, 6))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    assert len(names) == len(set(names))
    assert source.startswith("#!/usr/bin/python3 -IS\n")
    assert source.count("\n    main()\n") == 1


def test_printing_it_gives_the_file_whose_digest_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetaudit", "agent", "install", "--output", "-"],
        capture_output=True,
        check=True,
    )
    assert hashlib.sha256(done.stdout).hexdigest() == executable_sha256()
    assert (
        f"sha256:{executable_sha256()} {PINNED_AGENT} "
        in fleetaudit("install", "--print-sudoers", "u").stdout
    )


@pytest.mark.parametrize(
    "python", ["python3", "/usr/bin/../bin/python3", "/usr/bin/env python3", "/" + "x" * 130, "/a\nb"]
)
def test_an_interpreter_that_no_first_line_can_name_is_refused(python: str) -> None:
    with pytest.raises(ValueError, match=r"path"):
        executable(python)


# ---------------------------------------------------------------- its place


def test_it_is_put_there_whole_whatever_the_umask(place: Path) -> None:
    before = os.umask(0o077)
    try:
        install(b"one", str(place / "deep" / "agent"))
        install(b"two", str(place / "deep" / "agent"))
    finally:
        os.umask(before)
    assert (place / "deep" / "agent").read_bytes() == b"two"
    modes = [path.stat().st_mode & 0o7777 for path in (place / "deep", place / "deep" / "agent")]
    assert modes == [0o755, 0o755]
    assert [path.name for path in (place / "deep").iterdir()] == ["agent"]


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        install(b"new", str(path))
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_write_to_is_refused_however_far_above(place: Path, mode: int) -> None:
    (place / "a" / "b").mkdir(parents=True)
    (place / "a").chmod(mode)
    said = refusal(place / "a" / "b" / "agent")
    assert f"{place / 'a'}: it can be written to by others" in said
    assert list((place / "a" / "b").iterdir()) == []


def test_a_folder_or_a_file_of_another_user_is_refused(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "agent").write_bytes(b"old")
    os.chown(place / "a" / "agent", 65534, 65534)
    assert "belongs to uid 65534" in refusal(place / "a" / "agent")
    os.chown(place / "a", 65534, 65534)
    assert f"{place / 'a'}: it belongs to uid 65534" in refusal(place / "a" / "agent")
    assert (place / "a" / "agent").read_bytes() == b"old"


def test_links_and_what_is_no_file_are_refused(place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "agent").symlink_to("/etc/passwd")
    assert f"{place / 'link'}: it is a symbolic link" in refusal(place / "link" / "agent")
    assert "is a symbolic link" in refusal(place / "agent")
    assert "is no regular file" in refusal(place / "real")
    (place / "file").touch()
    assert "is no folder" in refusal(place / "file" / "agent")


def test_the_command_refuses_what_is_everybodys(tmp_path: Path) -> None:
    done = fleetaudit("install", "--output", str(tmp_path / "agent"))
    assert done.returncode == 2
    assert "not root alone would decide what root runs" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["agent", "/a/../b", "/a b", "/a'b", "//a", "/a/"])
def test_a_path_that_some_reader_would_read_otherwise_is_refused(path: str) -> None:
    done = fleetaudit("install", "--output", path)
    assert done.returncode == 2
    assert "no absolute path" in done.stderr
    with pytest.raises(ValueError, match="no absolute path"):
        sudoers_line("audit", path, "0" * 64)


# ---------------------------------------------------------------- the rules


@pytest.mark.parametrize("user", ["ALL", "%ALL", "ADMINS"])
def test_nobody_gets_a_rule_for_everybody(user: str) -> None:
    with pytest.raises(ValueError, match="could stand for others than one user"):
        sudoers_line(user, PINNED_AGENT, "0" * 64)


@pytest.mark.parametrize("user", ["", "a b", "ALL=(ALL", "a,b", "#0", "a\nb", "-u", "%"])
def test_what_is_no_user_gets_no_rule(user: str) -> None:
    with pytest.raises(ValueError, match="no user name"):
        sudoers_line(user, PINNED_AGENT, "0" * 64)


def test_the_key_runs_the_agent_alone_or_by_sudo(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key").strip()
    assert authorized_keys_line(public, "/x/agent", sudo=False) == f'restrict,command="/x/agent" {public}'
    done = fleetaudit(
        "install", "--print-authorized-keys", str(tmp_path / "key.pub"), "--print-sudoers", "audit"
    )
    assert done.stdout.splitlines() == [
        f'audit ALL=(root) NOPASSWD: sha256:{executable_sha256()} {PINNED_AGENT} ""',
        f'restrict,command="sudo -n -u root -- {PINNED_AGENT}" {public}',
    ]


def test_what_is_no_public_key_gets_no_line(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key").strip()
    private = (tmp_path / "key").read_text()
    bad = [
        "",
        "ssh-ed25519",
        private,
        f"no-pty {public}",
        f"{public}\n{public}",
        public.replace("ed25519", "rsa", 1),
    ]
    for text in bad:
        with pytest.raises(ValueError, match="not one public key"):
            authorized_keys_line(text, PINNED_AGENT, sudo=False)
    done = fleetaudit("install", "--print-authorized-keys", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "name a .pub file" in done.stderr
