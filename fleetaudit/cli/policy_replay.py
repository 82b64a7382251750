"""`fleetaudit policy replay`: what a change of policies would change on recorded hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.recorded import RECORDED_STATE, open_recorded
from fleetaudit.derive import derive
from fleetaudit.inputs import contexts_of, read_policies
from fleetaudit.judgement import require_targets
from fleetaudit.model import Verdict
from fleetaudit.policy.replay import Flip, Kind, Replay, RuleKey
from fleetaudit.report.phrases import sentence
from fleetaudit.saved import index
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_SCHEMA: Final = "fleetaudit.replay/1"
_SHOWN = 3  # reasons below a rule
_TITLES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.NEWLY_FAILING: "NEWLY FAILING",
        Kind.NEWLY_ERROR: "NEWLY NOT JUDGED (error)",
        Kind.NEWLY_UNKNOWN: "NEWLY UNKNOWN",
        Kind.NO_LONGER_FAILING: "no longer failing",
        Kind.OTHER: "other changes",
    }
)


@click.command("replay")
@click.option(
    "--before", "old", multiple=True, required=True, metavar="POLICY", help="The policies as they are."
)
@click.option(
    "--after", "new", multiple=True, required=True, metavar="POLICY", help="The policies as they would be."
)
@click.option(
    "--from",
    "recorded",
    multiple=True,
    required=True,
    metavar="SNAPSHOTS|RUN",
    help="Recorded hosts: files of snapshots, or ids of kept runs.",
)
@click.option("-i", "--inventory", multiple=True, metavar="SOURCE", help="Groups and variables, now.")
@click.option("--latest", is_flag=True, help="Of two snapshots of one host, judge the later.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@RECORDED_STATE
def command(
    *,
    old: tuple[str, ...],
    new: tuple[str, ...],
    recorded: tuple[str, ...],
    inventory: tuple[str, ...],
    latest: bool,
    style: str,
    state: str | None,
) -> int:
    """Say which host x rule verdicts flip when policies change, on hosts recorded before.

    Exit code 1: something newly fails, or newly is unknown or an error; 2: a policy or file is wrong.
    """
    found = Replay(read_policies(old), read_policies(new))
    contexts, _ = contexts_of(inventory)
    with ExitStack() as stack:
        files, is_run = open_recorded(recorded, state, stack)
        saved = index(files, latest=latest or is_run)
        hosts = [(host, contexts.get(host, context)) for host, context in saved.targets]
        require_targets((*found.before, *found.after), hosts)
        for outcome in saved:
            found.add(derive(replace(outcome, context=contexts.get(outcome.host, outcome.context))))
    if found.unseen:
        say(f"warning: {len(found.unseen)} of {found.hosts} hosts have no snapshot and say nothing")
    click.echo(_as_json(found) if style == "json" else "\n".join(_as_text(found)))
    return ExitCode.VIOLATIONS if found.stops else ExitCode.COMPLIANT


# ---------------------------------------------------------------- for people


def _as_text(found: Replay) -> Iterator[str]:
    counts = ", ".join(f"{len(found.of(kind))} {title.lower()}" for kind, title in _TITLES.items())
    yield f"{counts}; {found.hosts} hosts, {len(found.unseen)} without a snapshot"
    for words, rules in (("added", found.added), ("removed", found.removed)):
        if rules:
            yield f"rules {words}: {', '.join(map(_rule_name, rules))}"
    for kind, title in _TITLES.items():
        flips = found.of(kind)
        if flips:
            yield ""
            yield title
            for group in _alike(flips):
                yield from _group_text(group)


def _alike(flips: Sequence[Flip]) -> Iterator[tuple[Flip, ...]]:
    """The flips of one rule between the same verdicts, together."""
    groups: dict[tuple[str, str, str, str], list[Flip]] = {}
    for flip in flips:
        key = (flip.policy, flip.rule, _word(flip.before), _word(flip.after))
        groups.setdefault(key, []).append(flip)
    yield from map(tuple, groups.values())


def _group_text(group: Sequence[Flip]) -> Iterator[str]:
    first = group[0]
    hosts = ", ".join(visible(flip.host) for flip in group)
    name = _rule_name((first.policy, first.rule))
    change = f"{_word(first.before)} -> {_word(first.after)}"
    more = " (other findings)" if first.before is first.after else ""
    yield f"  {first.severity.value}  {name}: {change}{more} on {len(group)}: {hosts}"
    reasons = [(flip.host, finding) for flip in group for finding in flip.findings]
    for host, finding in reasons[:_SHOWN]:
        yield f"    {visible(host)}: {sentence(finding)}"
    if len(reasons) > _SHOWN:
        yield f"    and {len(reasons) - _SHOWN} more findings"


def _rule_name(key: RuleKey) -> str:
    return visible("/".join(key))


def _word(verdict: Verdict | None) -> str:
    return "not judged" if verdict is None else verdict.value.replace("_", " ")


# ---------------------------------------------------------------- for programs


def _as_json(found: Replay) -> str:
    document = {
        "schema": _SCHEMA,
        "summary": {
            "hosts": found.hosts,
            "without_snapshot": sorted(found.unseen),
            **{kind.value: len(found.of(kind)) for kind in Kind},
        },
        "rules": {
            "added": [_named(key) for key in found.added],
            "removed": [_named(key) for key in found.removed],
        },
        "flips": [_flip(flip) for kind in Kind for flip in found.of(kind)],
    }
    return json.dumps(document, indent=2)


def _named(key: RuleKey) -> dict[str, str]:
    return {"policy": key[0], "rule": key[1]}


def _flip(flip: Flip) -> dict[str, object]:
    return {
        "kind": flip.kind.value,
        "host": flip.host,
        "policy": flip.policy,
        "rule": flip.rule,
        "severity": flip.severity.value,
        "before": flip.before.value if flip.before else None,
        "after": flip.after.value if flip.after else None,
        "findings": [
            {
                "verdict": finding.verdict.value,
                "reason": finding.reason,
                "about": sentence(finding),
                "fingerprint": finding.fingerprint,
            }
            for finding in flip.findings
        ],
    }
