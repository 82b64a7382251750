"""Reports as JSON values: the one place that names the keys of `schemas/report.schema.json`.

What a snapshot does not say (`UNKNOWN`) is left out; what is known to be none is null. Strings are kept
as they are: escaping for people is for the formats that people read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Final, TypeAlias

from fleetaudit.model import (
    BaselineStanding,
    Boundary,
    Coverage,
    Finding,
    Gap,
    HostAudit,
    Inherited,
    Listener,
    Missing,
    Process,
    Result,
    Run,
    Source,
    Summary,
    WaiverStanding,
)
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE
from fleetaudit.report.wording import Holder, holders

REPORT_SCHEMA: Final = "fleetaudit.report/1"
Json: TypeAlias = dict[str, object]

# RFC 3339 in UTC, as agents and the controller write it.
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)


def encode(value: object) -> bytes:
    """The value as ASCII JSON on one line: whatever a string holds, the document stays valid."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).encode("ascii")


def run_record(run: Run) -> Json:
    """What was run, on which input, when."""
    return {
        "id": run.id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "version": run.version,
        "complete": run.complete,
        "notice": NOTICE,
        "agent_sha256": run.agent_sha256 or None,
        "policies": [_source(source) for source in run.policies],
        "inventory": [_source(source) for source in run.inventory],
        "waivers": [_source(source) for source in run.waivers],
        "options": _plain(run.options),
    }


def run_of(record: Mapping[str, Any]) -> Run:
    """The run that `run_record` says. Raises KeyError and TypeError for what it would not say."""
    return Run(
        id=record["id"],
        started_at=record["started_at"],
        finished_at=record["finished_at"],
        version=record["version"],
        agent_sha256=record["agent_sha256"] or "",
        policies=tuple(map(_source_of, record["policies"])),
        inventory=tuple(map(_source_of, record["inventory"])),
        waivers=tuple(map(_source_of, record["waivers"])),
        options=record["options"],
        complete=record["complete"],
    )


def _source_of(record: Mapping[str, Any]) -> Source:
    return Source(record["path"], record["sha256"], record["name"], record.get("targets"))


def summary_record(summary: Summary) -> Json:
    """Denominators, counts and the exit code."""
    record: Json = {
        "hosts": {
            "targeted": summary.targeted,
            "ok": summary.ok,
            "partial": summary.partial,
            "failed": summary.failed,
            "unjudged": summary.unjudged,
            "left_out": summary.left_out,
            "statuses": dict(summary.statuses),
        },
        "results": dict(summary.results),
        "severities": dict(summary.severities),
        "waivers": [_waiver(standing) for standing in summary.waivers],
        "exit_code": int(summary.exit_code),
    }
    if summary.baseline is not None:
        record["baseline"] = _baseline(summary.baseline)
    return record


def _baseline(standing: BaselineStanding) -> Json:
    return {
        "name": standing.name,
        "hosts": standing.hosts,
        "old": standing.old,
        "new": standing.new,
        "newly_waived": standing.newly_waived,
        "new_only": standing.new_only,
    }


def _waiver(standing: WaiverStanding) -> Json:
    return {
        "file": standing.file,
        "line": standing.line,
        "policy": standing.policy,
        "rule": standing.rule,
        "reason": standing.reason,
        "approved_by": standing.approved_by or None,
        "ticket": standing.ticket or None,
        "until": standing.until,
        "states": list(standing.states),
        "detail": standing.detail,
        "findings": standing.findings,
        "hosts": standing.hosts,
    }


def host_record(audit: HostAudit) -> Json:
    """One targeted host: how far its audit came, and what was covered."""
    outcome, snapshot = audit.outcome, audit.outcome.snapshot
    collected_at = snapshot.collected_at if snapshot else None
    record: Json = {
        "name": outcome.host,
        "status": outcome.status.value,
        "detail": outcome.detail,
        "boundary": outcome.context.boundary.value,
        "groups": list(outcome.context.groups),
        "judged": audit.judged,
        "coverage": _coverage(snapshot.coverage) if snapshot else None,
        "collected_at": collected_at,
        "received_at": outcome.received_at,
        "clock_skew": _clock_skew(collected_at, outcome.received_at),
        "boot_id": snapshot.boot_id if snapshot else None,
        "snapshot_sha256": outcome.snapshot_sha256,
        "agent": None,
        "endpoints": None,
    }
    if snapshot:
        agent = snapshot.agent
        record["agent"] = {"version": agent.version, "sha256": agent.sha256, "mode": agent.mode}
        if agent.stale:
            record["stale_agent"] = agent.stale
        record["endpoints"] = {"seen": audit.endpoints, "unapproved": audit.unapproved}
    if outcome.context.boundary is Boundary.CONTAINER:
        record["notice"] = CONTAINER_NOTICE
    return record


def result_record(result: Result) -> Json:
    """One rule on one host, with its findings."""
    return {
        "host": result.host,
        "policy": result.policy,
        "rule": result.rule,
        "title": result.title,
        "severity": result.severity.value,
        "controls": {name: list(ids) for name, ids in result.controls.items()},
        "references": list(result.references),
        "tags": list(result.tags),
        "verdict": result.verdict.value,
        "checked": result.checked,
        "policy_sha256": result.policy_sha256,
        "findings": [_finding(finding, result.remediation) for finding in result.findings],
    }


def _finding(finding: Finding, remediation: str) -> Json:
    record: Json = {
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "listener": listener_record(finding.listener) if finding.listener else None,
        "owners": [owner_record(holder) for holder in holders(finding)],
        "waiver": finding.waiver,
        "remediation": remediation,
        "fingerprint": finding.fingerprint,
    }
    if finding.new is not None:
        record["new"] = finding.new
    return record


def listener_record(listener: Listener) -> Json:
    """A listener as every JSON format shows it."""
    return _known(
        protocol=listener.protocol,
        family=listener.family,
        state=listener.state,
        address=listener.address,
        port=listener.port,
        path=listener.path,
        device=listener.device,
        scope=listener.scope,
        netns=listener.netns.id,
        netns_host=listener.netns.host,
        netns_name=listener.netns.name,
        inode=listener.inode,
        owner_state=listener.owner_state,
    )


def owner_record(holder: Holder) -> Json:
    """A holder of a listener as every JSON format shows it."""
    owner, process = holder.owner, holder.owner.process
    record = _known(
        pid=process.pid,
        start_time=process.start_time,
        started_at=process.started_at,
        exe=process.exe,
        exe_deleted=process.exe_deleted,
        exe_verified=process.exe_verified,
        comm=process.comm,
        argv=process.argv,
        user=process.user,
        uid=process.uid,
        euid=process.euid,
        unit=process.unit,
        container=process.container,
        runtime=process.runtime,
        pod=process.pod,
        shell=process.shell,
        self=process.self_audit,
        inherited=owner.inherited.value if isinstance(owner.inherited, Inherited) else owner.inherited,
        certain=owner.certain,
        fds=list(owner.fds),
        cloexec=owner.cloexec,
        concerned=holder.concerned,
        ancestors=[_ancestor(ancestor) for ancestor in owner.ancestors],
        ancestry_cut=owner.ancestry_cut,
    )
    if holder.held_by:
        record["held_by"] = True
    return record


def _ancestor(process: Process) -> Json:
    return _known(pid=process.pid, comm=process.comm, exe=process.exe)


def _coverage(coverage: Coverage) -> Json:
    processes = _known(seen=coverage.seen, unreadable=coverage.unreadable, vanished=coverage.vanished)
    return _known(
        complete=coverage.complete,
        euid=coverage.euid,
        processes=processes,
        gaps=[_gap(gap) for gap in coverage.gaps],
    )


def _gap(gap: Gap) -> Json:
    return _known(code=gap.code, detail=gap.detail, netns=gap.netns, protocol=gap.protocol)


def _source(source: Source) -> Json:
    record: Json = {"name": source.name, "path": source.path, "sha256": source.sha256}
    return record if source.targets is None else {**record, "targets": source.targets}


def _known(**values: object) -> Json:
    """The values that the snapshot has."""
    return {key: value for key, value in values.items() if not isinstance(value, Missing)}


def _clock_skew(collected_at: str | None, received_at: str | None) -> float | None:
    """Seconds by which the host's clock is ahead, the way of the answer included; None when not known."""
    host, controller = _instant(collected_at), _instant(received_at)
    return None if host is None or controller is None else round((host - controller).total_seconds(), 3)


def _instant(text: str | None) -> datetime | None:
    found = _INSTANT.fullmatch(text) if text else None
    if found is None:
        return None
    fraction = (found[2] or ".").ljust(7, "0")[:7]
    try:
        moment = datetime.strptime(found[1] + fraction, "%Y-%m-%dT%H:%M:%S.%f")
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc)


def _plain(value: object) -> object:
    """An option's value as JSON; what JSON has no word for is written as text (a secret masks itself)."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    return str(value)
