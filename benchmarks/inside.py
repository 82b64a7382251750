"""Process 1 of a load's namespaces: builds the load, runs the tools in turns, prints what they cost.

    python -m benchmarks.inside '{"scene": [..], "rounds": 5, "spread": true, "tools": {"ss": [..]}}'

Prints {tool: [[CPU seconds, peak KiB], ...]}, a pair per round, or null for a run that a signal ended.
Stays until stdin ends. With `spread`, tools that see one network namespace (those without stdin) run once in
each, summed up.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from benchmarks.loads import Scene, build

_LONGEST = 300  # seconds of wall time for one run; what takes longer is not waited for
_LIBC = ctypes.CDLL(None, use_errno=True)
Tool = tuple[str, str, list[str]]  # where stdin comes from, where stdout goes, the command
Cost = tuple[float, int]


def main() -> None:
    """Measure one load as the argument says."""
    orders = json.loads(sys.argv[1])
    spaces = build(Scene(*orders["scene"]))
    places = ["/proc/self/ns/net", *(f"/proc/{pid}/ns/net" for pid in spaces)]
    tools: dict[str, Tool] = orders["tools"]
    costs: dict[str, list[Cost | None]] = {name: [] for name in tools}
    names = list(tools)
    for turn in range(orders["rounds"] + 1 if names else 0):  # the first is to warm up
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            everywhere = orders["spread"] and not tools[name][0]
            cost = total([run(tools[name], place) for place in (places if everywhere else places[:1])])
            if turn:
                costs[name].append(cost)
    print(json.dumps(costs), flush=True)
    sys.stdin.read()  # a load that nothing is measured in is there for others


def total(costs: list[Cost | None]) -> Cost | None:
    """CPU added up, the highest peak; None if a run did not end by itself."""
    known = [cost for cost in costs if cost]
    if len(known) < len(costs):
        return None
    return sum(cost[0] for cost in known), max(cost[1] for cost in known)


def run(tool: Tool, place: str) -> Cost | None:
    """CPU seconds (user and system, children included) and peak KiB of one run in a network namespace."""
    stdin, stdout, argv = tool
    pid = os.fork()
    if pid == 0:
        _become(stdin, stdout, argv, place)
    _, status, usage = os.wait4(pid, 0)
    return (usage.ru_utime + usage.ru_stime, usage.ru_maxrss) if os.WIFEXITED(status) else None


def _become(stdin: str, stdout: str, argv: list[str], place: str) -> None:
    try:
        os.dup2(os.open(stdin or os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(stdout or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        enter(place)
        signal.alarm(_LONGEST)
        os.execv(argv[0], argv)
    except OSError:
        os.kill(os.getpid(), signal.SIGKILL)


def enter(place: str) -> None:
    """Live in another network namespace from now on. Raises OSError."""
    if _LIBC.setns(os.open(place, os.O_RDONLY), 0):
        raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    main()
