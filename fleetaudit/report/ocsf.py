"""`ocsf`: events for a SIEM, one JSON object a line, in the Open Cybersecurity Schema Framework 1.4.0.

Each finding is a Compliance Finding (class 2003); a host that was not audited, or that nothing judged, is
one too. The last line is a Scan Activity (class 6007) with the denominators: a file without it was cut off.
argv is nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from fleetaudit.model import (
    Finding,
    HostAudit,
    Listener,
    Missing,
    Owner,
    Report,
    Result,
    Run,
    Severity,
    Summary,
    Verdict,
)
from fleetaudit.report import wording
from fleetaudit.report.base import NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import failure_reason, unjudged_reason
from fleetaudit.report.phrases import clipped, sentence
from fleetaudit.report.record import Json, encode, listener_record, run_record, summary_record
from fleetaudit.report.times import epoch

VERSION: Final = "1.4.0"

_OWNERS: Final = 50
_CREATE, _SCAN_COMPLETED, _SCAN_CANCELLED = 1, 2, 3
_SEVERITIES: Final = {
    Severity.INFO: (1, "Informational"),
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
    Severity.CRITICAL: (5, "Critical"),
}
# compliance.status_id: 0 unknown, 1 pass, 3 fail, 99 other. A waived violation is neither pass nor fail.
_COMPLIANCE: Final = {
    Verdict.PASS: (1, "Pass"),
    Verdict.FAIL: (3, "Fail"),
    Verdict.WAIVED: (99, "Waived"),
    Verdict.UNKNOWN: (0, "Unknown"),
    Verdict.ERROR: (99, "Error"),
    Verdict.NOT_APPLICABLE: (99, "Not Applicable"),
}
_NEW, _SUPPRESSED = (1, "New"), (3, "Suppressed")
_GRAVE: Final = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.ERROR)


def ocsf(options: RenderOptions) -> Renderer:
    """The renderer of `ocsf`; `include_pass` adds results that pass or have nothing to judge."""

    def render(report: Report) -> Iterator[bytes]:
        detections = 0
        for audit in report.audits:
            events = list(_events(audit, report.run, options))
            detections += sum(event["status_id"] == _NEW[0] for event in events)
            yield b"".join(encode(event) + b"\n" for event in events)
        yield encode(_scan(report.run, report.summary(), detections)) + b"\n"

    return render


def _events(audit: HostAudit, run: Run, options: RenderOptions) -> Iterator[Json]:
    reason = failure_reason(audit) or unjudged_reason(audit)
    if reason:
        rule = "host-not-judged" if audit.outcome.snapshot else "host-not-audited"
        result = Result(
            audit.outcome.host,
            "fleetaudit",
            rule,
            "Every targeted host is audited",
            Severity.HIGH,
            Verdict.UNKNOWN,
        )
        uid = f"{rule}:{clipped(audit.outcome.host)}"
        yield _event(audit, run, result, Finding(Verdict.UNKNOWN, reason, fingerprint=uid))
    if audit.outcome.snapshot is None:
        return  # that its rules are unknown is said by that event
    for result in audit.results:
        for finding in result.findings or (
            Finding(result.verdict, f"{result.verdict.value}: {result.title}"),
        ):
            listed = finding.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)
            if listed or options.include_pass:
                yield _event(audit, run, result, finding)


def _event(audit: HostAudit, run: Run, result: Result, finding: Finding) -> Json:
    severity = _SEVERITIES[result.severity if finding.verdict in _GRAVE else Severity.INFO]
    status = _SUPPRESSED if finding.verdict is Verdict.WAIVED else _NEW
    if finding.verdict in (Verdict.PASS, Verdict.NOT_APPLICABLE):
        status = (99, _COMPLIANCE[finding.verdict][1])
    event = {
        **_common(run, 2003, 2, _CREATE),
        "class_name": "Compliance Finding",
        "category_name": "Findings",
        "activity_name": "Create",
        "type_name": "Compliance Finding: Create",
        "severity_id": severity[0],
        "severity": severity[1],
        "status_id": status[0],
        "status": status[1],
        "message": sentence(finding),
        "compliance": _compliance(result, finding),
        "finding_info": _finding_info(run, result, finding),
        "resources": [_resource(audit)],
        "device": {"hostname": clipped(audit.outcome.host), "type_id": 0},
        "evidences": _evidences(finding),
        "unmapped": {
            "verdict": finding.verdict.value,
            "policy": result.policy,
            "rule": result.rule,
            "host_status": audit.outcome.status.value,
            "host_detail": audit.outcome.detail,
            "boundary": audit.outcome.context.boundary.value,
            "policy_sha256": result.policy_sha256,
        },
    }
    if not event["evidences"]:
        del event["evidences"]
    if result.remediation and finding.verdict in (Verdict.FAIL, Verdict.WAIVED):
        event["remediation"] = {"desc": clipped(result.remediation)}
    if finding.waiver:
        event["comment"] = clipped(f"waived: {finding.waiver}")
    return event


def _common(run: Run, class_uid: int, category: int, activity: int) -> Json:
    return {
        "activity_id": activity,
        "category_uid": category,
        "class_uid": class_uid,
        "type_uid": class_uid * 100 + activity,
        "time": _milliseconds(run.finished_at),
        "metadata": {
            "version": VERSION,
            "product": {"name": "fleetaudit", "vendor_name": "fleetaudit", "version": clipped(run.version)},
            "correlation_uid": clipped(run.id),
        },
    }


def _compliance(result: Result, finding: Finding) -> Json:
    status_id, status = _COMPLIANCE[finding.verdict]
    catalogues = [clipped(name) for name in sorted(result.controls)]
    ids = [f"{name} {item}" for name in sorted(result.controls) for item in result.controls[name]]
    return {
        "control": clipped(f"{result.policy}/{result.rule}"),
        "standards": catalogues or [clipped(f"fleetaudit policy {result.policy}")],
        "requirements": [clipped(item) for item in ids],
        "status_id": status_id,
        "status": status,
        "status_detail": clipped(finding.reason),
    }


def _finding_info(run: Run, result: Result, finding: Finding) -> Json:
    names = (result.host, result.policy, result.rule)
    return {
        "uid": clipped(finding.fingerprint) or clipped("/".join(names)),
        "title": clipped(result.title),
        "desc": sentence(finding),
        "types": ["Listening Socket"],
        "created_time": _milliseconds(run.finished_at),
        "analytic": {"type_id": 1, "name": clipped(f"{result.policy}/{result.rule}")},
    }


def _resource(audit: HostAudit) -> Json:
    groups = [clipped(group) for group in audit.outcome.context.groups]
    return {"name": clipped(audit.outcome.host), "type": "host", "labels": groups}


def _evidences(finding: Finding) -> list[Json]:
    """One for each holder of the listener; the listener alone when nobody was seen to hold it."""
    if finding.listener is None:
        return []
    endpoint = _endpoint(finding.listener)
    socket: Json = {"listener": listener_record(finding.listener)}
    holders = wording.holders(finding)
    made: list[Json] = [
        {
            **endpoint,
            "process": _process(holder.owner),
            "data": {
                **socket,
                "concerned": holder.concerned,
                "held_by": holder.held_by,
                "inherited": wording.origin(holder.owner) or None,
            },
        }
        for holder in holders[:_OWNERS]
    ]
    if len(holders) > _OWNERS:
        made.append({**endpoint, "data": {**socket, "holders_not_listed": len(holders) - _OWNERS}})
    return made or [{**endpoint, "data": socket}]


def _endpoint(listener: Listener) -> Json:
    """Where it listens; a socket without an address has none. What is no IP address is a name."""
    if not isinstance(listener.address, str):
        return {}
    plain, _, zone = listener.address.partition("%")
    try:
        endpoint: Json = {"ip": str(ip_address(plain))}
    except ValueError:
        endpoint = {"name": clipped(listener.address)}
    if zone and "ip" in endpoint:
        endpoint["interface_name"] = clipped(zone)
    if isinstance(listener.port, int):
        endpoint["port"] = listener.port
    return {"dst_endpoint": endpoint}


def _process(owner: Owner) -> Json:
    process = owner.process
    made: Json = {"pid": process.pid, "name": clipped(wording.program(process))}
    if isinstance(process.exe, str):
        name = wording.base_name(process.exe) or process.exe
        made["file"] = {"name": clipped(name), "path": clipped(process.exe), "type_id": 1}
    if not isinstance(process.euid, Missing):
        made["user"] = {"name": clipped(wording.account(process)), "uid": str(process.euid)}
    return made


def _scan(run: Run, summary: Summary, detections: int) -> Json:
    """The run itself, last: what was targeted, reached and found."""
    activity = _SCAN_COMPLETED if run.complete else _SCAN_CANCELLED
    return {
        **_common(run, 6007, 6, activity),
        "severity_id": 1,
        "scan": {"name": "fleetaudit", "uid": clipped(run.id), "type_id": 0},
        "start_time": _milliseconds(run.started_at),
        "end_time": _milliseconds(run.finished_at),
        "total": summary.targeted,
        "num_skipped_items": summary.failed,
        "num_detections": detections,
        "message": NOTICE,
        "unmapped": {"run": run_record(run), "summary": summary_record(summary)},
    }


def _milliseconds(time: str) -> int:
    return round(1000 * (epoch(time) or 0))
