"""Judge one host by every policy that selects it. Pure and total: a rule that crashes is an `error`.

The order of hosts, sockets, owners and rules never changes a verdict.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fleetaudit.model import Finding, HostAudit, Listener, Missing, Outcome, Owner, Result, Snapshot, Verdict
from fleetaudit.policy.checks.base import Case, endpoints
from fleetaudit.policy.checks.wording import bounded
from fleetaudit.policy.expressions import ExpressionError
from fleetaudit.policy.matchers import compile_selector
from fleetaudit.policy.model import CompiledRule, Policy, Rule
from fleetaudit.policy.register import Approving, register
from fleetaudit.policy.truth import Truth, all_of, any_of
from fleetaudit.policy.values import Bindings, MissingVariable, ValueMistake
from fleetaudit.policy.view import HostView, sentence, view_of

# A rule's verdict is its gravest finding's (design 5.1.8).
_GRAVEST_FIRST = (Verdict.FAIL, Verdict.ERROR, Verdict.UNKNOWN, Verdict.WAIVED)
_LISTENS = compile_selector({}, (), Bindings())  # network listeners in the host's own namespace


def evaluate(outcome: Outcome, policies: Sequence[Policy]) -> HostAudit:
    """The audit of one derived outcome, results in the order policy name, rule as written."""
    groups = outcome.context.groups
    mine = sorted((p for p in policies if p.hosts.matches(outcome.host, groups)), key=lambda p: p.name)
    if outcome.snapshot is None:
        reason = f"the host was not audited: {outcome.status.value}"
        finding = Finding(Verdict.UNKNOWN, f"{reason}: {outcome.detail}" if outcome.detail else reason)
        results = [
            _result(outcome, policy, rule, (_elsewhere(outcome, rule) or finding,))
            for policy, rule in _judged(mine)
        ]
        return HostAudit(outcome, tuple(results), judged=bool(mine))
    view = view_of(outcome.snapshot)
    ready = _prepare(view, outcome, [rule for policy in mine for rule in policy.rules])
    view = replace(view, approvals=_approvals(view, ready))
    results = [_judge(outcome, policy, rule, view, ready.get(id(rule))) for policy, rule in _judged(mine)]
    return HostAudit(
        outcome,
        tuple(results),
        *_count_endpoints(view, outcome.snapshot),
        judged=bool(mine),
        register=register(view, _approving(mine, ready)),
    )


def _judged(policies: Sequence[Policy]) -> Iterator[tuple[Policy, Rule]]:
    return ((policy, rule) for policy in policies for rule in policy.rules if rule.judged)


def cases(outcome: Outcome, policies: Sequence[Policy]) -> Iterator[tuple[Policy, Rule, CompiledRule, Case]]:
    """What each rule that is for the host looks at there, as `evaluate` judges it; less those that cannot be.

    For those who explain or count what rules do; the outcome is derived and has a snapshot, or there is none.
    """
    if outcome.snapshot is None:
        return
    mine = [policy for policy in policies if policy.hosts.matches(outcome.host, outcome.context.groups)]
    view = view_of(outcome.snapshot)
    ready = _prepare(view, outcome, [rule for policy in mine for rule in policy.rules])
    view = replace(view, approvals=_approvals(view, ready))
    for policy, rule in _judged(mine):
        prepared = ready.get(id(rule))
        if prepared is None or _aside(prepared.compiled, outcome) is not None:
            continue
        try:
            case = _case(prepared.compiled, view, outcome, prepared.selected)
        except ExpressionError:
            continue
        yield policy, rule, prepared.compiled, case


@dataclass(frozen=True, slots=True)
class _Ready:
    """A rule compiled for the host, and what its selector says of each listener, if that was asked."""

    compiled: CompiledRule
    selected: tuple[Truth, ...] | None = None


def _judge(outcome: Outcome, policy: Policy, rule: Rule, view: HostView, ready: _Ready | None) -> Result:
    if rule.hosts is not None and not rule.hosts.matches(outcome.host, outcome.context.groups):
        finding = Finding(Verdict.NOT_APPLICABLE, f"the rule is for hosts {rule.hosts.text}")
        return _result(outcome, policy, rule, (finding,))
    try:
        compiled = ready.compiled if ready else rule.for_host(outcome.context)
        if aside := _aside(compiled, outcome):
            return _result(outcome, policy, rule, (aside,))
        case = _case(compiled, view, outcome, ready.selected if ready else None)
        findings = tuple(_findings(compiled, case))
    except (MissingVariable, ValueMistake) as error:
        finding = Finding(Verdict.ERROR, f"host {outcome.host}, rule {rule.id}: {error}")
        return _result(outcome, policy, rule, (finding,))
    except ExpressionError as error:
        finding = Finding(Verdict.ERROR, f"host {outcome.host}, rule {rule.id}: when_expr: {error}")
        return _result(outcome, policy, rule, (finding,))
    except Exception as error:  # the border of one rule: its crash is its verdict, never a pass
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"the rule crashed: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return _result(outcome, policy, rule, (Finding(Verdict.ERROR, text),))
    return _result(outcome, policy, rule, findings, len(case.listeners))


def _elsewhere(outcome: Outcome, rule: Rule) -> Finding | None:
    """Why the rule is not for a host that was not audited, where the inventory alone says so."""
    if rule.hosts is not None and not rule.hosts.matches(outcome.host, outcome.context.groups):
        return Finding(Verdict.NOT_APPLICABLE, f"the rule is for hosts {rule.hosts.text}")
    try:
        aside = _aside(rule.for_host(outcome.context), outcome)
    except (MissingVariable, ValueMistake):
        return None
    return aside if aside is not None and aside.verdict is Verdict.NOT_APPLICABLE else None


def _aside(compiled: CompiledRule, outcome: Outcome) -> Finding | None:
    """Why the rule is not for this host, or may not be."""
    meant = compiled.when.hold(outcome)
    if meant is True:
        return None
    unmet = compiled.when.unmet(outcome)
    if meant is False:
        return Finding(Verdict.NOT_APPLICABLE, f"the rule is for other hosts: {unmet}")
    return Finding(Verdict.UNKNOWN, f"whether the rule is for this host is not known: {unmet}")


def _case(
    compiled: CompiledRule, view: HostView, outcome: Outcome, selected: tuple[Truth, ...] | None
) -> Case:
    if selected is None:
        selected = _selected(compiled, view, outcome)
    return Case(
        view=view,
        listeners=tuple(item for item, found in zip(view.listeners, selected, strict=True) if found),
        doubtful=tuple(item for item, found in zip(view.listeners, selected, strict=True) if found is None),
        hidden=tuple(gap for gap, ghost in view.ghosts if compiled.selector.match(ghost, view) is not False),
    )


def _selected(compiled: CompiledRule, view: HostView, outcome: Outcome) -> tuple[Truth, ...]:
    """What the rule says of each listener. Its expression is asked last, about what may still be selected."""
    found = compiled.selector.match_all(view)
    expression = compiled.expression
    if expression is None:
        return found
    return tuple(
        truth if truth is False else all_of((truth, expression.holds(listener, view, outcome)))
        for listener, truth in zip(view.listeners, found, strict=True)
    )


def _findings(compiled: CompiledRule, case: Case) -> Iterator[Finding]:
    for check in compiled.checks:
        yield from check.judge(case)
    absent = [check for check in compiled.checks if not check.judges_absence]
    if case.hidden and absent and (not case.listeners or any(check.needs_all for check in absent)):
        yield Finding(Verdict.UNKNOWN, f"a listener of this rule may be hidden ({sentence(case.hidden)})")
    elif not case.listeners and case.doubtful and absent:
        yield Finding(
            Verdict.UNKNOWN, "the snapshot does not say whether any listener is one that the rule selects"
        )
    elif not case.listeners and len(absent) == len(compiled.checks):
        yield Finding(Verdict.NOT_APPLICABLE, "no listener on this host is one that the rule selects")


def gravest(findings: Sequence[Finding]) -> Verdict:
    """The verdict of a rule with these findings."""
    verdicts = {finding.verdict for finding in findings}
    default = Verdict.NOT_APPLICABLE if Verdict.NOT_APPLICABLE in verdicts else Verdict.PASS
    return next((grave for grave in _GRAVEST_FIRST if grave in verdicts), default)


def _result(
    outcome: Outcome, policy: Policy, rule: Rule, findings: tuple[Finding, ...], checked: int = 0
) -> Result:
    return Result(
        host=outcome.host,
        policy=policy.name,
        rule=rule.id,
        title=rule.title,
        severity=rule.severity,
        verdict=gravest(findings),
        controls=rule.controls or {},
        remediation=rule.remediation,
        references=rule.references,
        tags=tuple(sorted(rule.tags)),
        checked=checked,
        findings=tuple(
            replace(
                finding,
                reason=bounded(finding.reason),
                fingerprint=_fingerprint(outcome.host, policy, rule, finding),
            )
            for finding in findings
        ),
        policy_sha256=policy.sha256,
        line=rule.place.line if rule.place.file == policy.file else 1,
    )


# ---------------------------------------------------------------- default deny, computed


def _prepare(view: HostView, outcome: Outcome, rules: Sequence[Rule]) -> dict[int, _Ready | None]:
    """The rules for this host by id(): compiled, those that approve asked already; None for one that fails.

    One that fails says why in its own result; what it would have approved is unknown.
    """
    ready: dict[int, _Ready | None] = {}
    for rule in rules:
        if rule.hosts is not None and not rule.hosts.matches(outcome.host, outcome.context.groups):
            continue
        try:
            compiled = rule.for_host(outcome.context)
            meant = compiled.when.hold(outcome)
            selected = (
                _selected(compiled, view, outcome) if compiled.approves and meant is not False else None
            )
            if selected is not None and meant is None:
                selected = tuple(None if found else found for found in selected)
            ready[id(rule)] = _Ready(compiled, selected)
        except Exception:  # the border of one rule: judging it comes to the same, and tells
            ready[id(rule)] = None
    return ready


def _approvals(view: HostView, ready: Mapping[int, _Ready | None]) -> dict[int, Truth]:
    """For each listener, by id(), whether any allow list or required listener names it."""
    unknown: tuple[Truth, ...] = (None,) * len(view.listeners)
    columns = [unknown if it is None else it.selected for it in ready.values()]
    asked = [column for column in columns if column is not None]
    return {
        id(listener): any_of(column[place] for column in asked)
        for place, listener in enumerate(view.listeners)
    }


def _approving(policies: Sequence[Policy], ready: Mapping[int, _Ready | None]) -> tuple[Approving, ...]:
    found = ((policy, rule, ready.get(id(rule))) for policy in policies for rule in policy.rules)
    return tuple(
        Approving(policy.name, rule, it.compiled, it.selected)
        for policy, rule, it in found
        if it is not None and it.selected is not None
    )


def _count_endpoints(view: HostView, snapshot: Snapshot) -> tuple[int, int]:
    """(network endpoints in the host's own namespace, those that nothing approves)."""
    seen = [listener for listener in snapshot.listeners if _LISTENS.match(listener, view)]
    unapproved = [listener for listener in seen if view.approved(listener) is not True]
    return len(endpoints(seen)), len(endpoints(unapproved))


# ---------------------------------------------------------------- identity of a finding


def _fingerprint(host: str, policy: Policy, rule: Rule, finding: Finding) -> str:
    """Stable over restarts and reboots: host, policy, rule, endpoint, who holds it; no pid, inode, boot."""
    listener = finding.listener
    parts = [host, policy.name, rule.id, *(_endpoint_words(listener) if listener else ())]
    parts += sorted({"|".join(_identity(owner)) for owner in finding.owners})
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _endpoint_words(listener: Listener) -> tuple[str, ...]:
    netns = listener.netns
    where = "host" if netns.host is True else _word(netns.name)
    values = (listener.family, listener.device, listener.address, listener.port, listener.path)
    return (where, listener.protocol, *map(_word, values))


def _identity(owner: Owner) -> tuple[str, ...]:
    process = owner.process
    user = process.euid if process.user is None else process.user  # a user without a name is its number
    return (_word(process.exe), _word(user), _word(process.unit))


def _word(value: object) -> str:
    return "?" if isinstance(value, Missing) else "" if value is None else str(value)
