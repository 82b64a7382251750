"""The table of results, in Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.loads import Scene

Cost = tuple[float, int]  # CPU seconds, peak KiB

# The limits that the project set itself: CPU of the agent as a multiple of ss's, on the load of full size.
LIMITS = {"quiet": 2.0, "busy": 0.8, "owners": 1.2, "established": 0.6, "namespaces": 0.1, "mixed": 0.8}
MEMORY_LIMIT = 40  # MiB
TOOLS = ("ss", "agent", "python3 alone", "netstat", "lsof", "psutil")


@dataclass(frozen=True, slots=True)
class Measured:
    """What each tool cost on one load, round by round; None for a run that had to be ended."""

    name: str
    scene: Scene
    costs: Mapping[str, Sequence[Cost | None]]


def render(measured: Sequence[Measured], facts: Mapping[str, str], rounds: int, quick: bool) -> str:
    """The whole document."""
    return (
        "\n".join(
            [*_head(facts, rounds, quick), *(line for load in measured for line in _table(load, quick))]
        )
        + "\n"
    )


def _head(facts: Mapping[str, str], rounds: int, quick: bool) -> Iterator[str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "# What a census costs a host"
    yield ""
    yield "Written by `make bench-agent`; [docs/benchmarks.md](../docs/benchmarks.md) says what is measured."
    yield ""
    if quick:
        yield "**A quick run: loads of a twentieth of the size. It shows that the benchmark runs.**"
        yield ""
    yield f"- {now:%Y-%m-%d %H:%M} UTC, kernel {platform.release()}, {os.cpu_count()} cores ({processor()})"
    yield f"- {rounds} interleaved rounds; load average at the end {loads} (1, 5, 15 minutes)"
    yield "- noise: the machine may have had other work, and the loads themselves raise its load average:"
    yield "  trust the ratios more than the milliseconds"
    for name, value in facts.items():
        yield f"- {name}: {value}"


def processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123  (no file to name)
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _table(load: Measured, quick: bool) -> Iterator[str]:
    yield ""
    yield f"## {load.name}: {describe(load.scene)}"
    yield ""
    yield "| tool | CPU ms, median | lowest | of ss | peak MiB | limit |"
    yield "|---|---|---|---|---|---|"
    for tool in TOOLS:
        yield _row(tool, load, None if quick else LIMITS.get(load.name))


def _row(tool: str, load: Measured, limit: float | None) -> str:
    runs = load.costs.get(tool)
    if runs is None:
        return f"| {tool} | not installed | | | | |"
    done = [run for run in runs if run]
    if len(done) < len(runs):
        return f"| {tool} | {len(runs) - len(done)} of {len(runs)} runs ended by a signal | | | | |"
    cpu = [run[0] * 1000 for run in done]
    peak = max(run[1] for run in done) / 1024
    ratio = compare(done, load.costs.get("ss", ()))
    verdict = _verdict(ratio, peak, limit) if tool == "agent" and limit else ""
    shown = "" if ratio is None else f"{ratio:.2f}"
    return f"| {tool} | {statistics.median(cpu):.1f} | {min(cpu):.1f} | {shown} | {peak:.1f} | {verdict} |"


def compare(runs: Sequence[Cost], base: Sequence[Cost | None]) -> float | None:
    """The median of the ratios round by round: neighbours in time share the noise of the machine."""
    ratios = [run[0] / other[0] for run, other in zip(runs, base, strict=False) if other and other[0]]
    return statistics.median(ratios) if ratios else None


def _verdict(ratio: float | None, peak: float, limit: float) -> str:
    if ratio is None:
        return f"{limit} (no ss to compare with)"
    kept = ratio <= limit and peak <= MEMORY_LIMIT
    return f"{limit}, {MEMORY_LIMIT} MiB: {'kept' if kept else '**exceeded**'}"


def describe(scene: Scene) -> str:
    """A scene in words."""
    words = [
        f"{scene.processes:,} processes with {scene.processes * scene.fds:,} descriptors",
        f"{scene.listeners:,} listeners with {scene.owners:,} owners",
    ]
    if scene.connections:
        words.append(f"{scene.connections * 2:,} established sockets")
    if scene.namespaces:
        words.append(f"{scene.namespaces} more network namespaces with 5 listeners each")
    if scene.neighbours:
        words.append(f"beside a container with {scene.neighbours * 2:,} established sockets")
    return ", ".join(words)
