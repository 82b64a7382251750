"""What the accelerator costs beside the walk and ss, on loads that are looked at from outside of them.

    make bench-agent                                   after the other table, to benchmarks/RESULTS-bpf.md
    python -m benchmarks.bpf_cost --quick --rounds 1 --output /tmp/results.md

Needs root. The loads live in pid namespaces, where BPF is refused, so all three tools run in the host's: the
walk and BPF look at every process of this machine, ss at one namespace. So the loads have no neighbours here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.agent_cost import NONCE, ROOT, load, system_python
from benchmarks.inside import run
from benchmarks.loads import SCENES, Scene
from benchmarks.results import describe, processor
from fleetaudit.agent.launch import read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.conversation import Reply
from fleetaudit.model import AGENT_MODES

LIMIT = 0.25  # CPU of bpf as a multiple of ss's, on the load of 100,000 descriptors
LOADS = ("idle", "busy", "owners")


def main() -> int:
    """Measure, write the table, say where it is."""
    parser = argparse.ArgumentParser(prog="bpf_cost", description="Measure the accelerator.")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each tool on each load (7)")
    parser.add_argument("--quick", action="store_true", help="loads of a twentieth of the size")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/RESULTS-bpf.md")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("bpf_cost: needs root, for BPF and for namespaces", file=sys.stderr)
        return 2
    lines = [
        "# What the accelerator costs",
        "",
        "Written by `make bench-agent`. CPU ms, median of whole processes in interleaved rounds; BPF reads",
        "the kernel's description of itself anew each time (nothing is cached). Limit: 0.25 of ss on `busy`.",
        "",
        f"Kernel {os.uname().release}, {os.cpu_count()} cores ({processor()}); {given.rounds} rounds",
        "",
        "| load | ss | walk | bpf | bpf of ss | bpf of walk |",
        "|---|---|---|---|---|---|",
    ]
    for name in LOADS:
        scene = (SCENES[name].shrunk() if given.quick else SCENES[name])._replace(neighbours=0)
        lines.append(f"| {name}: {describe(scene)} | {measure(scene, given.rounds)} |")
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"bpf_cost: wrote {given.output}", file=sys.stderr)
    return 0


def measure(scene: Scene, rounds: int) -> str:
    """The cells of one load. Raises RuntimeError for an answer that misses an owner."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as standing:
        tools = {"ss": ("", "", [shutil.which("ss") or "/usr/bin/ss", "-Hlntup"])}
        for mode in AGENT_MODES:
            sent = Path(folder, mode)
            sent.write_bytes(build(AgentConfig(nonce=NONCE, mode=mode)))
            tools[mode] = (str(sent), f"{sent}.answer", [system_python(), "-I", "-S", "-"])
        nothing = {"rounds": 0, "spread": False, "tools": {}}
        standing.enter_context(load({"scene": scene, **nothing}))
        place = f"/proc/{newest_load()}/ns/net"
        costs: dict[str, list[float]] = {name: [] for name in tools}
        names = list(tools)
        for turn in range(rounds + 1):  # the first is to warm up
            for name in names[turn % 3 :] + names[: turn % 3]:
                cost = run(tools[name], place if name == "ss" else "/proc/self/ns/net")
                if turn and cost:
                    costs[name].append(cost[0])
        answers = {mode: Path(f"{folder}/{mode}.answer").read_bytes() for mode in AGENT_MODES}
    refused = check(scene, answers)
    median = {name: statistics.median(found) * 1000 for name, found in costs.items()}
    walk, ss = f"{median['walk']:.0f}", f"{median['ss']:.0f}"
    if refused:
        return f"{ss} | {walk} | refused: {refused} | | "
    ratios = f"{median['bpf'] / median['ss']:.2f} | {median['bpf'] / median['walk']:.2f}"
    return f"{ss} | {walk} | {median['bpf']:.0f} | {ratios}"


def newest_load() -> int:
    """The first process of the load that was started last, by its command line."""
    told = subprocess.run(
        ["pgrep", "-n", "-f", "benchmarks.inside"], capture_output=True, check=True, text=True
    )
    return int(told.stdout)


def check(scene: Scene, answers: dict[str, bytes]) -> str:
    """Why BPF was refused, or nothing; a cheap answer that misses an owner is worth nothing."""
    documents = {mode: json.loads(read_frame(NONCE, Reply(0, body, b""))) for mode, body in answers.items()}
    pairs = {
        mode: sum(len(item["owners"]) for item in document["sockets"] if item["protocol"] == "tcp")
        for mode, document in documents.items()
    }
    if pairs["bpf"] != pairs["walk"] or pairs["walk"] < scene.holdings():
        raise RuntimeError(f"pairs of listener and owner: {pairs}, built were {scene.holdings()}")
    if documents["bpf"]["agent"]["mode"] == "bpf":
        return ""
    return str(documents["bpf"]["coverage"]["reduced"][0]["detail"])


if __name__ == "__main__":
    sys.exit(main())
