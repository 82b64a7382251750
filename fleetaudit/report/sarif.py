"""`sarif`: SARIF 2.1.0 (OASIS standard, errata 01) for code scanning: results by rule, in the policy's file.

A violation is a result of kind `fail`, with a level by severity; a waived one is suppressed; what could not
be judged, and a host that was not audited, is `open` (section 3.27.9: not enough to decide). Each result is
of one host, which is its logical location, so that its fingerprint outlives runs. What GitHub takes is 10 MB,
25,000 results, of which it shows 5,000: past the limits the least grave are counted by rule, never dropped
without a word. argv is nowhere in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleetaudit.model import Finding, HostAudit, Report, Result, Run, Severity, Summary, Verdict
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import denominators_text, failure_reason, notes, unjudged_reason
from fleetaudit.report.phrases import clipped, sentence
from fleetaudit.report.places import uri
from fleetaudit.report.record import Json, encode, run_record, summary_record

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RESULTS: Final = 5_000
BYTES: Final = 8_000_000  # of results; rules and notifications come on top
NOTIFICATIONS: Final = 100

_MESSAGE: Final = 600
_NAME: Final = 200
_LEVELS: Final = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
# GitHub sorts by this number; its bands are critical over 9.0, high 7.0, medium 4.0, low 0.1.
_SCORES: Final = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.0",
    Severity.INFO: "0.0",
}
_KINDS: Final = {
    Verdict.FAIL: "fail",
    Verdict.WAIVED: "fail",
    Verdict.UNKNOWN: "open",
    Verdict.ERROR: "open",
    Verdict.NOT_APPLICABLE: "notApplicable",
    Verdict.PASS: "pass",
}
# The first to be kept is first here; violations are ranked by severity before all of these.
_ORDER: Final = (Verdict.ERROR, Verdict.UNKNOWN, Verdict.WAIVED, Verdict.NOT_APPLICABLE, Verdict.PASS)
_NOT_AUDITED: Final = "fleetaudit/host-not-audited"
_NOT_JUDGED: Final = "fleetaudit/host-not-judged"


def sarif(options: RenderOptions) -> Renderer:
    """The renderer of `sarif`; `include_pass` adds results of kind `pass` and `notApplicable`."""

    def render(report: Report) -> Iterator[bytes]:
        log = _Log(report.run, options)
        for audit in report.audits:
            log.add(audit)
            yield b""
        yield from log.document(report.summary())

    return render


@dataclass(slots=True)
class _Rule:
    """A reporting descriptor in the making, and the results of it that are kept or counted."""

    descriptor: Json
    file: str
    line: int
    left_out: int = 0


@dataclass(slots=True)
class _Kept:
    rule: str
    data: bytes


@dataclass(slots=True)
class _Log:
    """Gathers results by rule, the gravest first, in bounded memory."""

    run: Run
    options: RenderOptions
    rules: dict[str, _Rule] = field(default_factory=dict)
    ranks: dict[int, list[_Kept]] = field(default_factory=dict)
    notifications: list[Json] = field(default_factory=list)
    untold: int = 0
    count: int = 0
    size: int = 0

    def add(self, audit: HostAudit) -> None:
        """Take in one host."""
        host = audit.outcome.host
        if failed := failure_reason(audit):
            self._host(host, _NOT_AUDITED, f"the host was not audited: {failed}")
        elif reason := unjudged_reason(audit):
            self._host(host, _NOT_JUDGED, reason)
        if audit.outcome.snapshot is None:
            return  # that its rules are unknown is said by that result
        if not audit.outcome.snapshot.coverage.complete:
            self._notify("note", f"{host} was covered only in part: {audit.outcome.detail}")
        for result in audit.results:
            self._result(result)

    def _host(self, host: str, rule: str, reason: str) -> None:
        """What is to be said of a host and not of a rule: a result, and a notification of the run."""
        source = (*self.run.inventory, *self.run.policies)
        if rule not in self.rules:
            name = rule.rpartition("/")[2]
            descriptor = _descriptor(rule, name, "Every targeted host is audited and judged", "note", "0.0")
            self.rules[rule] = _Rule(descriptor, source[0].path if source else "inventory", 1)
        fingerprint = hashlib.sha256(f"{rule}\0{host}".encode("utf-8", "backslashreplace")).hexdigest()[:32]
        message = clipped(f"{host}: {reason}", _MESSAGE)
        self._keep(0, rule, _entry("open", "none", message, host, fingerprint))
        self._notify("error", f"{host}: {reason}")

    def _notify(self, level: str, text: str) -> None:
        if len(self.notifications) < NOTIFICATIONS:
            self.notifications.append({"level": level, "message": {"text": clipped(text, _MESSAGE)}})
        else:
            self.untold += 1

    def _result(self, result: Result) -> None:
        rule = f"{result.policy}/{result.rule}"
        if rule not in self.rules:
            self.rules[rule] = self._rule(rule, result)
        findings = result.findings or (Finding(result.verdict, f"{result.verdict.value}: {result.title}"),)
        for finding in findings:
            kind = _KINDS[finding.verdict]
            if kind in ("pass", "notApplicable") and not self.options.include_pass:
                continue
            level = _LEVELS[result.severity] if kind == "fail" else "none"
            fingerprint = finding.fingerprint or _of_result(result)
            text = clipped(f"{result.host}: {sentence(finding, _MESSAGE)}", _MESSAGE)
            entry = _entry(kind, level, text, result.host, fingerprint)
            if finding.new is not None:
                entry["baselineState"] = "new" if finding.new else "unchanged"
            if finding.verdict is Verdict.WAIVED:
                reason = clipped(finding.waiver or "a waiver", _MESSAGE)
                entry["suppressions"] = [{"kind": "external", "status": "accepted", "justification": reason}]
            self._keep(_rank(finding.verdict, result.severity), rule, entry)

    def _rule(self, name: str, result: Result) -> _Rule:
        descriptor = _descriptor(
            name, result.rule, result.title, _LEVELS[result.severity], _SCORES[result.severity]
        )
        if result.remediation:
            help_text = clipped(result.remediation)
            descriptor["help"] = {"text": help_text}
        tags = [f"{catalogue}:{item}" for catalogue, ids in sorted(result.controls.items()) for item in ids]
        properties = descriptor["properties"]
        if isinstance(properties, dict):
            # GitHub takes at most 20 tags of a rule.
            properties["tags"] = ["security", *dict.fromkeys(clipped(tag, _NAME) for tag in tags)][:20]
        files = {source.name: source.path for source in self.run.policies}
        return _Rule(descriptor, files.get(result.policy, result.policy), max(result.line, 1))

    def _keep(self, rank: int, rule: str, entry: Json) -> None:
        """Keep the result; when there are too many, count the least grave that came last instead."""
        entry = {"ruleId": clipped(rule, _NAME), **entry}
        kept = _Kept(rule, encode(_located(entry, self.rules[rule])))
        self.ranks.setdefault(rank, []).append(kept)
        self.count += 1
        self.size += len(kept.data)
        room = max(RESULTS - len(self.rules), 0)  # each rule may need one to say what was left out
        while self.count > room or self.size > BYTES:
            worst = max(place for place, entries in self.ranks.items() if entries)
            gone = self.ranks[worst].pop()
            self.rules[gone.rule].left_out += 1
            self.count -= 1
            self.size -= len(gone.data)

    def document(self, summary: Summary) -> Iterator[bytes]:
        """The whole log, results by rule in the order in which rules were met."""
        order = {rule: place for place, rule in enumerate(self.rules)}
        yield b'{"$schema": %b, "version": "2.1.0", "runs": [{\n' % encode(SCHEMA)
        yield b'"tool": {"driver": %b},\n' % encode(self._driver())
        yield b'"invocations": [%b],\n' % encode(self._invocation(summary))
        yield b'"automationDetails": {"id": "fleetaudit/"},\n"columnKind": "unicodeCodePoints",\n'
        facts = {"run": run_record(self.run), "summary": summary_record(summary), "notice": NOTICE}
        yield b'"properties": %b,\n"results": [' % encode(facts)
        kept = [item for rank in sorted(self.ranks) for item in self.ranks[rank]]
        entries = [(order[item.rule], item.data) for item in kept]
        entries += [
            (order[name], encode(_rest(name, rule))) for name, rule in self.rules.items() if rule.left_out
        ]
        separator = b"\n"
        for _, data in sorted(entries, key=lambda entry: entry[0]):
            yield separator + data
            separator = b",\n"
        yield b"\n]}]}\n"

    def _driver(self) -> Json:
        return {
            "name": "fleetaudit",
            "semanticVersion": self.run.version,
            "rules": [rule.descriptor for rule in self.rules.values()],
        }

    def _invocation(self, summary: Summary) -> Json:
        told = [
            *self.notifications,
            {"level": "note", "message": {"text": f"{denominators_text(summary)} hosts"}},
        ]
        told += [{"level": "note", "message": {"text": clipped(note)}} for note in notes(self.run, summary)]
        if self.untold:
            text = f"and {self.untold} more hosts that were not or not wholly covered"
            told.append({"level": "error", "message": {"text": text}})
        told += [
            {"level": "warning", "message": {"text": clipped(f"{it.file}:{it.line}: {it.detail}", _MESSAGE)}}
            for it in summary.waivers
            if it.wants_attention
        ][:NOTIFICATIONS]
        if not self.run.complete:
            told.append({"level": "error", "message": {"text": "the run was interrupted: hosts are missing"}})
        return {
            "executionSuccessful": self.run.complete and not summary.failed,
            "exitCode": int(summary.exit_code),
            "toolExecutionNotifications": told,
        }


def _rank(verdict: Verdict, severity: Severity) -> int:
    """What is kept first: hosts (0), violations by severity, then the other verdicts."""
    if verdict is Verdict.FAIL:
        return 1 + list(Severity).index(severity)
    return 1 + len(Severity) + _ORDER.index(verdict)


def _of_result(result: Result) -> str:
    parts = (result.host, result.policy, result.rule, result.verdict.value)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _descriptor(rule: str, name: str, title: str, level: str, score: str) -> Json:
    return {
        "id": clipped(rule, _NAME),
        "name": clipped(name, _NAME),
        "shortDescription": {"text": clipped(title, _NAME) or clipped(rule, _NAME) or "rule"},
        "defaultConfiguration": {"level": level},
        "properties": {"security-severity": score, "precision": "very-high", "tags": ["security"]},
    }


def _entry(kind: str, level: str, text: str, host: str, fingerprint: str) -> Json:
    return {
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "partialFingerprints": {"fleetauditFinding/v1": clipped(fingerprint, _NAME)},
        "host": host,
    }


def _located(entry: Json, rule: _Rule) -> Json:
    """The result with its place in the policy's file and its host as the logical place."""
    host = clipped(str(entry.pop("host")), _NAME)
    return entry | {"locations": [_location(rule, [host])]}


def _location(rule: _Rule, hosts: Sequence[str]) -> Json:
    physical = {"artifactLocation": {"uri": uri(rule.file)}, "region": {"startLine": rule.line}}
    logical = [{"name": host, "fullyQualifiedName": host, "kind": "resource"} for host in hosts]
    return (
        {"physicalLocation": physical, "logicalLocations": logical}
        if logical
        else {"physicalLocation": physical}
    )


def _rest(name: str, rule: _Rule) -> Json:
    """One result for what had no place."""
    text = (
        f"{rule.left_out} more results of this rule are not listed: at most {RESULTS} results are, the "
        f"gravest first. The JSON report has them all."
    )
    fingerprint = hashlib.sha256(f"more\0{name}".encode("utf-8", "backslashreplace")).hexdigest()[:32]
    return {
        "ruleId": clipped(name, _NAME),
        "kind": "open",
        "level": "none",
        "message": {"text": text},
        "partialFingerprints": {"fleetauditFinding/v1": fingerprint},
        "locations": [_location(rule, [])],
    }
