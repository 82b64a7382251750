"""What a fleet costs the machine that asks it: client CPU a host, memory, start-up, latency.

    make bench-fleet                                   everything, results to benchmarks/RESULTS-fleet.md
    python -m benchmarks.fleet_cost --quick --rounds 1 --output /tmp/results.md

Needs root, for the namespaces in which the fleet and its clients live and die, and OpenSSH's sshd.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.delay import FAR
from benchmarks.fleet_inside import Cost, Job
from benchmarks.fleet_results import ANSIBLE, BARE, OWN, OWN_TRANSPORT, PYINFRA, Fleet, Results, render
from benchmarks.fleet_site import FORKS, PORTS, Site, furnish
from benchmarks.loads import Scene

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "benchmarks/clients"
SCENE = Scene(processes=30, fds=4, listeners=12, owners=20, neighbours=0)
CROWDED = Scene(processes=150, fds=4, listeners=46, owners=138, neighbours=0)  # and the SSH servers' own four
SIMULATED = (1000, 5000)
ONE_WAY = 0.025  # seconds
START_ROUNDS = 9
RUN_SECONDS = 240.0
NAMED = ("ansible-core", "asyncssh", "parallel-ssh", "paramiko", "pyinfra", "ssh2-python")
ANSWERED = r"(?m)^answered$"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for. `peers` is a Python whose environment has the peers, if any."""

    rounds: int
    hosts: tuple[int, ...]
    quick: bool
    output: Path
    peers: Path


def main() -> int:
    """Measure, write the tables, say where they are."""
    options = parse(sys.argv[1:])
    if os.geteuid() != 0:
        print("fleet_cost: needs root, for namespaces of its own", file=sys.stderr)
        return 2
    compileall.compile_dir(ROOT / "fleetaudit", quiet=1)  # as an installation has it
    fleets = [Fleet(count, fleet(count, options)) for count in options.hosts]
    results = Results(
        fleets=fleets,
        starts=starts(options),
        simulated=simulated((4, 20) if options.quick else SIMULATED),
        latency=latency(options.rounds),
        listeners=CROWDED.listeners + len(PORTS),
        facts=facts(options.peers),
        rounds=options.rounds,
        quick=options.quick,
    )
    options.output.write_text(render(results), encoding="utf-8")
    print(f"fleet_cost: wrote {options.output}", file=sys.stderr)
    return 0


def parse(arguments: list[str]) -> Options:
    """The options. Ends with status 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="fleet_cost", description="Measure what a fleet costs its auditor.")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each client on each fleet (3)")
    parser.add_argument("--hosts", type=int, nargs="+", default=[100, 300], help="sizes of fleets (100 300)")
    parser.add_argument("--quick", action="store_true", help="four hosts, and a small simulation")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks/RESULTS-fleet.md", help="where to write"
    )
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-peers/bin/python", help="the interpreter that has them"
    )
    given = parser.parse_args(arguments)
    if given.rounds < 1 or min(given.hosts) < 1:
        parser.error("--rounds and --hosts are at least 1")
    if max(given.hosts) > 1000:
        parser.error("--hosts is at most 1000")
    hosts = (4,) if given.quick else tuple(given.hosts)
    return Options(given.rounds, hosts, given.quick, given.output, given.peers.absolute())


def fleet(count: int, options: Options) -> dict[str, list[Cost]]:
    """What each client cost over a fleet of this size, round by round."""
    print(f"{count} hosts", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        site = Site(Path(folder), SCENE)
        furnish(site, (count,))
        return measure(site, jobs(site, count, options.peers), options.rounds)


def starts(options: Options) -> dict[str, list[Cost]]:
    """What it costs to begin: the interpreter alone, the command line imported, its help."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        'python -c "import fleetaudit.cli"': [sys.executable, "-c", "import fleetaudit.cli"],
        "fleetaudit --help": [sys.executable, "-m", "fleetaudit", "--help"],
    }
    print("start-up", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        site = Site(Path(folder), SCENE)
        furnish(site, (1,))
        asked = {
            name: job(site.folder, f"start {place}", argv)
            for place, (name, argv) in enumerate(commands.items())
        }
        return measure(site, asked, max(START_ROUNDS if not options.quick else 1, options.rounds))


def simulated(counts: tuple[int, ...]) -> dict[int, Cost]:
    """One audit over so many hosts, each with the answer that a crowded real one gave."""
    print("simulated hosts", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        site = Site(Path(folder), CROWDED)
        furnish(site, (1,))
        snapshot = ["-i", "inventory_1.yaml", "--known-hosts", "known_hosts", "--output", "snapshot.json"]
        asked = {
            "snapshot": job(
                site.folder, "snapshot", [sys.executable, "-m", "fleetaudit", "collect", *snapshot]
            )
        }
        for count in counts:
            argv = [sys.executable, "-m", "benchmarks.simulated", "snapshot.json", str(count)]
            asked[str(count)] = job(site.folder, f"simulated {count}", argv)
        costs = measure(site, asked, 1)
    failed = [name for name in asked if costs[name][0]["status"] != 0]
    if failed:
        raise RuntimeError(f"failed: {', '.join(failed)}")
    return {count: costs[str(count)][0] for count in counts}


def latency(rounds: int) -> dict[str, list[Cost]]:
    """One host behind a link of 25 ms each way."""
    print("50 ms away", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        site = Site(Path(folder), SCENE, FAR)
        furnish(site, (1,))
        programs = {OWN_TRANSPORT: "fleetaudit_ask.py", BARE: "paramiko_bare.py"}
        asked = {
            name: job(site.folder, name, [sys.executable, str(PROGRAMS / program), "fleet_1.json"])
            for name, program in programs.items()
        }
        return measure(site, asked, rounds, ONE_WAY)


def facts(peers: Path) -> dict[str, str]:
    """Versions of what was measured."""
    told = (
        "from importlib.metadata import distributions\nfor it in distributions(): print(it.name, it.version)"
    )
    found: dict[str, str] = {"python": platform.python_version(), "rules": "20"}
    for who, python in {"fleetaudit's environment": Path(sys.executable), "the peers'": peers}.items():
        if not python.exists():
            found[who] = "not installed; `make bench-fleet` makes it"
            continue
        done = subprocess.run([str(python), "-c", told], capture_output=True, text=True, check=True)
        found[who] = ", ".join(line for line in sorted(done.stdout.splitlines()) if line.split()[0] in NAMED)
    return found


def measure(
    site: Site, jobs: Mapping[str, Job], rounds: int, delay: float | None = None
) -> dict[str, list[Cost]]:
    """Run the jobs in turns in namespaces of their own. Raises RuntimeError if the fleet cannot be built."""
    orders = {
        "hosts": site.servers(),
        "delay": delay,
        "rounds": rounds,
        "seconds": RUN_SECONDS,
        "jobs": jobs,
    }
    (site.folder / "orders.json").write_text(json.dumps(orders), encoding="ascii")
    namespaces = ["unshare", "--pid", "--net", "--mount", "--fork", "--kill-child", "--mount-proc", "--"]
    program = [*namespaces, sys.executable, "-S", "-m", "benchmarks.fleet_inside"]
    done = subprocess.run(
        [*program, str(site.folder / "orders.json")],
        cwd=ROOT,
        env=environment(site.folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError("the fleet could not be built or measured: its own words are above")
    costs: dict[str, list[Cost]] = json.loads(done.stdout)
    return costs


def environment(folder: Path) -> dict[str, str]:
    """The clients' own home; ssh takes known hosts and key by option."""
    ssh = f"-C -o ControlMaster=auto -o ControlPersist=60s -o KexAlgorithms=curve25519-sha256 \
-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes"
    return os.environ | {
        "HOME": str(folder / "home"),
        "XDG_STATE_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "home"),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": ssh,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "home/cp"),
    }


def jobs(site: Site, count: int, peers: Path) -> dict[str, Job]:
    """Every client by name, what is measured first."""
    folder = site.folder
    told = f"fleet_{count}.json"
    own = {
        OWN: (audit(folder, count), ("report.json", r'"status": "ok"')),
        BARE: ([sys.executable, str(PROGRAMS / "paramiko_bare.py"), told], None),
    }
    inventory, payload = f"inventory_{count}.yaml", str(folder / "payload")
    tool, script = peers.parent, ["server.script", f"src={payload}"]
    theirs = {
        ANSIBLE: (
            [str(tool / "ansible"), "all", "-i", inventory, "-m", "script", "-a", payload, "-f", str(FORKS)],
            ("ansible_-m_script.txt", r"\| CHANGED =>"),
        ),
        PYINFRA: (
            [str(tool / "pyinfra"), "-y", "--parallel", str(FORKS), f"pyinfra_{count}.py", *script],
            ("pyinfra_server.script.txt", r"(?m)\[h[0-9]+\]\S* *\S*Success"),
        ),
        "asyncssh": ([str(peers), str(PROGRAMS / "asyncssh_bare.py"), told], None),
        "parallel-ssh": ([str(peers), str(PROGRAMS / "parallel_ssh_bare.py"), told], None),
        "ssh2-python": ([str(peers), str(PROGRAMS / "ssh2_bare.py"), told], None),
    }
    found = own | {name: job for name, job in theirs.items() if Path(job[0][0]).exists()}
    return {name: job(folder, name, argv, answers) for name, (argv, answers) in found.items()}


def job(folder: Path, name: str, argv: list[str], answers: tuple[str, str] | None = None) -> Job:
    """A client that writes what it says to a file named after it."""
    output = name.replace(" ", "_").replace(",", "") + ".txt"
    file, pattern = answers or (output, ANSWERED)
    return {
        "argv": argv,
        "folder": str(folder),
        "output": str(folder / output),
        "answers": (str(folder / file), pattern),
    }


def audit(folder: Path, count: int) -> list[str]:
    """The command that is measured: twenty rules, JSON and CSV."""
    policies = ["-p", str(ROOT / "policies"), "-p", str(ROOT / "benchmarks/fleet_policy.yaml")]
    reports = ["-o", "json=report.json", "-o", "csv=report.csv"]
    target = ["-i", f"inventory_{count}.yaml", "--known-hosts", str(folder / "known_hosts")]
    return [sys.executable, "-m", "fleetaudit", "audit", "-q", "-f", str(FORKS), *target, *policies, *reports]


if __name__ == "__main__":
    sys.exit(main())
