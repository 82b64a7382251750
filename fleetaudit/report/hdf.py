"""`hdf`: Heimdall Data Format (MITRE), the ExecJSON of InSpec, for Heimdall and what takes its files.

A profile per policy, a control per rule. Viewers make one status of all results of a control: any error,
else any failure, else any pass decides. So what is unknown, and a host that was not audited, is an error of
each of its rules; and waived violations are a control of their own, which is "Not Reviewed": beside passes
they would be shown as passed. No control that was judged has impact 0, which would read "Not Applicable".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fleetaudit.model import Finding, HostAudit, Report, Result, Run, Severity, Summary, Verdict
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import counted, denominators_text, failure_reason, unjudged_reason
from fleetaudit.report.folding import Hosts
from fleetaudit.report.phrases import clipped, sentence
from fleetaudit.report.record import Json, encode, run_record, summary_record
from fleetaudit.report.times import epoch

LISTED: Final = 1_000  # results of one control and status; the rest are counted in one more

_IMPACTS: Final = {
    Severity.CRITICAL: 1.0,
    Severity.HIGH: 0.7,
    Severity.MEDIUM: 0.5,
    Severity.LOW: 0.3,
    Severity.INFO: 0.1,
}
_STATUSES: Final = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.WAIVED: "skipped",
    Verdict.UNKNOWN: "error",
    Verdict.ERROR: "error",
    Verdict.NOT_APPLICABLE: "skipped",
}
_NOTHING_WRONG: Final = (Verdict.PASS, Verdict.NOT_APPLICABLE)


def hdf(options: RenderOptions) -> Renderer:
    """The renderer of `hdf`; without `include_pass` the hosts where a rule passes are one result."""

    def render(report: Report) -> Iterator[bytes]:
        profiles: dict[str, _Profile] = {}
        hosts = _hosts_control(report.run)
        for audit in report.audits:
            _take_host(hosts, audit)
            for result in audit.results:
                profile = profiles.setdefault(result.policy, _Profile(result.policy, result.policy_sha256))
                profile.take(result, audit, report.run, options)
            yield b""
        summary = report.summary()
        if not report.run.complete or not summary.targeted:
            reason = (
                "the run was interrupted: hosts are missing" if summary.targeted else "no host was audited"
            )
            hosts.say("error", "the run", reason)
        run = _Profile("fleetaudit", "", {"fleetaudit/hosts-are-audited": hosts})
        yield from _document(report.run, summary, [run, *profiles.values()])

    return render


@dataclass(slots=True)
class _Control:
    """A control in the making: its results as encoded bytes, and hosts folded into one."""

    about: Json
    start: str
    results: list[bytes] = field(default_factory=list)
    listed: dict[str, int] = field(default_factory=dict)
    folded: dict[Verdict, Hosts] = field(default_factory=dict)
    seen: set[Verdict] = field(default_factory=set)
    silent: Hosts = field(default_factory=Hosts)

    def say(self, status: str, where: str, message: str) -> None:
        """One more result."""
        self.listed[status] = self.listed.get(status, 0) + 1
        if self.listed[status] <= LISTED:
            self.results.append(encode(_result(status, where, message, self.start)))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say: what was found is in the control for what was waived."""
        return not (self.listed or self.folded or self.silent.count)

    def finished(self) -> bytes:
        """The control with everything that was only counted."""
        for verdict, hosts in sorted(self.folded.items()):
            self.say(_STATUSES[verdict], str(hosts), f"{verdict.value} on {counted(hosts.count, 'host')}")
        if self.silent.count:
            number = counted(self.silent.count, "host")
            self.say("error", str(self.silent), f"unknown on {number}: not audited")
        for status, count in sorted(self.listed.items()):
            if count > LISTED:
                text = f"{count - LISTED} more results of this status"
                self.results.append(encode(_result(status, "other hosts", text, self.start)))
        idle = self.seen == {Verdict.NOT_APPLICABLE} and not self.silent.count
        about = encode(self.about | ({"impact": 0.0} if idle else {}))
        return b'%b, "results": [%b]}' % (about[:-1], b",\n".join(self.results))


@dataclass(slots=True)
class _Profile:
    """One policy."""

    name: str
    sha256: str
    controls: dict[str, _Control] = field(default_factory=dict)

    def take(self, result: Result, audit: HostAudit, run: Run, options: RenderOptions) -> None:
        """One rule on one host."""
        name = f"{result.policy}/{result.rule}"
        control = self.controls.get(name)
        if control is None:
            control = self.controls[name] = _Control(_about(name, result, run), run.started_at)
        if audit.outcome.snapshot is None:
            control.silent.add(result.host)
            return
        for finding in result.findings or (Finding(result.verdict, result.verdict.value),):
            if finding.verdict is Verdict.WAIVED:
                self._waived(name, result, finding, run)
                continue
            control.seen.add(finding.verdict)
            if finding.verdict in _NOTHING_WRONG and not options.include_pass:
                control.folded.setdefault(finding.verdict, Hosts()).add(result.host)
            else:
                text = f"{finding.verdict.value}: {sentence(finding)}"
                control.say(_STATUSES[finding.verdict], result.host, text)

    def _waived(self, name: str, result: Result, finding: Finding, run: Run) -> None:
        key = f"{name} (waived)"
        if key not in self.controls:
            about = _about(key, result, run)
            # Not "skipped_due_to_waiver", which viewers leave out of the denominator.
            about["waiver_data"] = {
                "justification": clipped(finding.waiver or ""),
                "run": True,
                "skipped_due_to_waiver": False,
            }
            self.controls[key] = _Control(about, run.started_at)
        self.controls[key].say("skipped", result.host, f"waived: {sentence(finding)}")


def _result(status: str, where: str, message: str, start: str) -> Json:
    text = clipped(message)
    made: Json = {
        "status": status,
        "code_desc": clipped(where),
        "message": text,
        "start_time": clipped(start),
    }
    return made | ({"skip_message": text} if status == "skipped" else {})


def _about(name: str, result: Result, run: Run) -> Json:
    tags: Json = {
        clipped(key): [clipped(item) for item in ids] for key, ids in sorted(result.controls.items())
    }
    nist = [
        item for key, ids in sorted(result.controls.items()) if key.startswith("nist_800_53") for item in ids
    ]
    tags["nist"] = [clipped(item) for item in nist]
    tags["severity"] = "low" if result.severity is Severity.INFO else result.severity.value
    files = {source.name: source.path for source in run.policies}
    return {
        "id": clipped(name),
        "title": clipped(result.title),
        "desc": clipped(result.title),
        "descriptions": [{"label": "fix", "data": clipped(result.remediation)}],
        "impact": _IMPACTS[result.severity],
        "refs": [],
        "source_location": {"ref": clipped(files.get(result.policy, "")), "line": result.line},
        "tags": tags,
        "code": "",
    }


def _hosts_control(run: Run) -> _Control:
    about: Json = {
        "id": "fleetaudit/hosts-are-audited",
        "title": "Every targeted host is audited and judged",
        "desc": NOTICE,
        "impact": 0.5,
        "refs": [],
        "source_location": {},
        "tags": {},
        "code": "",
    }
    return _Control(about, run.started_at)


def _take_host(control: _Control, audit: HostAudit) -> None:
    host = audit.outcome.host
    if reason := failure_reason(audit) or unjudged_reason(audit):
        control.say("error", host, reason)
    else:
        control.folded.setdefault(Verdict.PASS, Hosts()).add(host)


def _document(run: Run, summary: Summary, profiles: list[_Profile]) -> Iterator[bytes]:
    start, end = epoch(run.started_at), epoch(run.finished_at)
    head = {
        "platform": {"name": "fleetaudit", "release": run.version, "target_id": clipped(run.id)},
        "version": run.version,
        "statistics": {"duration": None if start is None or end is None else end - start},
        "passthrough": {"run": run_record(run), "summary": summary_record(summary)},
    }
    yield encode(head)[:-1] + b', "profiles": [\n'
    for place, profile in enumerate(profiles):
        about = {
            "name": clipped(profile.name),
            "title": clipped(profile.name),
            "summary": denominators_text(summary),
            "sha256": clipped(profile.sha256),
            "attributes": [],
            "groups": [],
            "supports": [],
        }
        yield (b",\n" if place else b"") + encode(about)[:-1] + b', "controls": [\n'
        told = [control for control in profile.controls.values() if not control.empty]
        for number, control in enumerate(told):
            yield (b",\n" if number else b"") + control.finished()
        yield b"\n]}"
    yield b"\n]}\n"
