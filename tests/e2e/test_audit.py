"""The main job over real SSH: the demo fleet, hosts that answer nonsense, hosts that hang, Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.demo.fleet import DemoFleet
from tests.conftest import Sshd, processes

POLICY = """\
version: 1
name: p
rules:
  - id: no-shell
    severity: critical
    deny_owners: [{shell: true}]
"""

# Stands in for an interpreter on a host that lies: reads the agent, answers something else.
LIAR = """\
#!{python}
import hashlib, re, sys
if "exit" in sys.argv[-1]:
    sys.exit(0)
source = sys.stdin.read(int(sys.stdin.readline()))
nonce = re.search(r"'nonce': '([^']+)'", source).group(1)
def frame(body, length=None, digest=None, nonce=nonce):
    digest = digest or hashlib.sha256(body).hexdigest()
    head = "\\nFLEETAUDIT-BEGIN %s %d %s\\n" % (nonce, length or len(body), digest)
    return head.encode() + body + ("\\nFLEETAUDIT-END %s\\n" % nonce).encode()
good = b'{{"schema":"fleetaudit.snapshot/1","host":{{"name":"x"}},"coverage":{{"complete":true,"gaps":[]}},'
good += b'"sockets":[],"processes":{{}}}}'
out = sys.stdout.buffer
mode = "{mode}"
if mode == "silent":
    pass
elif mode == "not-json":
    out.write(frame(b"hello"))
elif mode == "truncated":
    out.write(frame(good)[:120])
elif mode == "wrong-hash":
    out.write(frame(good, digest="0" * 64))
elif mode == "wrong-nonce":
    out.write(frame(good, nonce="guess"))
elif mode == "two-frames":
    out.write(frame(good) * 2)
elif mode == "other-version":
    out.write(frame(good.replace(b"snapshot/1", b"snapshot/9")))
elif mode == "controls":
    out.write(frame(good.replace(b'"x"', b'"\\x1b[2J"')))
elif mode == "huge":
    while True:
        out.write(b"x" * 65536)
elif mode == "noise":
    out.write(b"motd \\x1b[31m FLEETAUDIT-BEGIN\\n" + frame(good) + b"bye\\n")
elif mode == "hang":
    import time
    for _ in range(600):
        out.write(b".")
        out.flush()
        time.sleep(0.1)
"""


def run(*args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", *args]
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"XDG_STATE_HOME": str(cwd / "state")} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoFleet]:
    with DemoFleet.start(tmp_path_factory.mktemp("fleet")) as running:
        yield running


def options(fleet: DemoFleet) -> list[str]:
    return ["-i", str(fleet.inventory), "--known-hosts", str(fleet.known_hosts)]


def test_the_demo_fleet_is_audited_and_what_was_planted_is_found(fleet: DemoFleet, folder: Path) -> None:
    outputs = ["-o", "json=r.json", "-o", "csv=r.csv", "--snapshots", "s.jsonl"]
    done = run("audit", *options(fleet), "-p", str(fleet.policies), *outputs, cwd=folder)
    assert done.returncode == 1, done.stderr
    report = json.loads((folder / "r.json").read_text())
    statuses = {host["name"]: host["status"] for host in report["hosts"]}
    failing: dict[str, list[str]] = {}
    for item in report["results"]:
        if item["verdict"] == "fail":
            failing.setdefault(item["host"], []).append(f"{item['policy']}/{item['rule']}")
        if statuses[item["host"]] not in ("ok", "partial"):
            assert item["verdict"] == "unknown"
    for host in fleet.describe():
        assert statuses[host.name] == host.status.value
        assert sorted(failing.get(host.name, [])) == sorted(host.failing)
        assert host.name in done.stdout or not host.failing
    with (folder / "r.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["host"] for row in rows} == set(statuses)
    assert [row["verdict"] for row in rows if row["host"] == "down1"] == ["unknown"]
    assert not (folder / "state" / "fleetaudit" / "runs").exists() or not any(
        (folder / "state" / "fleetaudit" / "runs").iterdir()
    )


def test_evaluate_gives_the_results_of_the_audit_that_collected(fleet: DemoFleet, folder: Path) -> None:
    policies = ("-p", str(fleet.policies))
    run(
        "audit",
        *options(fleet),
        *policies,
        "-o",
        "json=a.json",
        "-o",
        "csv=a.csv",
        "--snapshots",
        "s.jsonl",
        cwd=folder,
    )
    done = run("evaluate", "s.jsonl", *policies, "-o", "json=b.json", "-o", "csv=b.csv", cwd=folder)
    assert done.returncode == 1
    first, second = ((folder / name).read_text() for name in ("a.json", "b.json"))

    def after_run(text: str) -> str:
        return text[text.index('"results"') :]

    assert after_run(first) == after_run(second)
    lines = (folder / "s.jsonl").read_text().splitlines()
    (folder / "t.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    run("evaluate", "t.jsonl", *policies, "-o", "json=c.json", cwd=folder)
    assert after_run(second) == after_run((folder / "c.json").read_text())


def test_collect_writes_a_line_per_target_and_says_what_is_missing(fleet: DemoFleet, folder: Path) -> None:
    done = run("collect", *options(fleet), "--output", "s.jsonl", cwd=folder)
    assert done.returncode == 3
    lines = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert {line["host"]["name"] for line in lines} == {host.name for host in fleet.describe()}
    assert all(line["inventory"]["boundary"] in ("container", "host") for line in lines)
    reached = run("collect", "web1:web2:db1", *options(fleet), "--output", "-", cwd=folder)
    assert reached.returncode == 0
    assert {json.loads(line)["host"]["name"] for line in reached.stdout.splitlines()} == {
        "web1",
        "web2",
        "db1",
    }


def test_listeners_names_both_owners_of_the_origin_case(fleet: DemoFleet, folder: Path) -> None:
    done = run("listeners", "web1", *options(fleet), "--port", "8080", cwd=folder)
    (line,) = done.stdout.splitlines()
    assert "sh[" in line
    assert "leak" in line
    assert "python" in line


def test_a_container_boundary_that_is_not_claimed_keeps_a_clean_host_from_passing(
    fleet: DemoFleet, folder: Path
) -> None:
    inventory = Path(fleet.inventory).read_text()
    if 'fleetaudit_boundary: "container"' not in inventory:
        pytest.skip("this machine allows no namespaces")
    (folder / "i.yaml").write_text(inventory.replace('"container"', '"host"'))
    known = ["--known-hosts", str(fleet.known_hosts)]
    done = run("audit", "web2", "-i", "i.yaml", *known, "-p", "p.yaml", "-o", "json=r.json", cwd=folder)
    assert done.returncode == 3
    report = json.loads((folder / "r.json").read_text())
    assert [item["verdict"] for item in report["results"]] == ["unknown"]
    assert "pid_namespace" in json.dumps(report["hosts"][0]["coverage"])


def liars(folder: Path, sshd: Sshd, modes: tuple[str, ...]) -> list[str]:
    hosts = {}
    for mode in modes:
        script = folder / f"python-{mode}"
        script.write_text(LIAR.format(python=sys.executable, mode=mode))
        script.chmod(0o755)
        hosts[mode] = {"ansible_python_interpreter": str(script)}
    hosts["honest"] = {"ansible_python_interpreter": sys.executable}
    shared = {
        "ansible_host": sshd.address,
        "ansible_port": sshd.port,
        "ansible_ssh_private_key_file": sshd.key,
    }
    (folder / "i.yaml").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    return ["-i", "i.yaml", "--known-hosts", sshd.known_hosts]


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {host["name"]: host["status"] for host in report["hosts"]}


def test_nonsense_is_bad_output_and_the_others_go_on(sshd: Sshd, folder: Path) -> None:
    bad = (
        *("silent", "not-json", "truncated", "wrong-hash", "wrong-nonce"),
        *("two-frames", "other-version", "controls", "huge"),
    )
    reach = liars(folder, sshd, (*bad, "noise"))
    done = run("audit", *reach, "-p", "p.yaml", "-o", "json=r.json", "-f", "4", cwd=folder)
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout
    report = json.loads((folder / "r.json").read_text())
    found = statuses(report)
    assert {name: found[name] for name in bad} == dict.fromkeys(bad, "bad_output"), report["hosts"]
    assert found["noise"] == "ok"
    assert found["honest"] in ("ok", "partial")
    assert all(item["verdict"] == "unknown" for item in report["results"] if item["host"] in bad)


def test_a_stuck_host_ends_by_its_deadline(sshd: Sshd, folder: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        reach = liars(folder, sshd, ("hang",))
        text = (
            (folder / "i.yaml")
            .read_text()
            .replace('"honest"', f'"mute": {{"ansible_port": {mute.getsockname()[1]}}}, "honest"')
        )
        (folder / "i.yaml").write_text(text)
        run("audit", *reach, "-p", "p.yaml", "-o", "json=r.json", "--deadline", "4", cwd=folder)
    found = statuses(json.loads((folder / "r.json").read_text()))
    assert (found["hang"], found["mute"]) == ("timeout", "timeout")
    assert found["honest"] in ("ok", "partial")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_writes_what_has_answered_and_leaves_nothing_running(
    number: signal.Signals, sshd: Sshd, folder: Path, wait_until: Callable[..., None]
) -> None:
    reach = liars(folder, sshd, ("hang",))
    command = [sys.executable, "-m", "fleetaudit", "audit", *reach, "-p", "p.yaml", "-o", "json=r.json", "-v"]
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state")}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    )
    assert running.stderr is not None
    lines = []
    for line in running.stderr:
        lines.append(line)
        if line.startswith("honest: "):
            running.send_signal(number)
            break
    _, rest = running.communicate(timeout=30)
    assert running.returncode == 130, "".join(lines) + rest
    report = json.loads((folder / "r.json").read_text())
    assert report["run"]["complete"] is False
    assert report["summary"]["exit_code"] == 130
    found = statuses(report)
    assert found["hang"] == "not_attempted"
    assert found["honest"] in ("ok", "partial")
    wait_until(lambda: not processes(str(folder / "python-hang")), "the remote process is still there")
    (kept,) = (folder / "state" / "fleetaudit" / "runs").iterdir()
    assert str(kept) in rest


def test_local_needs_neither_ssh_nor_inventory(folder: Path) -> None:
    done = run("audit", "--local", "-p", "p.yaml", "-o", "json=-", cwd=folder)
    report = json.loads(done.stdout)
    assert [host["name"] for host in report["hosts"]] == ["localhost"]
    assert done.returncode in (0, 1, 3)
    collected = run(
        "collect", "--local", "--local-name", "here", "--local-group", "web", "--output", "-", cwd=folder
    )
    assert collected.returncode == 0
    line = json.loads(collected.stdout)
    assert (line["host"]["name"], line["inventory"]["groups"]) == ("here", ["web"])


def test_a_local_audit_does_not_load_the_ssh_library(folder: Path) -> None:
    code = (
        "import sys\nfrom fleetaudit.cli import main\n"
        "main(['audit', '--local', '-p', 'p.yaml', '-q'])\nsys.exit('paramiko' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False, timeout=60).returncode == 0
