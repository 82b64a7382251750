"""`oscal`: assessment results in NIST's Open Security Controls Assessment Language 1.1.3, for audit tools.

An observation for each result that is no pass and for each host that was not audited, with its evidence; a
finding for each rule that anything was judged by, satisfied only where every targeted host that it is for
was audited and passed. A waived violation is not satisfied. Ids are of version 5, from what they name, so the
same run gives the same ones. Descriptions are Markdown in OSCAL: text from hosts is written so that it makes
no markup. argv is nowhere in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid5

from fleetaudit.model import Finding, HostAudit, HostStatus, Report, Result, Run, Source, Summary, Verdict
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import (
    FORMULA,
    compliance_text,
    counted,
    denominators,
    denominators_text,
    failure_reason,
    notes,
    unjudged_reason,
)
from fleetaudit.report.folding import Hosts
from fleetaudit.report.markup import literal
from fleetaudit.report.phrases import clipped, sentence
from fleetaudit.report.places import uri
from fleetaudit.report.record import Json, encode
from fleetaudit.report.times import epoch

VERSION: Final = "1.1.3"
NAMESPACE: Final = "https://fleetaudit.example/ns/oscal"

_IDS: Final = UUID("6f0dd5b0-62a8-5d0f-9a53-7f3a6e2c9b41")  # drawn once; every id is derived from it
_EVIDENCE: Final = 50  # of one observation
_NO_TIME: Final = "1980-01-01T00:00:00Z"  # where the run tells none: OSCAL must have one
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_NO_TOKEN: Final = re.compile(r"[^A-Za-z0-9._-]")
_ENHANCEMENT: Final = re.compile(r"\((\w+)\)")
_SATISFYING: Final = frozenset({Verdict.PASS, Verdict.NOT_APPLICABLE})


def oscal(options: RenderOptions) -> Renderer:
    """The renderer of `oscal`; without `include_pass` the hosts where a rule passes are one observation."""

    def render(report: Report) -> Iterator[bytes]:
        yield _head(report.run)
        ledger = _Ledger(report.run, options)
        separator = b"\n"
        for audit in report.audits:
            observations = [encode(item) for item in ledger.take(audit)]
            yield separator + b",\n".join(observations) if observations else b""
            separator = b",\n" if observations else separator
        yield from _tail(report.run, report.summary(), ledger, separator)

    return render


@dataclass(slots=True)
class _Rule:
    """What is remembered of a rule: counts, and the observations that speak of it."""

    first: Result
    counts: Counter[Verdict] = field(default_factory=Counter)
    observations: list[bytes] = field(default_factory=list)
    passed: Hosts = field(default_factory=Hosts)
    idle: Hosts = field(default_factory=Hosts)
    silent: int = 0

    def state(self) -> tuple[str, str]:
        """OSCAL's state and reason; satisfied needs a pass, and nothing but passes."""
        found = {verdict for verdict, count in self.counts.items() if count}
        if Verdict.FAIL in found:
            return ("not-satisfied", "fail")
        if not self.silent and Verdict.PASS in found and found <= _SATISFYING:
            return ("satisfied", "pass")
        return ("not-satisfied", "other")


@dataclass(slots=True)
class _Ledger:
    """Rules and hosts as they pass; observations are written at once."""

    run: Run
    options: RenderOptions
    rules: dict[tuple[str, str], _Rule] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    statuses: list[HostStatus] = field(default_factory=list)

    def take(self, audit: HostAudit) -> Iterator[Json]:
        """One host: its observations."""
        host = audit.outcome.host
        self.hosts.append(host)
        self.statuses.append(audit.outcome.status)
        reason = failure_reason(audit) or unjudged_reason(audit)
        about = None
        if reason:
            about = self._id("host", host)
            text = f"{host}: {reason}"
            yield self._observation(about, f"{host} was not judged", text, audit, [])
        for place, result in enumerate(audit.results):
            rule = self.rules.setdefault((result.policy, result.rule), _Rule(result))
            if audit.outcome.snapshot is None:
                rule.silent += 1
                if about:
                    rule.observations.append(about.bytes)
                continue
            rule.counts[result.verdict] += 1
            if result.verdict is Verdict.PASS:
                rule.passed.add(host)
            if result.verdict is Verdict.NOT_APPLICABLE:
                rule.idle.add(host)
            if result.verdict not in _SATISFYING or self.options.include_pass:
                yield self._result(rule, result, audit, place)

    def _result(self, rule: _Rule, result: Result, audit: HostAudit, place: int) -> Json:
        name = self._id("result", result.host, result.policy, result.rule, str(place))
        rule.observations.append(name.bytes)
        title = f"{result.verdict.value}: {result.policy}/{result.rule} on {result.host}"
        evidence = [_evidence(finding) for finding in result.findings[:_EVIDENCE]]
        if len(result.findings) > _EVIDENCE:
            evidence.append({"description": f"and {len(result.findings) - _EVIDENCE} more"})
        description = f"{result.title}: {result.verdict.value}, {counted(result.checked, 'listener')} judged"
        return self._observation(name, title, description, audit, evidence, verdict=result.verdict)

    def _observation(
        self,
        name: UUID,
        title: str,
        description: str,
        audit: HostAudit,
        evidence: list[Json],
        *,
        verdict: Verdict = Verdict.UNKNOWN,
    ) -> Json:
        host = audit.outcome.host
        collected = audit.outcome.snapshot.collected_at if audit.outcome.snapshot else None
        made: Json = {
            "uuid": str(name),
            "title": _markup(title),
            "description": _markup(description),
            "props": [_prop("verdict", verdict.value), _prop("host-status", audit.outcome.status.value)],
            "methods": ["TEST"],
            "types": ["finding"],
            "subjects": [
                {
                    "subject-uuid": str(self._id("item", host)),
                    "type": "inventory-item",
                    "title": _markup(host),
                }
            ],
            "collected": _instant(collected, self.run.finished_at),
        }
        return made | ({"relevant-evidence": evidence} if evidence else {})

    def passes(self) -> Iterator[Json]:
        """What is the same on many hosts: where a rule passes or has nothing to judge, unless listed."""
        if self.options.include_pass:
            return
        for (policy, name), rule in self.rules.items():
            for verdict, hosts in ((Verdict.PASS, rule.passed), (Verdict.NOT_APPLICABLE, rule.idle)):
                if hosts.count:
                    about = self._id(verdict.value, policy, name)
                    rule.observations.append(about.bytes)
                    text = f"{verdict.value} on {counted(hosts.count, 'host')}: {hosts}"
                    yield {
                        "uuid": str(about),
                        "title": _markup(f"{verdict.value}: {policy}/{name}"),
                        "description": _markup(text),
                        "props": [_prop("verdict", verdict.value)],
                        "methods": ["TEST"],
                        "types": ["finding"],
                        "collected": _instant(self.run.finished_at),
                    }

    def findings(self) -> Iterator[Json]:
        """One for each rule, but none where there was nothing to judge: OSCAL has no third state."""
        for (policy, name), rule in self.rules.items():
            if not rule.silent and set(rule.counts) == {Verdict.NOT_APPLICABLE}:
                continue
            state, reason = rule.state()
            counts = [
                f"{rule.counts[verdict]} {verdict.value}" for verdict in Verdict if rule.counts[verdict]
            ]
            counts += [f"{rule.silent} not audited"] if rule.silent else []
            first = rule.first
            controls = [
                _prop("control", item, catalogue)
                for catalogue, ids in sorted(first.controls.items())
                for item in ids
            ]
            made: Json = {
                "uuid": str(self._id("finding", policy, name)),
                "title": _markup(f"{policy}/{name}: {first.title}"),
                "description": _markup(f"{first.title}: {', '.join(counts)}"),
                "props": [_prop("severity", first.severity.value), *controls],
                "target": {
                    "type": "objective-id",
                    "target-id": _token(f"{policy}.{name}"),
                    "status": {"state": state, "reason": reason, "remarks": _markup(", ".join(counts))},
                },
            }
            if rule.observations:
                made["related-observations"] = [
                    {"observation-uuid": str(UUID(bytes=data))} for data in rule.observations
                ]
            if first.remediation:
                made["remarks"] = _markup(f"Remedy: {first.remediation}")
            yield made

    def items(self) -> Iterator[Json]:
        """The hosts as inventory items."""
        for host, status in zip(self.hosts, self.statuses, strict=True):
            yield {
                "uuid": str(self._id("item", host)),
                "description": _markup(host),
                "props": [_prop("asset-id", host, ns=False), _prop("host-status", status.value)],
            }

    def _id(self, *names: str) -> UUID:
        return _id(self.run, *names)


def _head(run: Run) -> bytes:
    about: Json = {
        "uuid": str(_id(run, "document")),
        "metadata": {
            "title": "Listening sockets and their owners",
            "last-modified": _instant(run.finished_at),
            "version": _string(run.id),
            "oscal-version": VERSION,
            "props": [_prop("fleetaudit-version", run.version)],
            "remarks": _markup(NOTICE),
        },
        "import-ap": {"href": f"#{_id(run, 'plan')}"},
        "back-matter": {"resources": [_plan(run)]},
    }
    return b'{"assessment-results": %b, "results": [{"observations": [' % encode(about)[:-1]


def _tail(run: Run, summary: Summary, ledger: _Ledger, separator: bytes) -> Iterator[bytes]:
    for item in (*ledger.passes(), _run_observation(run, summary)):
        yield separator + encode(item)
        separator = b",\n"
    yield b"\n]"
    for key, entries in (("findings", ledger.findings()), ("inventory-items", ledger.items())):
        opening = (
            b'"local-definitions": {"inventory-items": [' if key == "inventory-items" else b'"findings": ['
        )
        closing = b"\n]}" if key == "inventory-items" else b"\n]"
        first = next(entries, None)
        if first is None:
            continue  # OSCAL has no empty lists
        yield b",\n" + opening + b"\n" + encode(first)
        for entry in entries:
            yield b",\n" + encode(entry)
        yield closing
    yield b",\n" + encode(_result_of(run, summary, ledger))[1:] + b"]}}\n"


def _result_of(run: Run, summary: Summary, ledger: _Ledger) -> Json:
    numbers = [
        _prop(f"hosts-{name.replace(' ', '-')}", str(count)) for name, count in denominators(summary).items()
    ]
    numbers += [_prop(f"results-{name}", str(count)) for name, count in summary.results.items()]
    return {
        "uuid": str(_id(run, "result")),
        "title": _markup(f"fleetaudit run {run.id}"),
        "description": _markup(
            f"Hosts: {denominators_text(summary)}. Compliance {compliance_text(summary)} = {FORMULA}. "
            f"{'. '.join([*notes(run, summary), NOTICE])}."
        ),
        "start": _instant(run.started_at),
        "end": _instant(run.finished_at),
        "props": [*numbers, _prop("exit-code", str(int(summary.exit_code)))],
        "reviewed-controls": {"control-selections": _selections(ledger)},
    }


def _selections(ledger: _Ledger) -> list[Json]:
    """The controls that the rules serve, by catalogue; all of them when the rules name none."""
    catalogues: dict[str, dict[str, None]] = {}
    for rule in ledger.rules.values():
        for catalogue, ids in rule.first.controls.items():
            catalogues.setdefault(catalogue, {}).update(dict.fromkeys(_control(item) for item in ids))
    made: list[Json] = [
        {"description": _markup(name), "include-controls": [{"control-id": item} for item in ids]}
        for name, ids in sorted(catalogues.items())
        if ids
    ]
    return made or [{"include-all": {}}]


def _run_observation(run: Run, summary: Summary) -> Json:
    """What is to be said of the run itself: whether it was whole."""
    complete = run.complete and summary.targeted
    waivers = [f"{it.file}:{it.line}: {it.detail}" for it in summary.waivers if it.wants_attention]
    text = "the run was interrupted: hosts are missing" if not run.complete else "no host was targeted"
    made: Json = {
        "uuid": str(_id(run, "run")),
        "title": "The run" if complete else "The run is incomplete",
        "description": _markup(f"{denominators_text(summary)} hosts" if complete else text),
        "props": [_prop("complete", "yes" if complete else "no")],
        "methods": ["TEST"],
        "types": ["discovery"],
        "collected": _instant(run.finished_at),
    }
    if waivers:
        made["remarks"] = _markup(f"Waivers that want attention: {'; '.join(waivers)}")
    return made


def _plan(run: Run) -> Json:
    links = [_link(source) for source in (*run.policies, *run.waivers) if source.path]
    plan: Json = {
        "uuid": str(_id(run, "plan")),
        "title": "Assessment plan: the policies of the run",
        "description": _markup(", ".join(source.name or source.path for source in run.policies) or "none"),
    }
    return plan | ({"rlinks": links} if links else {})


def _link(source: Source) -> Json:
    link: Json = {"href": uri(source.path)}
    if re.fullmatch("[0-9a-f]{64}", source.sha256):
        link["hashes"] = [{"algorithm": "SHA-256", "value": source.sha256}]
    return link


def _evidence(finding: Finding) -> Json:
    props = [_prop("verdict", finding.verdict.value)]
    props += [_prop("fingerprint", finding.fingerprint)] if finding.fingerprint else []
    props += [_prop("waiver", finding.waiver)] if finding.waiver else []
    return {"description": _markup(sentence(finding)), "props": props}


def _prop(name: str, value: str, of: str = "", *, ns: bool = True) -> Json:
    prop: Json = {"name": _token(name), "value": _string(value)}
    if ns:
        prop["ns"] = NAMESPACE
    return prop | ({"class": _token(of)} if of else {})


def _id(run: Run, *names: str) -> UUID:
    text = "\0".join((run.id, *names))
    return uuid5(_IDS, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _instant(*times: str | None) -> str:
    """The first that is an RFC 3339 time in UTC: what a host says may be anything."""
    return next(
        (time for time in times if time and _INSTANT.fullmatch(time) and epoch(time) is not None), _NO_TIME
    )


def _string(text: str) -> str:
    """A value of OSCAL's type string: not empty, no space at either end."""
    return clipped(text).strip() or "none"


def _markup(text: str) -> str:
    return literal(_string(text))


def _token(text: str) -> str:
    """A value of OSCAL's type token: a letter or _ first, then letters, digits and . - _."""
    token = _NO_TOKEN.sub("_", clipped(text)) or "_"
    return token if token[0].isalpha() or token[0] == "_" else f"_{token}"


def _control(name: str) -> str:
    """A control's id as NIST's own OSCAL catalogues write it: CM-7(1) is cm-7.1."""
    return _token(_ENHANCEMENT.sub(r".\1", name.lower()))
