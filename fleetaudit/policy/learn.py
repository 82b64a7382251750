"""`policy learn`: a baseline policy from recorded hosts, as text that a person reads and edits.

Hosts are not trusted: whatever they say is quoted, or in a comment that it cannot end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import Outcome
from fleetaudit.policy.learn_classes import HostClass, classes
from fleetaudit.policy.learn_rules import Finding, Hosts, Learnt, Outlier, Threshold, learn_class
from fleetaudit.policy.learn_seen import Seen
from fleetaudit.text import visible
from fleetaudit.yamlio import MAX_BYTES

_NAMED: Final = 5  # hosts that a comment names
_MOST_TOLD: Final = 200  # lines about what was not learnt
_LONGEST_COMMENT: Final = 300
_DATAGRAMS: Final = ("udp", "udplite")
_ODD: Final = re.compile(r"[^A-Za-z0-9]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_/.-]+|[A-Za-z][A-Za-z0-9_.-]*(?:[ ,]{1,2}[A-Za-z0-9_.-]+)*")
_WORDS_OF_YAML: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


@dataclass(slots=True)
class Learner:
    """What recorded hosts teach. `targets` are all of them with their groups, known before any is added."""

    targets: Sequence[tuple[str, Sequence[str]]]
    by_group: bool = False
    threshold: Threshold = field(default_factory=Threshold)
    allow_shells: bool = False
    _classes: tuple[HostClass, ...] = ()
    _seen: dict[str | None, Seen] = field(default_factory=dict)
    _class_of: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        everybody = frozenset(host for host, _ in self.targets)
        self._classes = classes(self.targets) if self.by_group else (HostClass(None, everybody),)
        self._seen = {item.pattern: Seen(self.allow_shells) for item in self._classes}
        self._class_of = {host: item.pattern for item in self._classes for host in item.hosts}

    def add(self, outcome: Outcome) -> None:
        """Take in one derived host."""
        seen = self._seen[self._class_of[outcome.host]]
        if outcome.snapshot is None:
            seen.without.add(outcome.host)
        else:
            seen.add(outcome.host, outcome.snapshot)

    def policy(self, name: str = "baseline") -> str:
        """The policy as YAML. The same hosts give the same text, in whatever order they were added.

        Raises ConfigError for a name that no policy can have, and for a policy too large to be read.
        """
        if not _NAME.fullmatch(name):
            hint = "letters, digits, . _ and -, at most 100"
            raise ConfigError(Problem(f"'{visible(name)}' is no name for a policy", hint=hint))
        text = "\n".join((*self._head(name), *self._rules(), *self._last())) + "\n"
        if len(text.encode()) > MAX_BYTES:
            message = f"the policy would have {len(text)} characters, too many to be read again"
            raise ConfigError(Problem(message, hint="raise --min-share, or learn from fewer hosts"))
        return text

    # ------------------------------------------------------------ parts of the text

    def _head(self, name: str) -> Iterator[str]:
        hosts: Hosts = frozenset().union(*(seen.hosts for seen in self._seen.values()))
        yield "# yaml-language-server: $schema=policy.schema.json"
        yield f"# Learnt from what {_number(len(hosts))} listened on. Hosts say of themselves what they like:"
        yield "# review what is right, what was not learnt, who may bind where. Then it is yours to edit."
        yield from _comment(f"Learnt is what {self._told_threshold()}.")
        partial = frozenset().union(*(seen.partial for seen in self._seen.values()))
        without = frozenset().union(*(seen.without for seen in self._seen.values()))
        if partial:
            yield from _comment(
                f"Seen in part only, {_named(partial)}: what was seen there counts, what is hidden is not "
                "learnt, and rules there may be unknown."
            )
        if without:
            yield from _comment(f"Without a snapshot, and so not counted, {_named(without)}.")
        if self.by_group and len(self._classes) == 1:
            yield from _comment("The inventory's groups do not tell these hosts apart: one class.")
        yield "version: 1"
        yield f"name: {_scalar(name)}"
        yield "description: What these hosts listen on, and nothing else."
        yield "rules:"

    def _told_threshold(self) -> str:
        share = self.threshold.share
        if not share:
            return "any host has"
        return f"at least {share:g} % of the hosts have, and two hosts where there are five or more"

    def _rules(self) -> Iterator[str]:
        names = _Names()
        learnt = {key: learn_class(seen, self.threshold) for key, seen in self._seen.items() if seen.hosts}
        everywhere, own = _shared({key: rules for key, (rules, _) in learnt.items()})
        for pattern, rules in ((None, everywhere), *own.items()):
            for rule in _merged(rules):
                yield from _rule(rule, pattern, names)
        lines = [
            f"{_on(outlier)}{_of_class(pattern)}: {outlier.words}"
            for pattern, (_, outliers) in learnt.items()
            for outlier in outliers
        ]
        for what in sorted({what for seen in self._seen.values() for what in seen.elsewhere}):
            hosts: Hosts = frozenset().union(
                *(seen.elsewhere.get(what, set()) for seen in self._seen.values())
            )
            lines.append(f"listeners {what}, on {_named(hosts)}: no rule here judges them")
        if lines:
            yield "  # NOT LEARNT. Nothing approves these: `nothing-else` fails until they end or get a rule."
        for line in lines[:_MOST_TOLD]:
            yield from _comment(line, "  #   ")
        if len(lines) > _MOST_TOLD:
            yield f"  #   and {len(lines) - _MOST_TOLD} more: see what `nothing-else` finds"
        if lines:
            yield ""

    def _last(self) -> Iterator[str]:
        denied = "inherited: [leak, orphan]"
        if self.allow_shells:
            yield "  # Shells may own what the rules above name: --allow-shells was given."
            entries = [f"{{shell: false, {denied}}}"]
        else:
            entries = ["{shell: true}", f"{{{denied}}}"]
        yield "  - id: no-shell-or-leak"
        yield "    title: No shell holds a listening socket, and none leaked"
        yield "    severity: critical"
        yield "    listeners: {netns: host}"
        yield "    deny_owners:"
        yield from (f"      - {entry}" for entry in entries)
        yield "    remediation: End the program that holds it, and set close-on-exec on the server's sockets."
        yield ""
        yield "  - id: nothing-else"
        yield "    title: Nothing else listens"
        yield "    severity: high"
        yield "    listeners: {approved: false}"
        yield "    expect: none"
        yield "    remediation: Stop the service, or add a rule with its port, its owners and the reason."


# ---------------------------------------------------------------- rules in order


def _shared(
    learnt: Mapping[str | None, Sequence[Learnt]],
) -> tuple[list[Learnt], dict[str | None, list[Learnt]]]:
    """Rules that all classes have alike, and those of each class alone."""
    if len(learnt) <= 1:
        return [rule for rules in learnt.values() for rule in rules], {}
    places: dict[tuple[object, ...], dict[str | None, Learnt]] = {}
    for key, rules in learnt.items():
        for rule in rules:
            places.setdefault((rule.ports, rule.content), {})[key] = rule
    everywhere = []
    own: dict[str | None, list[Learnt]] = {key: [] for key in learnt}
    for found in places.values():
        if len(found) == len(learnt):
            first = next(iter(found.values()))
            everywhere.append(replace(first, findings=(_sum([rule.findings[0] for rule in found.values()]),)))
        else:
            for key, rule in found.items():
                own[key].append(rule)
    return sorted(everywhere, key=_turn), {key: sorted(rules, key=_turn) for key, rules in own.items()}


def _turn(rule: Learnt) -> tuple[object, ...]:
    return (
        rule.program is not None,
        rule.ports,
        rule.protocol,
        rule.content[1:2] != (None,),
        repr(rule.content),
    )


def _sum(findings: Sequence[Finding]) -> Finding:
    """What was found in several classes, as one."""
    first = findings[0]
    by_words = sorted((it for finding in findings for it in finding.outliers), key=lambda it: it.words)
    outliers = []
    for words, same in groupby(by_words, key=lambda it: it.words):
        items = list(same)
        hosts: Hosts = frozenset().union(*(item.hosts for item in items))
        outliers.append(Outlier(words, hosts, sum(item.among for item in items)))
    return Finding(
        first.label,
        sum(finding.hosts for finding in findings),
        sum(finding.among for finding in findings),
        sum(finding.as_learnt for finding in findings),
        tuple(outliers),
    )


def _merged(rules: Sequence[Learnt]) -> Iterator[Learnt]:
    """Ports with the same owners as one rule, where the first of them stands."""
    groups: dict[tuple[object, ...], list[Learnt]] = {}
    for rule in rules:
        groups.setdefault(rule.content, []).append(rule)
    for same in groups.values():
        yield replace(
            same[0],
            ports=tuple(sorted(port for rule in same for port in rule.ports)),
            findings=tuple(finding for rule in same for finding in rule.findings),
        )


# ---------------------------------------------------------------- one rule as text


class _Names:
    """Ids of rules, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = {"no-shell-or-leak", "nothing-else"}

    def give(self, words: str) -> str:
        base = _ODD.sub("-", words).strip("-").lower()[:80].rstrip("-") or "rule"
        name, number = base, 1
        while name in self._given:
            number += 1
            name = f"{base}-{number}"
        self._given.add(name)
        return name


def _rule(rule: Learnt, pattern: str | None, names: _Names) -> Iterator[str]:
    for finding in rule.findings:
        yield from _finding(finding)
    where = _ports_in_words(rule)
    who = _owners_in_words(rule)
    short = where if len(rule.ports) <= 3 else f"{rule.protocol} {rule.ports[0]} and more"
    yield f"  - id: {names.give(f'{who} {short} {pattern or str()}')}"
    yield f"    title: {_scalar(f'{where}: only {who}')}"
    yield "    severity: high"
    if pattern is not None:
        yield f"    hosts: {_scalar(pattern)}"
    yield f"    listeners: {_flow(_selector(rule))}"
    if rule.scopes is not None:
        yield f"    scope: {_flow(list(rule.scopes))}"
    yield "    allow_owners:"
    yield from (f"      - {_flow(entry)}" for entry in rule.entries)
    yield "    remediation: Stop the other process, or add it here with a reason."
    yield ""


def _selector(rule: Learnt) -> Mapping[str, object]:
    if rule.program is None or rule.span is None:
        return {"protocol": rule.protocol, "port": _spans(rule.ports)}
    kind, value = rule.program
    owner = {"exe_in_container": value, "container": "*"} if kind == "container" else {"exe": value}
    if rule.protocol in _DATAGRAMS:
        return {"protocol": rule.protocol, "ephemeral": True, "owner": owner}
    return {"protocol": rule.protocol, "port": "{}-{}".format(*rule.span), "owner": owner}


def _spans(ports: Sequence[int]) -> object:
    """Ports as few numbers and ranges."""
    spans: list[list[int]] = []
    for port in ports:
        if spans and port == spans[-1][-1] + 1:
            spans[-1].append(port)
        else:
            spans.append([port])
    found: list[object] = []
    for span in spans:
        found += [f"{span[0]}-{span[-1]}"] if len(span) > 2 else span
    return found[0] if len(found) == 1 else found


def _ports_in_words(rule: Learnt) -> str:
    if rule.program is not None:
        return f"{rule.protocol} ports that vary"
    spans = _spans(rule.ports)
    return f"{rule.protocol} {', '.join(map(str, spans)) if isinstance(spans, list) else spans}"


def _owners_in_words(rule: Learnt) -> str:
    names = [
        str(entry.get("exe", entry.get("exe_in_container", "the kernel"))).rsplit("/", 1)[-1]
        for entry in rule.entries
    ]
    plain = [
        _ODD.sub("-", name).strip("-")[:30] or "program" if "kernel" not in name else name for name in names
    ]
    return " and ".join(dict.fromkeys(plain[:3])) + (" and others" if len(plain) > 3 else "")


def _finding(finding: Finding) -> Iterator[str]:
    text = f"{finding.label}: on {finding.hosts} of {_number(finding.among)}"
    if finding.outliers:
        text += f", on {finding.as_learnt} of them as below"
    yield from _comment(text, "  # ")
    for outlier in finding.outliers:
        yield from _comment(f"NOT LEARNT {_on(outlier)}: {outlier.words}", "  #   ")


def _on(outlier: Outlier) -> str:
    return f"on {len(outlier.hosts)} of {_number(outlier.among)}, {_names(outlier.hosts)}"


def _of_class(pattern: str | None) -> str:
    return f" [{pattern}]" if pattern else ""


def _named(hosts: Hosts) -> str:
    return f"{_number(len(hosts))}: {_names(hosts)}"


def _number(hosts: int) -> str:
    return "1 host" if hosts == 1 else f"{hosts} hosts"


def _names(hosts: Hosts) -> str:
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return ", ".join(sorted(hosts)[:_NAMED]) + more


# ---------------------------------------------------------------- YAML


def _comment(text: str, begin: str = "# ") -> Iterator[str]:
    """One comment: nothing in it ends the line, nor speaks to lint or an editor."""
    shown = (
        visible(text)
        .replace("fleetaudit:", "fleetaudit\\u003a")
        .replace("language-server:", "language-server\\u003a")
    )
    cut = f"{shown[:_LONGEST_COMMENT]}..." if len(shown) > _LONGEST_COMMENT else shown
    yield f"{begin}{cut}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else _scalar(str(value), flow=True)


def _scalar(text: str, *, flow: bool = False) -> str:
    """The text as a YAML scalar that reads back the same (https://yaml.org/spec/1.2.2/#57-escaped-characters)."""
    plain = _PLAIN.fullmatch(text) and not (flow and "," in text)
    if plain and text.lower() not in _WORDS_OF_YAML:
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    number = ord(char)
    if char in '"\\':
        return f"\\{char}"
    if " " <= char <= "~":
        return char
    return (
        f"\\x{number:02x}"
        if number <= 0xFF
        else f"\\u{number:04x}"
        if number <= 0xFFFF
        else f"\\U{number:08x}"
    )
