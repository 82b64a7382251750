"""`csv-listeners`: the port register, one row per endpoint and owner, with what approves it and why.

An endpoint without an owner is one row, and so is a host without a listener or without an audit: no host is
missing. What rules found that is about no listener is in a row of the host's own. Cells are those of `csv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from fleetaudit.model import Approval, Finding, HostAudit, Listener, Missing, Owner, Report, Run, Verdict
from fleetaudit.policy.checks.base import apart
from fleetaudit.report import wording
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.cells import cell, part, table
from fleetaudit.report.wording import Holder, word

COLUMNS: Final = (
    "run_id",
    "time",
    "host",
    "host_status",
    "protocol",
    "address",
    "port",
    "scope",
    "path",
    "netns",
    "device",
    "sockets",
    "owner_state",
    "program",
    "pid",
    "exe",
    "exe_verified",
    "user",
    "unit",
    "container",
    "shell",
    "inherited",
    "held_by",
    "endpoint_approved",
    "approved_by",
    "reason",
    "owner_team",
    "reviewed",
    "findings",
    "detail",
    "collected_at",
)
_LISTED: Final = (Verdict.FAIL, Verdict.ERROR, Verdict.UNKNOWN, Verdict.WAIVED)

Cells: TypeAlias = dict[str, str]
Socket: TypeAlias = tuple[object, ...]


def listener_rows(_options: RenderOptions) -> Renderer:
    """The renderer of `csv-listeners`; it has no options: everything that listens is in it."""
    return _render


def _render(report: Report) -> Iterator[bytes]:
    yield table([COLUMNS])
    for audit in report.audits:
        found = rows(audit, report.run)
        yield table([[cell(row.get(column, "")) for column in COLUMNS] for row in found])


def rows(audit: HostAudit, run: Run) -> Iterator[Cells]:
    """The rows of one host by column, not yet escaped."""
    outcome, snapshot = audit.outcome, audit.outcome.snapshot
    host = {
        "run_id": run.id,
        "time": run.started_at,
        "host": outcome.host,
        "host_status": outcome.status.value,
        "detail": outcome.detail,
    }
    if snapshot is None:
        detail = outcome.detail or f"the host was not audited: {outcome.status.value}"
        yield {**host, "detail": detail, "findings": Verdict.UNKNOWN.value}
        return
    host["collected_at"] = snapshot.collected_at or ""
    found = _findings(audit)
    general = found.pop((), [])
    if general or not snapshot.listeners:
        yield {**host, "findings": "; ".join(general)}
    for endpoint in apart(snapshot.listeners):
        about = {**host, **_endpoint_cells(endpoint, audit, found)}
        for cells in _owner_rows(endpoint, audit):
            yield {**about, **cells}


def _findings(audit: HostAudit) -> dict[Socket, list[str]]:
    """What rules found that is no pass, in words, by socket; () is about none."""
    found: dict[Socket, list[str]] = {}
    for result in audit.results:
        for finding in result.findings:
            if finding.verdict in _LISTED:
                about = _socket(finding.listener) if finding.listener else ()
                said = f"{finding.verdict.value} {part(result.policy)}/{part(result.rule)}{_waiver(finding)}"
                words = found.setdefault(about, [])
                if said not in words:
                    words.append(said)
    return found


def _waiver(finding: Finding) -> str:
    return f" ({part(finding.waiver)})" if finding.waiver else ""


def _socket(listener: Listener) -> Socket:
    return (listener.netns.id, listener.protocol, listener.inode)


def _endpoint_cells(endpoint: Sequence[Listener], audit: HostAudit, found: dict[Socket, list[str]]) -> Cells:
    first = endpoint[0]
    states = [word(listener.owner_state) for listener in endpoint]
    words = [said for listener in endpoint for said in found.get(_socket(listener), ())]
    approved = [audit.register.approved(listener) for listener in endpoint]
    known = {True: "yes", False: "no", None: wording.UNKNOWN_CELL}
    # An endpoint is as well known and as approved as the worst of its sockets.
    return {
        "protocol": first.protocol,
        "address": word(first.address),
        "port": word(first.port),
        "scope": word(first.scope),
        "path": word(first.path),
        "netns": wording.namespace(first),
        "device": word(first.device),
        "sockets": str(len(endpoint)),
        "owner_state": next((state for state in states if state != "owned"), "owned"),
        "endpoint_approved": known[next((value for value in (False, None) if value in approved), True)],
        "findings": "; ".join(dict.fromkeys(words)),
    }


def _owner_rows(endpoint: Sequence[Listener], audit: HostAudit) -> Iterator[Cells]:
    """One for each holder, by pid, approved if it is on each of its sockets; one for sockets without any."""
    everybody = wording.holders_of(endpoint)
    for holder in everybody:
        held = [item for item in endpoint if _holds(holder.owner, item)]
        per_socket = [audit.register.by(item, holder.owner) for item in held]
        yield {**_owner_cells(holder), **_approval_cells(per_socket)}
    alone = [item for item in endpoint if not item.owners and not item.held_by]
    if alone:
        yield _approval_cells([audit.register.by(item, None) for item in alone])


def _holds(owner: Owner, listener: Listener) -> bool:
    identity = wording.identity(owner)
    return any(wording.identity(other) == identity for other in (*listener.owners, *listener.held_by))


def _owner_cells(holder: Holder) -> Cells:
    owner, process = holder.owner, holder.owner.process
    return {
        "program": wording.program(process),
        "pid": str(process.pid),
        "exe": word(process.exe) + (" (deleted)" if process.exe_deleted is True else ""),
        "exe_verified": _yes_or_no(process.exe_verified),
        "user": wording.account(process),
        "unit": word(process.unit),
        "container": word(process.container),
        "shell": _yes_or_no(process.shell),
        "inherited": wording.origin(owner) or wording.UNKNOWN_CELL,
        "held_by": "yes" if holder.held_by else "no",
    }


def _yes_or_no(value: bool | Missing) -> str:
    if isinstance(value, Missing):
        return wording.UNKNOWN_CELL
    return "yes" if value else "no"


def _approval_cells(per_socket: Sequence[Sequence[Approval]]) -> Cells:
    if not all(per_socket):
        return {}
    every = list(dict.fromkeys(approval for approvals in per_socket for approval in approvals))
    return {
        "approved_by": "; ".join(_entry(approval) for approval in every),
        "reason": _joined(approval.reason for approval in every),
        "owner_team": _joined(approval.owner_team for approval in every),
        "reviewed": _joined(approval.reviewed for approval in every),
    }


def _entry(approval: Approval) -> str:
    number = f"#{approval.entry}" if approval.entry else ""
    return f"{part(approval.policy)}/{part(approval.rule)}{number}"


def _joined(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(part(text) for text in texts if text))
