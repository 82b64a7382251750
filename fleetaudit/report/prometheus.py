"""`prometheus`: metrics for node_exporter's textfile collector, in the text exposition format 0.0.4.

Hosts and run ids are no labels: the number of series is bounded by statuses, verdicts and rules, whatever
the fleet. Everything is a gauge, since a run is a state and no counter goes on from one to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from fleetaudit.model import Boundary, Report, Run, Severity, Summary, Verdict
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import FORMULA, compliance, denominators
from fleetaudit.report.phrases import clipped
from fleetaudit.report.times import epoch

RULES: Final = 1_000  # rules with series of their own, as they come; the rest are counted
_LABEL: Final = 200

Labels: TypeAlias = tuple[tuple[str, str], ...]
Rule: TypeAlias = tuple[str, str, Severity]


def prometheus(_options: RenderOptions) -> Renderer:
    """The renderer of `prometheus`; it has no options: passes are a count like the others."""
    return _render


def _render(report: Report) -> Iterator[bytes]:
    rules: dict[Rule, Counter[Verdict]] = {}
    untold: set[Rule] = set()
    endpoints = unapproved = containers = 0
    for audit in report.audits:
        endpoints += audit.endpoints
        unapproved += audit.unapproved
        containers += audit.outcome.context.boundary is Boundary.CONTAINER
        for result in audit.results:
            rule = (result.policy, result.rule, result.severity)
            if rule in rules or len(rules) < RULES:
                rules.setdefault(rule, Counter())[result.verdict] += 1
            else:
                untold.add(rule)
        yield b""
    summary = report.summary()
    lines = [
        *_hosts(summary, containers),
        *_results(summary),
        *_rules(rules, len(untold)),
        *_gauge("endpoints", "Network endpoints seen in the hosts' own namespaces.", {(): endpoints}),
        *_gauge("endpoints_unapproved", "Those that no rule approves.", {(): unapproved}),
        *_run(report.run, summary),
    ]
    yield "".join(f"{line}\n" for line in lines).encode("utf-8")


def _hosts(summary: Summary, containers: int) -> Iterator[str]:
    for name, count in denominators(summary).items():
        yield from _gauge(f"hosts_{name.replace(' ', '_')}", f"Hosts {name}.", {(): count})
    statuses: dict[Labels, float] = {(("status", name),): count for name, count in summary.statuses.items()}
    about = "Targeted hosts by how far their audit came; ok and partial were reached."
    yield from _gauge("hosts", about, statuses)
    yield from _gauge("hosts_as_containers", "Hosts judged inside the container only.", {(): containers})


def _results(summary: Summary) -> Iterator[str]:
    verdicts: dict[Labels, float] = {(("verdict", name),): count for name, count in summary.results.items()}
    yield from _gauge("results", "Results, one per host and rule, by verdict; only pass is a pass.", verdicts)
    grave: dict[Labels, float] = {(("severity", name),): count for name, count in summary.severities.items()}
    yield from _gauge("results_failing", "Failing results by severity.", grave)
    wanting = sum(standing.wants_attention for standing in summary.waivers)
    yield from _gauge("waivers", "Waivers of the run.", {(): len(summary.waivers)})
    yield from _gauge("waivers_wanting_attention", "Expired, unused, over-broad and so on.", {(): wanting})
    share = compliance(summary)
    if share is not None:
        yield from _gauge("compliance_ratio", f"{FORMULA}.", {(): share})


def _rules(rules: Mapping[Rule, Counter[Verdict]], untold: int) -> Iterator[str]:
    samples: dict[Labels, float] = {}
    for (policy, rule, severity), counts in rules.items():
        about = (("policy", policy), ("rule", rule), ("severity", severity.value))
        for verdict in Verdict:
            # Labels are clipped, so two rules may have the same: their counts are added, not written twice.
            labels = (*((name, clipped(value, _LABEL)) for name, value in about), ("verdict", verdict.value))
            samples[labels] = samples.get(labels, 0) + counts[verdict]
    yield from _gauge("rule_results", "Results by policy, rule and verdict.", samples)
    yield from _gauge("rules_left_out", f"Rules past {RULES}, without series.", {(): untold})


def _run(run: Run, summary: Summary) -> Iterator[str]:
    yield from _gauge(
        "run_complete", f"1: the run was not interrupted. Scope: {NOTICE}.", {(): int(run.complete)}
    )
    yield from _gauge("exit_code", "0 compliant, 1 violations, 3 incomplete.", {(): int(summary.exit_code)})
    for name, time in (("start", run.started_at), ("end", run.finished_at)):
        seconds = epoch(time)
        if seconds is not None:
            yield from _gauge(f"run_{name}_timestamp_seconds", f"The {name} of the run.", {(): seconds})
    yield from _gauge("info", "The version of fleetaudit.", {(("version", clipped(run.version, _LABEL)),): 1})


def _gauge(name: str, about: str, samples: Mapping[Labels, float]) -> Iterator[str]:
    """A metric with its samples; none when there are none."""
    if not samples:
        return
    metric = f"fleetaudit_{name}"
    yield f"# HELP {metric} {_help(about)}"
    yield f"# TYPE {metric} gauge"
    for labels, value in samples.items():
        yield f"{metric}{_labels(labels)} {value!r}"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{_value(value)}"' for name, value in labels)
    return f"{{{text}}}" if text else ""


def _value(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
