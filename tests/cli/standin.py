"""A fleet on this machine whose interpreter is a stand-in: it notes who was asked, and does as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INTERPRETER = """\
#!/bin/sh
case "$*" in *exit*) exit 0;; esac
exec '{python}' -I -S '{folder}/answer.py'
"""

# Reads the agent's length and its first line, which configures it, and answers as an agent would.
ANSWER = """\
import hashlib, os, re, sys, time
folder = os.path.dirname(sys.argv[0])
_, config = sys.stdin.readline(), sys.stdin.readline()
nonce, name = (re.search("'%s': '([^']+)'" % key, config).group(1) for key in ("nonce", "name"))
asked = os.open(folder + "/asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(asked, (name + "\\n").encode())
for _ in range(3000):
    if not os.path.exists(folder + "/hold-" + name):
        break
    time.sleep(0.01)
if os.path.exists(folder + "/fail-" + name):
    sys.exit(1)
body = b'{"schema":"fleetaudit.snapshot/1","host":{"name":"x"},"coverage":{"complete":true,"gaps":[]},'
body += b'"sockets":[],"processes":{},"padding":"' + b"x" * 3000 + b'"}'
print("\\nFLEETAUDIT-BEGIN %s %d %s" % (nonce, len(body), hashlib.sha256(body).hexdigest()))
print(body.decode() + "\\nFLEETAUDIT-END %s" % nonce)
"""

POLICY = """\
version: 1
name: p
rules:
  - {id: nothing-on-1, severity: high, listeners: {port: 1}, expect: none}
"""


class Fleet:
    """Hosts h00, h01, …; everything is below `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.names = [f"h{number:02}" for number in range(count)]
        interpreter = folder / "python"
        interpreter.write_text(INTERPRETER.format(python=sys.executable, folder=folder))
        interpreter.chmod(0o755)
        (folder / "answer.py").write_text(ANSWER)
        (folder / "p.yaml").write_text(POLICY)
        self.write_inventory(self.names)

    def write_inventory(self, names: Sequence[str], groups: Sequence[str] = ("web",)) -> None:
        shared = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.folder / "python"),
        }
        hosts: dict[str, dict[str, str]] = {name: {} for name in names}
        children = {group: {"hosts": hosts} for group in groups}
        (self.folder / "i.yaml").write_text(json.dumps({"all": {"children": children, "vars": shared}}))

    def hold(self, *names: str) -> None:
        for name in names:
            (self.folder / f"hold-{name}").touch()

    def fail(self, *names: str) -> None:
        for name in names:
            (self.folder / f"fail-{name}").touch()

    def heal(self) -> None:
        """Everybody answers from now on."""
        for pattern in ("hold-*", "fail-*"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def asked(self) -> Counter[str]:
        """How often each host was asked since the last call."""
        path = self.folder / "asked"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return Counter(names)

    @property
    def runs(self) -> list[str]:
        """Ids of the runs that are on the disk."""
        folder = self.folder / "state" / "fleetaudit" / "runs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    @property
    def journal(self) -> Path:
        """That of the only run there is."""
        (run_id,) = self.runs
        return self.folder / "state" / "fleetaudit" / "runs" / run_id / "journal.jsonl"

    def command(self, verb: str, *args: str) -> list[str]:
        target = ("-p", "p.yaml", "-o", "json=r.json") if verb == "audit" else ("--output", "s.jsonl")
        return [sys.executable, "-m", "fleetaudit", verb, "-i", "i.yaml", *target, *args]

    def start(self, verb: str, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(verb, *args),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, verb: str, *args: str) -> subprocess.CompletedProcess[str]:
        return self.shell(self.command(verb, *args))

    def shell(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_STATE_HOME": str(self.folder / "state")}

    def statuses(self, verb: str) -> dict[str, str]:
        """Host -> status, as the last run's file tells; `ok` for a snapshot."""
        return {host: facts.get("status", "ok") for host, facts in self.facts(verb).items()}

    def facts(self, verb: str) -> dict[str, dict[str, Any]]:
        """Host -> what the last run's file says of it."""
        if verb == "audit":
            return {host["name"]: host for host in self.report["hosts"]}
        lines = (self.folder / "s.jsonl").read_text().splitlines()
        found = {line["host"]["name"]: line for line in map(json.loads, lines)}
        assert len(found) == len(lines)
        return found

    @property
    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "r.json").read_text())
        return document
