"""What judging costs: decode, twenty rules and the JSON report; and the rules alone beside OPA's language.

    python -m benchmarks.policy_cost [--hosts 10000] [--peer-hosts 200] [--peers PYTHON]

CPU time is that of whole processes (wait4(2)). The peer is regorus, as opa-eval wraps it, in the environment
of the peers; what it finds must be what fleetaudit finds, or there is no result.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import policy_world
from benchmarks.results import processor
from fleetaudit import yamlio
from fleetaudit.derive import derive
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.load import load
from fleetaudit.snapshot import decode_line

ROOT: Final = Path(__file__).resolve().parents[1]
LIMIT: Final = 30.0  # CPU seconds for 10,000 hosts
TIMES: Final = 5.0  # how many times cheaper than the peer
GROWTH: Final = 1.25  # peak memory of all hosts, of that for a tenth of them
_PEER: Final = """
import json, sys, time, opa_eval
lines = open(sys.argv[2]).read().splitlines()
empty = opa_eval.OpaEval(sys.argv[1], query="data.fleet.nothing")
rules = opa_eval.OpaEval(sys.argv[1], query="data.fleet.violations")
for engine in (empty, rules): engine.evaluate(lines[0])
def cost(engine):
    started = time.process_time()
    found = [engine.evaluate(line) for line in lines]
    return time.process_time() - started, found
parsed, _ = cost(empty)
whole, found = cost(rules)
print(json.dumps({"parsed": parsed, "whole": whole, "found": [json.loads(text) for text in found]}))
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """One whole run of `fleetaudit evaluate`: CPU seconds, peak memory in KiB."""

    hosts: int
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Beside:
    """Evaluation alone on the same hosts, in CPU seconds; `parsed` is what of it the peer spends on JSON."""

    hosts: int
    ours: float
    theirs: float
    parsed: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the table. Exit code 1 when a limit is broken on a run of full size."""
    parser = argparse.ArgumentParser(prog="policy_cost", description="Measure what judging policies costs.")
    parser.add_argument("--hosts", type=int, default=10_000, help="snapshots to judge (10000)")
    parser.add_argument(
        "--peer-hosts", type=int, default=200, help="snapshots to judge beside the peer (200)"
    )
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers/bin/python", help="has opa-eval")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/RESULTS-policy.md")
    given = parser.parse_args(arguments)
    if given.hosts < 10 or given.peer_hosts < 1:
        parser.error("--hosts is at least 10, --peer-hosts at least 1")
    with tempfile.TemporaryDirectory(prefix="fleetaudit-") as folder:
        runs = [judge(Path(folder), count) for count in (given.hosts // 10, given.hosts)]
        beside = compare(Path(folder), given.peer_hosts, given.peers)
    text, kept = render(runs, beside, _facts())
    given.output.write_text(text, encoding="utf-8")
    sys.stderr.write(f"policy_cost: wrote {given.output}\n")
    return 0 if kept else 1


def judge(folder: Path, count: int) -> Judged:
    """Judge saved snapshots with the command, one process. Raises RuntimeError when it ends otherwise."""
    saved, rules, report = folder / "snapshots.jsonl", folder / "policy.yaml", folder / "report.json"
    with saved.open("wb") as stream:
        stream.writelines(policy_world.snapshots(count))
    rules.write_text(json.dumps(policy_world.policy()), encoding="utf-8")
    command = [sys.executable, "-m", "fleetaudit", "evaluate", str(saved), "-p", str(rules)]
    command += ["-o", f"json={report}", "--quiet"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != (1 if count > 3 else 0):  # one host in ten breaks a rule, the fourth first
        raise RuntimeError(f"evaluate ended with {child.returncode}")
    return Judged(count, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def compare(folder: Path, count: int, peer: Path) -> Beside | None:
    """Evaluation alone, ours and the peer's; None where there is no peer. RuntimeError if they differ."""
    lines = list(policy_world.snapshots(count))
    document = yamlio.parse(json.dumps(policy_world.policy()).encode(), "policy.yaml")
    policies = load([(document, "")])
    outcomes = [derive(decode_line(line)) for line in lines]
    evaluate(outcomes[0], policies)
    started = time.process_time()
    audits = [evaluate(outcome, policies) for outcome in outcomes]
    ours = time.process_time() - started
    theirs = _peer(folder, lines, peer)
    if theirs is None:
        return None
    for audit, found in zip(audits, theirs["found"], strict=True):
        mine = sorted(
            [result.rule, finding.listener.inode if finding.listener else -1]
            for result in audit.results
            for finding in result.findings
            if finding.verdict.value == "fail"
        )
        if mine != sorted(found):
            raise RuntimeError(f"{audit.outcome.host}: fleetaudit found {mine}, the peer {sorted(found)}")
    return Beside(count, ours, theirs["whole"], theirs["parsed"])


def _peer(folder: Path, lines: Sequence[bytes], peer: Path) -> dict[str, Any] | None:
    rules, saved = folder / "rules.rego", folder / "few.jsonl"
    rules.write_text(policy_world.rego(), encoding="utf-8")
    saved.write_bytes(b"".join(lines))
    command = [str(peer), "-c", _PEER, str(rules), str(saved)]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        return None
    except subprocess.CalledProcessError as error:
        if b"No module named 'opa_eval'" in error.stderr:
            return None
        raise RuntimeError(error.stderr.decode(errors="replace")) from error
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _facts() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    where = f"kernel {platform.release()}, {os.cpu_count()} cores ({processor()})"
    where += f", Python {platform.python_version()}"
    return f"{now:%Y-%m-%d %H:%M} UTC, {where}; load average {loads} (1, 5, 15 minutes)"


def render(runs: Sequence[Judged], beside: Beside | None, facts: str = "") -> tuple[str, bool]:
    """The results, and whether they keep the limits, which are scaled to the number of hosts."""
    few, many = runs
    limit = LIMIT * many.hosts / 10_000
    growth = many.peak / few.peak
    kept = many.cpu <= limit and growth <= GROWTH
    rows = [
        "# What judging policies costs",
        "",
        "Written by `make bench-policy`. 50 listeners a host, 3 owners each, 20 rules; decoded, judged,",
        "reported as JSON by one process on one core.",
        "",
        facts,
        "",
        "| hosts | CPU s | limit | peak MiB |",
        "|---|---|---|---|",
        f"| {few.hosts:,} | {few.cpu:.1f} | | {few.peak / 1024:.0f} |",
        f"| {many.hosts:,} | {many.cpu:.1f} | {limit:.1f} | {many.peak / 1024:.0f} |",
        "",
        f"Ten times the hosts take {growth:.2f} times the memory; the limit is {GROWTH}.",
        "",
    ]
    if beside is None:
        return "\n".join([*rows, "The peer, opa-eval, could not be measured.", ""]), kept
    alone = beside.theirs - beside.parsed
    times = alone / beside.ours
    kept = kept and times >= TIMES
    rows += [
        f"The rules alone, on {beside.hosts} hosts, the same violations found:",
        "",
        "| what | CPU ms a host |",
        "|---|---|",
        f"| fleetaudit | {1000 * beside.ours / beside.hosts:.2f} |",
        f"| regorus (opa-eval) | {1000 * alone / beside.hosts:.2f} |",
        f"| regorus with reading its JSON | {1000 * beside.theirs / beside.hosts:.2f} |",
        "",
        f"That is {times:.1f} times as much; the aim is {TIMES:.0f}.",
        "",
    ]
    return "\n".join(rows), kept


if __name__ == "__main__":
    sys.exit(main())
