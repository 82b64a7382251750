"""The tables of the fleet benchmark, in Markdown, with the limits that the project set itself."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.fleet_inside import Cost
from benchmarks.results import processor

OWN, BARE = "fleetaudit audit", "paramiko, bare"
ANSIBLE, PYINFRA = "ansible -m script", "pyinfra server.script"
CLIENTS = (OWN, BARE, "asyncssh", "parallel-ssh", "ssh2-python", PYINFRA, ANSIBLE)
# CPU of the whole audit as a multiple of another client's in the same round.
LIMITS = {BARE: 1.5, ANSIBLE: 0.1, PYINFRA: 1 / 3}
START_LIMIT = 0.150  # seconds of CPU
MEMORY_LIMIT = 200  # MiB
GROWTH_LIMIT = 1.15  # of the peak, from the smaller simulated fleet to the larger
LATENCY_LIMIT = 0.9  # of bare paramiko's wall time


@dataclass(frozen=True, slots=True)
class Fleet:
    """What each client cost on a fleet of this many hosts, round by round."""

    hosts: int
    costs: Mapping[str, Sequence[Cost]]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured. `starts`, `simulated` and `latency` are runs by name, as in a fleet."""

    fleets: Sequence[Fleet]
    starts: Mapping[str, Sequence[Cost]]
    simulated: Mapping[int, Cost]
    latency: Mapping[str, Sequence[Cost]]
    listeners: int
    facts: Mapping[str, str]
    rounds: int
    quick: bool


def render(results: Results) -> str:
    """The whole document."""
    lines = [*_head(results), *_starts(results), *_simulated(results), *_latency(results)]
    for fleet in results.fleets:
        lines += _fleet(fleet, results.quick)
    return "\n".join(lines) + "\n"


def _head(results: Results) -> Iterator[str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "# What a fleet costs the machine that asks it"
    yield ""
    yield "Written by `make bench-fleet`; [docs/benchmarks.md](../docs/benchmarks.md) says what is measured."
    yield ""
    if results.quick:
        yield "**A quick run: four hosts and a small simulation. It shows that the benchmark runs.**"
        yield ""
    yield f"- {now:%Y-%m-%d %H:%M} UTC, kernel {platform.release()}, {os.cpu_count()} cores ({processor()})"
    yield f"- {results.rounds} interleaved rounds; load average at the end {loads} (1, 5, 15 minutes)"
    yield "- servers and clients share these cores, and the machine may have had other work: trust the"
    yield "  ratios, and of the wall times only those under latency"
    for name, value in results.facts.items():
        yield f"- {name}: {value}"


def _fleet(fleet: Fleet, quick: bool) -> Iterator[str]:
    yield ""
    yield f"## {fleet.hosts} hosts"
    yield ""
    yield "| client | CPU ms a host, median | lowest | of bare paramiko | largest process MiB | wall s |"
    yield "|---|---|---|---|---|---|"
    for client in CLIENTS:
        yield _row(client, fleet)
    if not quick:
        yield ""
        for other, limit in LIMITS.items():
            yield f"- {_limit(fleet, other, limit)}"


def _row(client: str, fleet: Fleet) -> str:
    runs = fleet.costs.get(client)
    if runs is None:
        return f"| {client} | not installed | | | | |"
    done = whole(runs, fleet.hosts)
    if not done:
        answers = ", ".join(str(run["answers"]) for run in runs)
        return f"| {client} | failed: {answers} of {fleet.hosts} hosts answered | | | | |"
    cpu = [run["cpu"] * 1000 / fleet.hosts for run in done]
    ratio = compare(runs, fleet.costs.get(BARE, ()), fleet.hosts)
    shown = "" if ratio is None else f"{ratio:.2f}"
    peak = max(run["peak"] for run in done) / 1024
    wall = statistics.median(run["wall"] for run in done)
    name = client if len(done) == len(runs) else f"{client} ({len(runs) - len(done)} of {len(runs)} failed)"
    return f"| {name} | {statistics.median(cpu):.2f} | {min(cpu):.2f} | {shown} | {peak:.0f} | {wall:.1f} |"


def whole(runs: Sequence[Cost], hosts: int) -> list[Cost]:
    """The runs in which every host answered: a cheap run that lost one is worth nothing."""
    return [run for run in runs if run["answers"] == hosts and run["status"] is not None]


def compare(runs: Sequence[Cost], base: Sequence[Cost], hosts: int) -> float | None:
    """The median of the CPU ratios round by round: neighbours in time share the noise of the machine."""
    ratios = [
        run["cpu"] / other["cpu"]
        for run, other in zip(runs, base, strict=False)
        if whole([run, other], hosts) == [run, other]
    ]
    return statistics.median(ratios) if ratios else None


def _limit(fleet: Fleet, other: str, limit: float) -> str:
    ratio = compare(fleet.costs.get(OWN, ()), fleet.costs.get(other, ()), fleet.hosts)
    return f"{OWN} against {other}: {_verdict(ratio, limit)}"


def _verdict(ratio: float | None, limit: float) -> str:
    if ratio is None:
        return "nothing to compare with"
    return f"{ratio:.3g}, limit {limit:.3g}: {'kept' if ratio <= limit else '**exceeded**'}"


def _starts(results: Results) -> Iterator[str]:
    yield ""
    yield "## Start-up"
    yield ""
    yield "| what | CPU ms, median | lowest | wall ms, median | limit |"
    yield "|---|---|---|---|---|"
    for name, runs in results.starts.items():
        cpu = [run["cpu"] for run in runs]
        wall = statistics.median(run["wall"] for run in runs)
        kept = "kept" if statistics.median(cpu) <= START_LIMIT else "**exceeded**"
        limit = f"{START_LIMIT * 1000:.0f} ms CPU: {kept}" if "fleetaudit" in name else ""
        row = f"{statistics.median(cpu) * 1000:.0f} | {min(cpu) * 1000:.0f} | {wall * 1000:.0f} | {limit}"
        yield f"| `{name}` | {row} |"


def _simulated(results: Results) -> Iterator[str]:
    yield ""
    yield "## Memory over simulated hosts"
    yield ""
    yield "One process, twenty rules, JSON and CSV; each host gives the answer that a real one with"
    yield f"{results.listeners} listeners gave."
    yield ""
    yield "| hosts | peak MiB | CPU ms a host | limit |"
    yield "|---|---|---|---|"
    peaks = [cost["peak"] / 1024 for cost in results.simulated.values()]
    for place, (hosts, cost) in enumerate(results.simulated.items()):
        growth = peaks[place] / peaks[0]
        kept = peaks[place] <= MEMORY_LIMIT if place == 0 else growth <= GROWTH_LIMIT
        limit = f"{MEMORY_LIMIT} MiB" if place == 0 else f"{growth:.2f} of the first row, {GROWTH_LIMIT}"
        verdict = "" if results.quick else f"{limit}: {'kept' if kept else '**exceeded**'}"
        yield f"| {hosts:,} | {peaks[place]:.0f} | {cost['cpu'] * 1000 / hosts:.1f} | {verdict} |"


def _latency(results: Results) -> Iterator[str]:
    yield ""
    yield "## One host, 50 ms away"
    yield ""
    yield "| client | wall ms from connect to answer, median | lowest |"
    yield "|---|---|---|"
    for name, runs in results.latency.items():
        walls = [run["said"] for run in runs if run["said"] is not None and run["answers"] == 1]
        if walls:
            yield f"| {name} | {statistics.median(walls) * 1000:.0f} | {min(walls) * 1000:.0f} |"
        else:
            yield f"| {name} | failed | |"
    if not results.quick:
        yield ""
        yield f"- {_latency_limit(results.latency)}"


def _latency_limit(latency: Mapping[str, Sequence[Cost]]) -> str:
    pairs = zip(latency.get(OWN_TRANSPORT, ()), latency.get(BARE, ()), strict=False)
    ratios = [one["said"] / other["said"] for one, other in pairs if one["said"] and other["said"]]
    ratio = statistics.median(ratios) if ratios else None
    return f"{OWN_TRANSPORT} against {BARE}: {_verdict(ratio, LATENCY_LIMIT)}"


OWN_TRANSPORT = "fleetaudit's transport"
