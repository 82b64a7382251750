"""Whole audits with every kind of password, by real sshd and sudo: run as root in a mount namespace.

Prints one JSON object: how each ended, and where a secret was seen that may not be there. /etc is a copy.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import pty
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleetaudit.report import RENDERERS
from tests.conftest import Sshd, running_sshd

USER = "fa-secretive"
# Each has a core that no quoting changes, between characters that each reader of a line treats otherwise.
SSH, BECOME, WRONG = (f"{core} '\"$(x)\\%é&<" for core in ("Zq7sshword", "Zq7becomeword", "Zq7wrongword"))
SECRETS = (SSH, BECOME, WRONG)
VARIABLE, SSH_VARIABLE = "FLEETAUDIT_BECOME_PASSWORD", "FLEETAUDIT_PASSWORD"
Found = dict[str, object]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["cp", "-a", "/etc", folder], check=True)
        subprocess.run(["mount", "--bind", str(folder / "etc"), "/etc"], check=True)
        try:
            sys.stdout.write(json.dumps(everything(folder)))
        finally:
            subprocess.run(["umount", "/etc"], check=True)


def everything(folder: Path) -> dict[str, Found]:
    subprocess.run(["useradd", "-M", "-d", "/", "-s", "/bin/sh", USER], check=True)
    subprocess.run(["chpasswd"], input=f"{USER}:{SSH}\nroot:{BECOME}\n".encode(), check=True)
    rules = Path("/etc/sudoers.d/fleetaudit-secretive")
    rules.write_text(f"Defaults rootpw,timestamp_timeout=0\n{USER} ALL=(root) ALL\n")  # root's own is another
    rules.chmod(0o440)
    Path("/etc/doas.conf").write_text(f"permit {USER} as root\n")
    (folder / "sshd").mkdir()
    with running_sshd(folder / "sshd", "PasswordAuthentication yes", "LogLevel DEBUG3") as sshd:
        ways = Ways(folder, sshd)
        su, doas = {"ansible_become_method": "su"}, {"ansible_become_method": "doas"}
        stored = importlib.util.find_spec("keyring") is not None  # the dev extra has it
        return {
            "su": ways.audit("su", su, variable=BECOME, ssh_variable=SSH),
            "doas": ways.audit(
                "doas",  # asks for the user's own password
                doas,
                ssh_command=SSH,
                keyring=SSH if stored else None,
                command=None if stored else SSH,
            ),
            "wrong su": ways.audit("wrong_su", {**su, "ansible_password": SSH}, variable=WRONG),
            "terminal": ways.audit("terminal", {}, "-k", terminal=(SSH,), command=BECOME),
            "environment": ways.audit("environment", {"ansible_password": SSH}, variable=BECOME),
            "both asked": ways.audit("both_asked", {}, "-k", "-K", terminal=(SSH, BECOME)),
            "wrong become": ways.audit("wrong_become", {"ansible_password": SSH}, variable=WRONG),
            "wrong ssh": ways.audit(
                "wrong_ssh", {"ansible_password": WRONG, "ansible_become_password": BECOME}
            ),
        }


class Ways:
    """Audits of one host, each in a folder of its own."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self._folder, self._sshd = folder, sshd

    def audit(
        self,
        name: str,
        variables: Mapping[str, str],
        *options: str,
        terminal: tuple[str, ...] = (),
        command: str | None = None,
        variable: str | None = None,
        ssh_command: str | None = None,
        ssh_variable: str | None = None,
        keyring: str | None = None,
    ) -> Found:
        """One audit at the highest verbosity, everything written that can be; then all of it is searched."""
        given, written = self._folder / f"{name}.given", self._folder / f"{name}.written"
        given.mkdir()
        written.mkdir()
        arguments = [*self._inputs(given, variables), *options, *_outputs(written)]
        for option, word in (("--become-pass-command", command), ("--pass-command", ssh_command)):
            if word is not None:
                (given / option[2:]).write_text(word + "\n")
                arguments += [option, shlex.join(["cat", str(given / option[2:])])]
        stated = {"HOME": str(written), VARIABLE: variable, SSH_VARIABLE: ssh_variable}
        if keyring is not None:
            (given / "stored").write_text(keyring)
            arguments += ["--become-pass-keyring", f"{given / 'stored'}:audit"]
            stated["PYTHON_KEYRING_BACKEND"] = "tests.become.stored.Stored"
        environment = os.environ | {name: word for name, word in stated.items() if word is not None}
        with watching(written / "state") as seen:
            status, tty = run(arguments, environment, written, terminal)
            spared = seen.pop("spared")
        report = json.loads((written / "report.json").read_text())
        searched = {"tty": tty, "sshd.log": (self._sshd.directory / "log").read_bytes()}
        searched |= {str(path): path.read_bytes() for path in written.rglob("*") if path.is_file()}
        searched |= _kept(written / "history.db")
        return {
            "exit": status,
            "host": report["hosts"][0]["status"],
            "detail": report["hosts"][0]["detail"],
            "files": sorted(Path(path).name for path, content in searched.items() if content),
            "leaks": [
                *sorted(seen["leaks"]),
                *(path for path, content in searched.items() if tells(content)),
            ],
            "sudo_seen": bool(seen["sudo"]),
            "journal_seen": seen["journal"] > {"lock"},
            "own_environment_seen": bool(spared),
        }

    def _inputs(self, given: Path, variables: Mapping[str, str]) -> list[str]:
        inventory = given / "inventory.yaml"
        reached = {"ansible_host": self._sshd.address, "ansible_port": self._sshd.port, "ansible_user": USER}
        hosts = {"web1": {**reached, "ansible_become": True, **variables}}
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        policies = Path(__file__).parents[2] / "policies" / "ssh.yaml"
        return ["-i", str(inventory), "-p", str(policies), "--known-hosts", self._sshd.known_hosts]


def _outputs(written: Path) -> list[str]:
    formats = (name for name in RENDERERS if name != "xlsx")  # which is packed, and has what csv has
    outputs = [f"{name}={written / f'report.{name}'}" for name in formats]
    words = [word for output in outputs for word in ("-o", output)]
    kept = ["--state", str(written / "state"), "--retry-file", str(written / "retry")]
    kept += ["--store", str(written / "history.db")]
    kept += ["--snapshots", str(written / "snapshots.jsonl"), "--argv", "full"]
    return [*words, *kept, "-vvv", "--progress", "json", "--include-pass", "--ssh-config", "none"]


def _kept(store: Path) -> dict[str, bytes]:
    """What is packed in the history, unpacked."""
    found: dict[str, bytes] = {}
    with contextlib.closing(sqlite3.connect(store)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):  # noqa: S608  (its own)
                for value in row:
                    with contextlib.suppress(zlib.error, TypeError):  # not packed
                        found[f"history.db {table} {len(found)}"] = zlib.decompress(value)
    return found


def run(
    arguments: list[str], environment: Mapping[str, str], written: Path, typed: tuple[str, ...]
) -> tuple[int, bytes]:
    """The exit status, and all that the terminal showed; each of `typed` answers one prompt."""
    controller, terminal = pty.openpty()
    line = [
        "setsid",
        "--ctty",
        "--wait",
        sys.executable,
        "-X",
        "dev",
        "-m",
        "fleetaudit",
        "audit",
        *arguments,
    ]
    shown = b""
    with (written / "stdout").open("wb") as out, (written / "stderr").open("wb") as err:
        process = subprocess.Popen(line, stdin=terminal, stdout=out, stderr=err, env=environment)
        os.close(terminal)
        os.set_blocking(controller, False)
        answers, end = list(typed), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):  # nothing said yet, or nobody there any more
                shown += os.read(controller, 4096)
            if answers and shown.count(b"password: ") > len(typed) - len(answers):
                os.write(controller, answers.pop(0).encode() + b"\n")
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
    with contextlib.suppress(OSError):
        shown += os.read(controller, 65536)
    os.close(controller)
    return process.wait(), shown


# ---------------------------------------------------------------- looking


def tells(content: bytes) -> bool:
    """Whether a secret is in it, plain or in base64."""
    for secret in SECRETS:
        core = secret.split()[0].encode()
        if core in content or base64.b64encode(secret.encode())[:12] in content:
            return True
    return False


@contextlib.contextmanager
def watching(state: Path) -> Iterator[dict[str, set[str]]]:
    """Looks at every process's command line and environment, and the run's journal, over and over."""
    seen: dict[str, set[str]] = {"leaks": set(), "sudo": set(), "spared": set(), "journal": set()}
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                _look_at(entry, seen)
            for path in state.rglob("*"):
                with contextlib.suppress(OSError):  # a folder, or gone
                    content = path.read_bytes()
                    seen["leaks" if tells(content) else "journal"].add(path.name)
            done.wait(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _look_at(entry: Path, seen: dict[str, set[str]]) -> None:
    with contextlib.suppress(OSError):
        line = (entry / "cmdline").read_bytes()
        surroundings = (entry / "environ").read_bytes()
        if b"FLEETAUDIT-READY" in line:
            seen["sudo"].add(entry.name)
        if tells(line):
            seen["leaks"].add(f"command line of {line!r}")
        if tells(surroundings):
            # Whoever passes a variable passes it to fleetaudit itself, and setsid is how this test starts it.
            own = b"\0fleetaudit\0audit\0" in line or line.startswith(b"setsid\0")
            own = own or int(entry.name) == os.getpid()
            seen["spared" if own else "leaks"].add(f"environment of {line!r}")


if __name__ == "__main__":
    main()
