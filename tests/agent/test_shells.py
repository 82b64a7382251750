"""What is a shell: by what it executes, under whatever name. Every shell is the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.agent.looking import Start, hold, inside, take_census, told_of

NAMES = ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh")
SHELLS = {name: Path(path).resolve() for name in NAMES if (path := shutil.which(name))}
BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox").resolve()
READ = {"tcsh": "set x = $<"}  # how a script waits for its stdin to end; elsewhere: read
# More than the agent compares by content: what it still knows it knows by the file's identity.
TOO_LARGE = 5 << 20
Programs = Mapping[str, tuple[str | Path, ...]]


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shells and tmux keep files at home, and read what they find there."""
    for name in ("HOME", "ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "TMUX_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("ENV", raising=False)


def verdicts(start: Start, programs: Programs) -> dict[str, object]:
    """By name, what the agent says of `shell`, once every program runs what it was meant to run."""
    found = told_of(hold(start, programs))
    return {name: process.get("shell", "unknown") for name, process in found.items()}


def every(value: bool, names: Mapping[str, object]) -> dict[str, bool]:
    return dict.fromkeys(names, value)


def copy_to(folder: Path, name: str, program: str | Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(program, folder / name))


def loader_of(program: str | Path) -> str:
    """The dynamic loader that a program asks for."""
    lines = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    (loader,) = [line.split()[0] for line in lines.splitlines() if "ld-linux" in line or "ld-musl" in line]
    return loader


def test_the_shells_are_installed() -> None:
    missing = [name for name in (*NAMES, "busybox", "tmux") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed, so not tested here: {', '.join(missing)}")


# ---------------------------------------------------------------- every shell


def as_itself(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return path, name


def as_login_shell(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return path, f"-{name}"


def as_worker(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return path, "nginx: worker process"


def as_copy(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return copy_to(folder / name, "httpd", path), "httpd"


def as_script(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    script = folder / f"serve-{name}"
    script.write_text(f"#!{path}\n{READ.get(name, 'read x')}\n")
    script.chmod(0o755)
    return script, script


def as_loaded(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return loader_of(path), "ld.so", "--argv0", "nginx", path


def as_loaded_copy(name: str, path: Path, folder: Path) -> tuple[str | Path, ...]:
    return loader_of(path), "/usr/sbin/nginx", copy_to(folder / name, "httpd", path)


@pytest.mark.parametrize(
    "disguise",
    [as_itself, as_login_shell, as_worker, as_copy, as_script, as_loaded, as_loaded_copy],
    ids=lambda disguise: str(disguise.__name__),
)
def test_a_shell_is_a_shell(
    start: Start, tmp_path: Path, disguise: Callable[[str, Path, Path], tuple[str | Path, ...]]
) -> None:
    programs = {name: disguise(name, path, tmp_path) for name, path in SHELLS.items()}
    assert verdicts(start, programs) == every(True, SHELLS)


def test_a_loaded_shell_that_cannot_be_found_any_more_is_not_called_harmless(
    start: Start, tmp_path: Path, wait_until: Callable[[Callable[[], bool], str], None]
) -> None:
    relative = Path(os.path.relpath(copy_to(tmp_path / "relative", "httpd", SHELLS["bash"])))
    deleted = copy_to(tmp_path / "deleted", "httpd", SHELLS["bash"])
    loader = loader_of(SHELLS["bash"])
    facts = hold(start, {path.parent.name: (loader, "ld.so", path) for path in (relative, deleted)})
    loaded = Path(f"/proc/{facts['pids']['deleted']}/maps")
    wait_until(lambda: str(deleted) in loaded.read_text(), "it was not loaded")
    deleted.unlink()
    assert {name: found.get("shell", "unknown") for name, found in told_of(facts).items()} == {
        "relative": "unknown",
        "deleted": "unknown",
    }


def test_what_is_told_of_a_shell_and_its_script(start: Start, tmp_path: Path) -> None:
    scripts = {name: as_script(name, path, tmp_path) for name, path in SHELLS.items()}
    for name, found in told_of(hold(start, scripts)).items():
        told = (found["exe"], found["exe_deleted"], found["exe_verified"], found["comm"])
        assert told == (str(SHELLS[name]), False, True, f"serve-{name}")
        assert found["argv"][-1] == f"{tmp_path}/serve-{name}"


def test_a_shell_that_was_deleted_while_it_runs(start: Start, tmp_path: Path) -> None:
    programs = {name: as_copy(name, path, tmp_path) for name, path in SHELLS.items()}
    facts = hold(start, programs)
    for path, *_ in programs.values():
        Path(path).unlink()
    for name, found in told_of(facts).items():
        assert (found["shell"], found["exe_deleted"]) == (True, True), name
        assert found["exe"] == str(programs[name][0]), "without the kernel's mark"
        assert "exe_verified" not in found


# A link lies on its file's own file system, so each shell moves to one where links may be made.
LINKS = """
folder, size, *paths = WHERE
subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
for place, path in enumerate(paths):
    os.mkdir(folder + "/%d" % place)
    real, link = [folder + "/%d/" % place + name for name in ("real", "httpd")]
    subprocess.run(["cp", path, real], check=True)
    os.truncate(real, int(size))
    os.link(real, link)
    subprocess.run(["mount", "--bind", real, path], check=True)
"""


def test_a_hard_link_is_known_by_the_file(start: Start, tmp_path: Path) -> None:
    paths = sorted({str(path) for path in SHELLS.values()})
    place = {path: number for number, path in enumerate(paths)}
    links = {name: tmp_path / str(place[str(path)]) / "httpd" for name, path in SHELLS.items()}
    setup = LINKS.replace("WHERE", repr([str(tmp_path), str(TOO_LARGE), *paths]))
    facts = hold(
        start, {name: (link, "httpd") for name, link in links.items()}, setup, prefix=["unshare", "-m"]
    )
    found = told_of(facts, inside(facts))
    assert {name: process.get("shell", "unknown") for name, process in found.items()} == every(True, SHELLS)
    assert {name: process["exe"] for name, process in found.items()} == {
        name: str(link) for name, link in links.items()
    }
    assert all(process["exe_verified"] for process in found.values())


def test_a_path_of_another_mount_namespace_hides_no_shell(start: Start, tmp_path: Path) -> None:
    """Seen from outside, the same path is another file, so the content tells."""
    mount = "subprocess.run(['mount', '--bind', path, '/bin/cat'], check=True)\n"
    setups = {name: f"path = {str(path)!r}\n{mount}" for name, path in SHELLS.items() if name != "dash"}
    for name, setup in setups.items():
        facts = hold(start, {name: ("/bin/cat", "cat")}, setup, prefix=["unshare", "-m"])
        found = told_of(facts)[name]
        assert (found["exe"], found["shell"]) == (os.path.realpath("/bin/cat"), True), name
        assert found["exe_verified"] is False


# ---------------------------------------------------------------- what is none


def test_names_and_words_make_no_shell(start: Start, tmp_path: Path) -> None:
    cat = Path("/bin/cat").resolve()
    programs: Programs = {
        **{f"argv0 -{name}": (cat, f"-{name}") for name in NAMES},
        **{f"copy, argv0 {name}": (copy_to(tmp_path / name, "server", cat), name) for name in NAMES},
        "argument": (cat, "cat", "-", "/bin/bash"),
        "loaded": (loader_of(cat), "ld.so", "--argv0", "bash", cat),
        "loaded, another argument": (loader_of(cat), "sh", cat, "-", "/bin/bash"),
    }
    assert verdicts(start, programs) == every(False, programs)


def test_what_a_shell_became_is_no_shell(
    start: Start, wait_until: Callable[[Callable[[], bool], str], None]
) -> None:
    facts = hold(
        start,
        {name: (path, name, "-c", "exec cat") for name, path in SHELLS.items()}
        | {"bash, one command": (SHELLS["bash"], "bash", "-c", "cat")},
    )
    cat = Path("/bin/cat").resolve()
    programs = [Path(f"/proc/{pid}/exe") for pid in facts["pids"].values()]
    wait_until(lambda: all(program.readlink() == cat for program in programs), "they did not become cat")
    assert {found["shell"] for found in told_of(facts).values()} == {False}


def test_etc_shells_names_shells_and_tmux(start: Start, tmp_path: Path) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("tmux is not installed")
    ours = copy_to(tmp_path, "oursh", "/bin/bash")
    os.truncate(ours, TOO_LARGE)
    listed = tmp_path / "shells"
    listed.write_text(f"# /etc/shells\n/bin/bash\n{tmux}\n{os.path.realpath(tmux)}\n{ours}\n")
    linked = tmp_path / "httpd"
    os.link(ours, linked)
    mount = f"subprocess.run(['mount', '--bind', {str(listed)!r}, '/etc/shells'], check=True)"
    programs: Programs = {
        "listed": (ours, "server"),
        "linked": (linked, "httpd"),
        "tmux": (tmux, "tmux", "-L", "fleetaudit", "-f", "/dev/null", "-D"),
    }
    facts = hold(start, programs, mount, prefix=["unshare", "-m"])
    found = told_of(facts, inside(facts))
    assert {name: process.get("shell", "unknown") for name, process in found.items()} == {
        "listed": True,
        "linked": True,
        "tmux": False,
    }


# ---------------------------------------------------------------- programs that are many


def test_busybox_is_its_applet(start: Start, tmp_path: Path) -> None:
    copied = copy_to(tmp_path, "httpd", BUSYBOX)
    linked = tmp_path / "ash"
    linked.symlink_to(BUSYBOX)
    script, by_link = tmp_path / "script", tmp_path / "by-link"
    for path, interpreter in ((script, f"{BUSYBOX} sh"), (by_link, str(linked))):
        path.write_text(f"#!{interpreter}\nread x\n")
        path.chmod(0o755)
    shells: Programs = {
        "busybox sh": (BUSYBOX, "busybox", "sh"),
        "ash": (BUSYBOX, "ash"),
        "-sh": (BUSYBOX, "-sh"),
        "/bin/sh": (BUSYBOX, "/bin/sh"),
        "copy as sh": (copied, "sh"),
        "copy as busybox ash": (copied, "busybox", "ash"),
        "script": (script, script),
        "script by link": (by_link, by_link),
    }
    others: Programs = {
        "busybox cat": (BUSYBOX, "busybox", "cat"),
        "busybox sleep": (BUSYBOX, "busybox", "sleep", "60"),
        "cat": (BUSYBOX, "cat"),
        "copy as cat": (copied, "cat"),
        "copy as busybox sleep": (copied, "busybox", "sleep", "60"),
        "cat of a file named sh": (BUSYBOX, "busybox", "cat", "-", "sh"),
    }
    assert verdicts(start, {**shells, **others}) == every(True, shells) | every(False, others)


def test_a_deleted_busybox_is_its_applet_still(start: Start, tmp_path: Path) -> None:
    copied = copy_to(tmp_path, "httpd", BUSYBOX)
    facts = hold(start, {"sh": (copied, "sh"), "cat": (copied, "cat")})
    copied.unlink()
    assert {name: found["shell"] for name, found in told_of(facts).items()} == {"sh": True, "cat": False}


@pytest.mark.parametrize("name", ["busybox", "toybox", "ld-2.x"])
def test_a_copied_shell_is_one_whatever_trusted_name_it_takes(
    start: Start, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / name
    shutil.copy(Path(shutil.which("bash") or "/bin/bash").resolve(), copy)
    facts = hold(start, {name: [str(copy), "nginx: worker"]})
    assert take_census()["processes"][str(facts["pids"][name])]["shell"] is True
