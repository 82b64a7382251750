"""Transports and inventory sources of other distributions, as a real one on the path brings them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.build import snapshot

MODULE = """\
import json
from fleetaudit.errors import ConfigError
from fleetaudit.transport.memory import MemoryTransport, telling

def fleet(what):
    if what == "refuse":
        raise ConfigError("berlin has no hosts")
    if what == "crash":
        raise RuntimeError("no\\x1b[2J route")
    if what == "text":
        return "hosts"
    hosts = {name: {"ansible_connection": "carrier_pigeon"} for name in what.split("+")}
    return json.dumps({"web": {"hosts": hosts}}).encode()

def pigeon(options):
    return MemoryTransport(telling(json.load(open("answers.json"))))

class Half:
    def run(self, host, command, conversation, deadline):
        raise AssertionError

def half(options):
    return Half()

def leaves(options):
    raise SystemExit("no licence")

def kind(options):
    return MemoryTransport

class Stuck(MemoryTransport):
    def close(self):
        raise OSError("the dovecote is jammed")

def stuck(options):
    return Stuck(telling(json.load(open("answers.json"))))

class Preparing(MemoryTransport):
    def prepare(self, hosts):
        raise LookupError(f"no cage for {hosts[0].name}")

def preparing(options):
    return Preparing(telling(json.load(open("answers.json"))))

def fails(options):
    raise RuntimeError("no feathers")

nothing = 7
"""
ENTRY_POINTS = """\
[fleetaudit.transports]
carrier_pigeon = pigeon_post:pigeon
half = pigeon_post:half
fails = pigeon_post:fails
preparing = pigeon_post:preparing
leaves = pigeon_post:leaves
kind = pigeon_post:kind
stuck = pigeon_post:stuck
quits = quitter:open
missing = pigeon_post:no_such_function
absent = no_such_module:open
number = pigeon_post:nothing
ssh = pigeon_post:fails
local = pigeon_post:fails

[fleetaudit.inventory_sources]
dovecote = pigeon_post:fleet
broken = no_such_module:fleet
ansible_yaml = pigeon_post:fleet
"""
POLICY = "version: 1\nname: p\nrules: [{id: no-shell, deny_owners: [{shell: true}]}]\n"


def distribute(folder: Path, name: str, entry_points: str) -> None:
    """Lay out a distribution as an installer does."""
    folder.mkdir(exist_ok=True)
    information = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(entry_points)
    (information / "RECORD").write_text("")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    distribute(tmp_path / "site", "pigeon-post", ENTRY_POINTS)
    (tmp_path / "site" / "pigeon_post.py").write_text(MODULE)
    (tmp_path / "site" / "quitter.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "answers.json").write_text(json.dumps({"p1": snapshot([], {})}))
    return tmp_path


def python(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "XDG_STATE_HOME": str(folder / "state")}
    command = [sys.executable, *args]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def fleetaudit(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "fleetaudit", *args)


def inventory(folder: Path, connection: str) -> str:
    path = folder / "i.yaml"
    path.write_text(json.dumps({"all": {"hosts": {"p1": {"ansible_connection": connection}}}}))
    return str(path)


def test_a_source_and_a_transport_of_another_distribution_make_a_whole_audit(folder: Path) -> None:
    outputs = ("-o", "json=r.json")
    done = fleetaudit(folder, "audit", "-i", "dovecote:p1+p2", "-p", "p.yaml", *outputs)
    assert done.returncode == 3, done.stderr
    report = json.loads((folder / "r.json").read_text())
    statuses = {host["name"]: (host["status"], host["groups"]) for host in report["hosts"]}
    assert statuses == {"p1": ("ok", ["web"]), "p2": ("unreachable", ["web"])}
    (source,) = report["run"]["inventory"]
    assert (source["path"], source["name"]) == ("dovecote:p1+p2", "dovecote")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dovecote:refuse", "error: berlin has no hosts"),
        (
            "dovecote:crash",
            "fleetaudit.inventory_sources: dovecote = pigeon_post:fleet of pigeon-post 1.2: it failed: "
            "RuntimeError: no\\u001b[2J route",
        ),
        ("dovecote:text", "of pigeon-post 1.2: it returned str, not bytes"),
        ("dovecote:a b", "dovecote:a b:1"),
        (
            "broken:x",
            "broken = no_such_module:fleet of pigeon-post 1.2 does not load: ModuleNotFoundError: No module",
        ),
        ("ansible_yaml:p1", "error: p1: the inventory cannot be read"),
        ("nobody:p1", "nobody:p1: the inventory cannot be read"),
    ],
)
def test_sources_that_cannot_be_used(folder: Path, source: str, message: str) -> None:
    done = fleetaudit(folder, "inventory", "list", "-i", source)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ("half", "half = pigeon_post:half of pigeon-post 1.2: what it opened has no cancel, close()"),
        ("preparing", "preparing = pigeon_post:preparing of pigeon-post 1.2: prepare() failed: LookupError"),
        ("fails", "fails = pigeon_post:fails of pigeon-post 1.2: it failed: RuntimeError: no feathers"),
        (
            "missing",
            "missing = pigeon_post:no_such_function of pigeon-post 1.2 does not load: AttributeError",
        ),
        ("absent", "absent = no_such_module:open of pigeon-post 1.2 does not load: ModuleNotFoundError"),
        ("leaves", "leaves = pigeon_post:leaves of pigeon-post 1.2: it failed: SystemExit: no licence"),
        ("kind", "kind = pigeon_post:kind of pigeon-post 1.2: it returned the class MemoryTransport, not an"),
        ("quits", "quits = quitter:open of pigeon-post 1.2 does not load: SystemExit: 3"),
        ("number", "number = pigeon_post:nothing of pigeon-post 1.2: it is of type int"),
        ("unheard_of", "'unheard_of' connections are not supported"),
    ],
)
def test_transports_that_cannot_be_used(folder: Path, connection: str, message: str) -> None:
    done = fleetaudit(folder, "audit", "-i", inventory(folder, connection), "-p", "p.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.glob("state/fleetaudit/runs/*")) == []


def test_what_was_collected_is_kept_when_a_transport_does_not_close(folder: Path) -> None:
    audit = ("audit", "-i", inventory(folder, "stuck"), "-p", "p.yaml", "--allow-unjudged")
    done = fleetaudit(folder, *audit)
    assert done.returncode == 2
    message = "stuck = pigeon_post:stuck of pigeon-post 1.2: close() failed: OSError: the dovecote is jammed"
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    (run,) = folder.glob("state/fleetaudit/runs/*")
    assert fleetaudit(folder, *audit, "--resume", run.name).returncode == 0


def test_a_name_that_two_distributions_claim_is_refused(folder: Path) -> None:
    distribute(folder / "site", "other-post", "[fleetaudit.transports]\ncarrier_pigeon = other_post:pigeon\n")
    done = fleetaudit(folder, "audit", "-i", inventory(folder, "carrier_pigeon"), "-p", "p.yaml")
    assert done.returncode == 2
    assert "several plugins are called 'carrier_pigeon'" in done.stderr
    assert "pigeon-post 1.2" in done.stderr
    assert "other-post 1.2" in done.stderr


def test_what_is_built_in_stays_what_it_is(folder: Path) -> None:
    code = (
        "from fleetaudit.transport import SshOptions, Transports\n"
        "with Transports(SshOptions()) as t: print(*(type(t.get(n)).__module__ for n in ('ssh', 'local')))"
    )
    done = python(folder, "-c", code)
    assert done.stdout.split() == ["fleetaudit.transport.ssh", "fleetaudit.transport.local"], done.stderr


def test_nothing_is_looked_for_while_what_is_built_in_does(folder: Path) -> None:
    code = (
        "import importlib.metadata\n"
        "def refuse(**wanted): raise AssertionError(wanted)\n"
        "importlib.metadata.entry_points = refuse\n"
        "from fleetaudit.cli import main\n"
        "print(main(['audit', '-i', 'i.yaml', '-i', '127.0.0.2:9,', '-l', 'p1', '-p', 'p.yaml', '-q']))"
    )
    inventory(folder, "local")
    done = python(folder, "-c", code)
    assert done.stdout.strip() in ("0", "1", "3"), done.stderr
