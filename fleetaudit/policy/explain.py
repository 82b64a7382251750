"""Why a rule says what it says of a host: each listener considered, each owner, each entry, by its fields.

Pure: values in, values out; who shows them escapes them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from fleetaudit.errors import PolicyError, Problem
from fleetaudit.model import Finding, Listener, Missing, Outcome, Owner, Result, Verdict
from fleetaudit.policy.checks.base import Case
from fleetaudit.policy.considering import ConsideredWaiver, consider
from fleetaudit.policy.entry_use import entry_lists
from fleetaudit.policy.evaluate import cases, evaluate
from fleetaudit.policy.fields import LISTENER_FIELDS
from fleetaudit.policy.matchers import Selector
from fleetaudit.policy.model import CompiledRule, Policy, Rule
from fleetaudit.policy.nearness import FieldMatch, ListMatch, list_matches, shown
from fleetaudit.policy.other_tools import Named, Seen, judged_by_tool, named_by, place_of
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.values import MissingVariable, ValueMistake
from fleetaudit.policy.waivers import Waiver, waive

NO_VERDICTS: Mapping[str, Verdict] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class OwnerView:
    """One holder of a listener. `concerned`: a finding is about it; `held_by`: it could receive it."""

    owner: Owner
    held_by: bool
    concerned: bool
    lists: tuple[ListMatch, ...]


@dataclass(frozen=True, slots=True)
class ListenerView:
    """One listener that the rule selects, or (`selected` None) of which that is not known.

    `blind` are the tools by whose list the rule would have nothing to say against it, where it has.
    """

    listener: Listener
    selected: Truth
    owners: tuple[OwnerView, ...]
    findings: tuple[Finding, ...]
    named: tuple[Named, ...]
    blind: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A listener that the rule does not select, and the fields of the selector that rule it out."""

    listener: Listener
    because: tuple[FieldMatch, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A rule on a host. `conditions` (its `when`), `selector` and `assertions` are the rule resolved:
    variables put in.

    `others` is what the rule would say if it saw only what each other tool lists.
    """

    outcome: Outcome
    policy: Policy
    rule: Rule
    result: Result | None
    conditions: tuple[tuple[str, str], ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    assertions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    listeners: tuple[ListenerView, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    others: Mapping[str, Verdict] = field(default_factory=lambda: NO_VERDICTS)
    waivers: tuple[ConsideredWaiver, ...] = ()
    advice: tuple[str, ...] = ()


def explain(
    outcome: Outcome,
    policies: Sequence[Policy],
    policy: Policy,
    rule: Rule,
    *,
    waivers: Sequence[Waiver] = (),
    now: datetime | None = None,
) -> Explanation:
    """The rule on the derived outcome's host; `policies` are all that apply, for what they approve.

    With `now`, the waivers as of that moment are applied.
    """
    audit = evaluate(outcome, policies)
    considered: tuple[ConsideredWaiver, ...] = ()
    if now is not None:
        considered = tuple(consider(audit, policy.name, rule.id, waivers, now))
        audit, _ = waive(audit, waivers, now)
    result = next(
        (item for item in audit.results if (item.policy, item.rule) == (policy.name, rule.id)), None
    )
    resolved = _resolved(Explanation(outcome, policy, rule, result, waivers=considered))
    judged = next((item for item in cases(outcome, policies) if item[1] is rule), None)
    if judged is None or result is None:
        return replace(resolved, advice=tuple(_advice(resolved)))
    _, _, compiled, case = judged
    seen = judged_by_tool(compiled, case)
    whole = replace(
        resolved,
        listeners=tuple(_listener_views(compiled, case, result, seen)),
        passed_over=tuple(_passed_over(rule, compiled.selector, case)),
        others={tool: found.verdict for tool, found in seen.items()},
    )
    return replace(whole, advice=tuple(_advice(whole)))


def find_rule(policies: Sequence[Policy], name: str) -> tuple[Policy, Rule]:
    """The rule called `name` or `policy/name`. Raises PolicyError when there is none, or several."""
    known = {f"{policy.name}/{rule.id}": (policy, rule) for policy in policies for rule in policy.rules}
    found = [item for full, item in known.items() if name in (full, full.split("/", 1)[1])]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(f"{policy.name}/{rule.id}" for policy, rule in found)
        raise PolicyError(Problem(f"several policies have a rule '{name}'", hint=f"write one of {places}"))
    short = [rule.id for policy in policies for rule in policy.rules]
    near = difflib.get_close_matches(name, [*known, *short], n=1)
    hint = f"did you mean {near[0]}?" if near else f"rules: {', '.join(known)}"
    raise PolicyError(Problem(f"there is no rule '{name}'", hint=hint))


# ---------------------------------------------------------------- the rule, resolved


def _resolved(explanation: Explanation) -> Explanation:
    """With the rule in words; one that cannot be compiled for this host says so in its result."""
    rule = explanation.rule
    try:
        compiled = rule.for_host(explanation.outcome.context)
    except (MissingVariable, ValueMistake):
        return explanation
    return replace(
        explanation,
        conditions=tuple((fact, test.text) for fact, test in compiled.when.tests),
        selector=tuple(_selector_words(rule, compiled)),
        assertions=tuple(_assertion_words(rule, compiled)),
    )


def _selector_words(rule: Rule, compiled: CompiledRule) -> Iterator[tuple[str, str]]:
    if "listeners" not in rule.spec and compiled.expression is None:
        return
    spec = rule.spec.get("listeners", {"netns": "any"})
    for name, test in compiled.selector.every_test:
        yield name, test.text
    netns = spec.get("netns", "host") if isinstance(spec, Mapping) else "host"
    yield "netns", shown(netns)
    if compiled.selector.owner is not None:
        yield "owner", compiled.selector.owner.text
    if compiled.selector.approved is not None:
        yield "approved", shown(compiled.selector.approved)
    if compiled.expression is not None:
        yield "when_expr", str(rule.spec.get("when_expr"))


def _assertion_words(rule: Rule, compiled: CompiledRule) -> Iterator[tuple[str, tuple[str, ...]]]:
    listed = {name: entries for name, entries, _ in entry_lists(compiled)}
    for name, entries in listed.items():
        yield name, tuple(entry.text for entry in entries)
    for name in ("same", "owners", "scope", "expect"):
        if name in rule.spec:
            yield name, (shown(rule.spec[name]),)


# ---------------------------------------------------------------- listeners and owners


def _listener_views(
    compiled: CompiledRule, case: Case, result: Result, seen: Mapping[str, Seen]
) -> Iterator[ListenerView]:
    doubtful = {id(listener) for listener in case.doubtful}
    findings: dict[tuple[object, ...], list[Finding]] = {}
    for finding in result.findings:
        if finding.listener is not None:
            findings.setdefault(place_of(finding.listener), []).append(finding)
    for listener in sorted((*case.listeners, *case.doubtful), key=_order):
        place = place_of(listener)
        # A finding about an endpoint names one of its sockets, and the owners of all.
        about = findings.get(place, [])
        fails = any(item.verdict is Verdict.FAIL for item in about)
        yield ListenerView(
            listener=listener,
            selected=None if id(listener) in doubtful else True,
            owners=tuple(_owner_views(compiled, listener, about)),
            findings=tuple(item for item in about if item.listener is listener),
            named=named_by(listener),
            blind=frozenset(tool for tool, it in seen.items() if fails and place not in it.failing),
        )


def _owner_views(compiled: CompiledRule, listener: Listener, about: Sequence[Finding]) -> Iterator[OwnerView]:
    concerned = {owner.process.pid for item in about for owner in item.owners}
    real = {owner.process.pid for owner in listener.owners}
    held = (*listener.owners, *(item for item in listener.held_by if item.process.pid not in real))
    for owner in sorted(held, key=lambda owner: owner.process.pid):
        pid = owner.process.pid
        lists = tuple(list_matches(compiled, owner))
        yield OwnerView(owner, held_by=pid not in real, concerned=pid in concerned, lists=lists)


def _order(listener: Listener) -> tuple[str, ...]:
    port = f"{listener.port:05}" if isinstance(listener.port, int) else ""
    return (str(listener.netns.id), listener.protocol, port, str(listener.address), str(listener.path))


# ---------------------------------------------------------------- listeners that are not the rule's


def _passed_over(rule: Rule, selector: Selector, case: Case) -> Iterator[PassedOver]:
    seen = {id(listener) for listener in (*case.listeners, *case.doubtful)}
    found = [
        PassedOver(listener, tuple(_ruled_out(rule, selector, listener, case)) or _by_expression(rule))
        for listener in case.view.listeners
        if id(listener) not in seen
    ]
    yield from sorted(found, key=lambda item: (len(item.because), _order(item.listener)))


def _ruled_out(rule: Rule, selector: Selector, listener: Listener, case: Case) -> Iterator[FieldMatch]:
    parts = [(name, test.text, Selector(tests=((name, test),))) for name, test in selector.every_test]
    spec = rule.spec.get("listeners")
    netns = spec.get("netns", "host") if isinstance(spec, Mapping) else "any"
    parts.append(("netns", shown(netns), Selector(netns=selector.netns)))
    if selector.owner is not None:
        parts.append(("owner", selector.owner.text, Selector(owner=selector.owner)))
    if selector.approved is not None:
        parts.append(("approved", shown(selector.approved), Selector(approved=selector.approved)))
    for name, wanted, part in parts:
        truth = part.match(listener, case.view)
        if truth is False:
            yield FieldMatch(name, wanted, _listener_had(name, listener, case), truth)


def _by_expression(rule: Rule) -> tuple[FieldMatch, ...]:
    """What is left to rule out a listener that all fields select."""
    text = rule.spec.get("when_expr")
    return (FieldMatch("when_expr", str(text), "false", matches=False),) if text is not None else ()


def _listener_had(name: str, listener: Listener, case: Case) -> str:
    if name == "netns":
        netns = listener.netns
        return "host" if netns.host is True else str(netns.name or netns.id)
    if name == "approved":
        return shown(case.view.approved(listener))
    known = LISTENER_FIELDS.get(name)
    if known is None:
        return "another"
    values = [value for value in known.read(listener) if not isinstance(value, Missing)]
    return " = ".join(dict.fromkeys(map(shown, values))) or "not known"


# ---------------------------------------------------------------- what to do


def _advice(explanation: Explanation) -> Iterator[str]:
    result, snapshot = explanation.result, explanation.outcome.snapshot
    if snapshot is None:
        yield "Audit the host again: without a snapshot nothing of it is known."
    elif result is None:
        hosts = explanation.policy.hosts.text
        yield f"The policy is for hosts '{hosts}': change that if it should be for this one."
    elif result.verdict is Verdict.FAIL:
        yield from _against_violations(explanation, result)
    elif result.verdict is Verdict.UNKNOWN and snapshot.coverage.euid == 0:
        yield "The audit ran as root and did not see everything: the gaps say what stood in its way."
    elif result.verdict is Verdict.UNKNOWN:
        yield "Give the audit the privileges that it lacked (run it as root, or with --become)."
    elif result.verdict is Verdict.ERROR:
        yield "Set what the rule needs in the inventory, or correct the rule."
    elif result.verdict is Verdict.NOT_APPLICABLE and explanation.passed_over:
        yield "If one of the listeners that were passed over is meant, change what the rule selects."


def _against_violations(explanation: Explanation, result: Result) -> Iterator[str]:
    if result.remediation:
        yield result.remediation
    for view in explanation.listeners:
        for owner in view.owners:
            yield from _about_owner(owner)


def _about_owner(view: OwnerView) -> Iterator[str]:
    """What to do about a holder that came by the socket by accident."""
    if not view.concerned or isinstance(view.owner.inherited, Missing):
        return
    process, how = view.owner.process, view.owner.inherited.value
    if how not in ("leak", "orphan"):
        return
    giver = f"process {view.owner.handed_by}" if view.owner.handed_by else "the server that opened it"
    yield (
        f"End process {process.pid} if nobody needs it; {giver} must set close-on-exec (SOCK_CLOEXEC) on the "
        "socket, or the next child inherits it too."
    )
