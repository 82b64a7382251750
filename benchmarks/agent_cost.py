"""What a census costs a host: CPU of the agent beside ss, netstat, lsof and psutil, on loads built here.

    make bench-agent                                   everything, results to benchmarks/RESULTS.md
    python -m benchmarks.agent_cost --quick --rounds 1 --output /tmp/results.md

Needs root, for the namespaces in which each load lives and dies. Nothing outside of them is measured but the
processes' executables and the kernel itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.loads import SCENES, Scene
from benchmarks.results import Measured, render
from fleetaudit.agent.launch import read_frame
from fleetaudit.agent.payload import AgentConfig, agent_sha256, agent_source, build
from fleetaudit.conversation import Reply

ROOT = Path(__file__).resolve().parent.parent
NONCE = "benchmark"
AGENT, FLOOR = "agent", "python3 alone"
VERSION_OPTIONS = {"ss": "-V", "netstat": "--version", "lsof": "-v"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    rounds: int
    loads: tuple[str, ...]
    quick: bool
    output: Path
    python: str


def main() -> int:
    """Measure, write the table, say where it is."""
    options = parse(sys.argv[1:])
    if os.geteuid() != 0:
        print("agent_cost: needs root, for namespaces of its own", file=sys.stderr)
        return 2
    measured = []
    for name in options.loads:
        scene = SCENES[name].shrunk() if options.quick else SCENES[name]
        print(f"{name}: {scene}", file=sys.stderr, flush=True)
        measured.append(measure(name, scene, options))
    sizes = f"{len(agent_source())} bytes, {len(payload())} sent to a host"
    facts = {
        "agent": f"sha256 {agent_sha256()[:16]}, {sizes}",
        "python3": first_line([options.python, "--version"]),
        **{
            tool: first_line([tool, option]) for tool, option in VERSION_OPTIONS.items() if shutil.which(tool)
        },
        "psutil": psutil_version() or "not installed",
    }
    options.output.write_text(render(measured, facts, options.rounds, options.quick), encoding="utf-8")
    print(f"agent_cost: wrote {options.output}", file=sys.stderr)
    return 0


def parse(arguments: list[str]) -> Options:
    """The options. Ends with status 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="agent_cost", description="Measure what the agent costs a host.")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each tool on each load (7)")
    parser.add_argument("--loads", nargs="+", choices=[*SCENES], default=[*SCENES], help="which loads (all)")
    parser.add_argument("--quick", action="store_true", help="loads of a twentieth of the size")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/RESULTS.md", help="where to write")
    parser.add_argument("--python", default=system_python(), help="the interpreter that runs the agent")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds is at least 1")
    return Options(given.rounds, tuple(given.loads), given.quick, given.output, given.python)


def system_python() -> str:
    """What a host would offer: not the one of a virtual environment, nor a shell script in its place."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def payload() -> bytes:
    """What a host is sent."""
    return build(AgentConfig(nonce=NONCE, name="benchmark"))


def measure(name: str, scene: Scene, options: Options) -> Measured:
    """One load, built, measured and torn down. Raises RuntimeError if the agent missed an owner."""
    with tempfile.TemporaryDirectory() as folder:
        sent, answer = Path(folder, "payload"), Path(folder, "answer")
        sent.write_bytes(payload())
        orders = {
            "scene": scene,
            "rounds": options.rounds,
            "spread": name == "namespaces",
            "tools": tools(options.python, str(sent), str(answer)),
        }
        with ExitStack() as standing:
            if scene.neighbours:
                standing.enter_context(
                    load({"scene": scene.neighbour(), "rounds": 0, "spread": False, "tools": {}})
                )
            done = standing.enter_context(load(orders))
        check_answer(scene, answer.read_bytes())
    costs = {
        tool: [tuple(cost) if cost else None for cost in found] for tool, found in json.loads(done).items()
    }
    return Measured(name, scene, costs)


@contextmanager
def load(orders: dict[str, object]) -> Iterator[bytes]:
    """A load in namespaces of its own, there as long as the context, and what it printed: the costs.

    When unshare ends, however it does, the kernel ends all of it. Raises RuntimeError if it failed.
    """
    namespaces = ["unshare", "--pid", "--net", "--mount", "--fork", "--kill-child", "--mount-proc", "--"]
    program = [*namespaces, sys.executable, "-S", "-m", "benchmarks.inside", json.dumps(orders)]
    with subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        printed = process.stdout.readline() if process.stdout else b""
        if not printed:
            raise RuntimeError("a load could not be built or measured: its own words are above")
        yield printed


def tools(python: str, sent: str, answer: str) -> dict[str, tuple[str, str, list[str]]]:
    """The installed ones: (stdin, stdout, command) by name."""
    commands = {"ss": ["-Hlntup"], "netstat": ["-lntup"], "lsof": ["-nP", "-i"]}
    found = {name: shutil.which(name) for name in commands}
    known: dict[str, tuple[str, str, list[str]]] = {
        AGENT: (sent, answer, [python, "-I", "-S", "-"]),
        FLOOR: (os.devnull, "", [python, "-I", "-S", "-"]),
    }
    known.update({name: ("", "", [path, *commands[name]]) for name, path in found.items() if path})
    if psutil_version():
        code = "import psutil; psutil.net_connections('all')"
        known["psutil"] = ("", "", [sys.executable, "-I", "-c", code])
    return known


def check_answer(scene: Scene, output: bytes) -> None:
    """A cheap answer that misses an owner is worth nothing."""
    document = json.loads(read_frame(NONCE, Reply(0, output, b"")))
    sockets = [socket for socket in document["sockets"] if socket["protocol"] == "tcp"]
    seen = sum(len(socket["owners"]) for socket in sockets)
    if seen != scene.holdings():
        raise RuntimeError(f"the agent saw {seen} of {scene.holdings()} pairs of listener and owner")


def psutil_version() -> str | None:
    """None when it is not installed."""
    try:
        return version("psutil")
    except PackageNotFoundError:
        return None


def first_line(command: list[str]) -> str:
    """The line with a version among what a tool says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    telling = [line for line in lines if any(char.isdigit() for char in line)]
    return telling[0] if telling else "unknown"


if __name__ == "__main__":
    sys.exit(main())
