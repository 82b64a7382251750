"""Process 1 of the clients' namespaces: starts the fleet in a pid namespace beside it, runs clients in turns.

    python -m benchmarks.fleet_inside ORDERS.json

ORDERS: {"hosts": {...} (see fleet_hosts), "delay": seconds one way or null, "rounds": n, "seconds": limit
of a run, "jobs": {client: Job}}. Prints {client: [Cost, ...]}, one a round.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from benchmarks.loads import raise_loopback

_LOOK_SECONDS = 0.01


class Job(TypedDict):
    """One client: its command line, where it runs, where its words go, and what shows a host's answer."""

    argv: list[str]
    folder: str
    output: str
    answers: tuple[str, str]


class Cost(TypedDict):
    """What one run took: CPU seconds of the whole tree, the largest process in KiB, wall seconds."""

    cpu: float
    peak: int
    wall: float
    answers: int
    status: int | None
    said: float | None


def main() -> None:
    """Measure every job as the orders say."""
    orders = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    raise_loopback()
    jobs: dict[str, Job] = orders["jobs"]
    costs: dict[str, list[Cost]] = {name: [] for name in jobs}
    names = list(jobs)
    with standing(orders["hosts"], orders["delay"]) as fleet:
        for turn in range(orders["rounds"]):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                cost = run(jobs[name], orders["seconds"], fleet)
                costs[name].append(cost)
                print(f"  {name}: {cost}", file=sys.stderr, flush=True)
    print(json.dumps(costs), flush=True)


@contextmanager
def standing(hosts: dict[str, Any], delay: float | None) -> Iterator[int]:
    """The fleet, there as long as the context; behind a delayed link if so asked. Gives its process."""
    program = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    program += [sys.executable, "-S", "-m", "benchmarks.fleet_hosts", json.dumps(hosts)]
    if delay is not None:
        program = [sys.executable, "-S", "-m", "benchmarks.delay", str(delay), *program]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if not process.stdout or process.stdout.readline() != b"ready\n":
            raise RuntimeError("the fleet could not be started: its own words are above")
        yield process.pid


def run(job: Job, seconds: float, fleet: int) -> Cost:
    """One run of a client, and of all that it leaves behind, which ends up here: this is process 1."""
    with suppress(FileNotFoundError):
        Path(job["answers"][0]).unlink()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(job)
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > began + seconds:
            os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
    wall = time.monotonic() - began
    _, status, usage = os.wait4(pid, 0)
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
    for left in _orphans(fleet):
        cpu += left.ru_utime + left.ru_stime
        peak = max(peak, left.ru_maxrss)
    told = Path(job["output"]).read_text(encoding="utf-8", errors="replace")
    took = re.search(r"^seconds ([0-9.]+)$", told, re.MULTILINE)
    return {
        "cpu": cpu,
        "peak": peak,
        "wall": wall,
        "answers": _count(*job["answers"]),
        "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "said": float(took[1]) if took else None,
    }


def _become(job: Job) -> None:
    try:
        os.setsid()
        os.chdir(job["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execvp(job["argv"][0], job["argv"])
    except OSError as error:  # in a fork nothing may unwind into the parent's code
        os.write(2, f"{job['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _orphans(fleet: int) -> Iterator[Any]:
    """End what a client left running (ssh's ControlPersist masters), and what each of them cost."""
    while True:
        left = [pid for pid in _children() if pid != fleet]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            yield os.wait4(pid, 0)[2]


def _children() -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                fields = Path(entry.path, "stat").read_text(encoding="ascii", errors="replace")
                if fields.rpartition(")")[2].split()[1] == str(os.getpid()):
                    found.append(int(entry.name))
    return found


def _count(file: str, pattern: str) -> int:
    try:
        return len(re.findall(pattern, Path(file).read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return 0


if __name__ == "__main__":
    main()
