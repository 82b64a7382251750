"""An explanation as text for a terminal and as JSON. What hosts say is escaped here, or in the page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fleetaudit.cli.process_tree import fitted, picture
from fleetaudit.model import Verdict
from fleetaudit.policy.explain import Explanation, ListenerView, OwnerView
from fleetaudit.policy.nearness import EntryMatch, FieldMatch, ListMatch
from fleetaudit.policy.other_tools import Named
from fleetaudit.report.page import Page, Style
from fleetaudit.report.record import listener_record, owner_record, result_record
from fleetaudit.report.wording import Holder, endpoint, program, unowned

_DRAWN = 4  # listeners that are drawn even if nothing is said against them
_MOST_DRAWN = 20  # listeners that are drawn
_ELSEWHERE = " (--format json has them all)"
_NAMED = 10  # listeners or owners of a list
_STYLES = {
    Verdict.PASS: Style.GOOD,
    Verdict.FAIL: Style.BAD,
    Verdict.ERROR: Style.BAD,
    Verdict.UNKNOWN: Style.WARNING,
    Verdict.WAIVED: Style.WARNING,
}


def text(explanation: Explanation, width: int, *, colour: bool) -> str:
    """The explanation for a person, in at most `width` columns."""
    page = Page(width, colour=colour)
    _headline(page, explanation)
    _rule(page, explanation)
    spoken_of = [view for view in explanation.listeners if _is_spoken_of(view)]
    quiet = [view for view in explanation.listeners if not _is_spoken_of(view)]
    for view in spoken_of[:_MOST_DRAWN] + quiet[: max(0, _DRAWN - len(spoken_of))]:
        _listener(page, view, width)
    if len(spoken_of) > _MOST_DRAWN:
        page.heading(f"The rule objects to {len(spoken_of) - _MOST_DRAWN} more{_ELSEWHERE}", Style.BAD)
    _nothing_against(page, quiet[max(0, _DRAWN - len(spoken_of)) :])
    _passed_over(page, explanation)
    _waivers(page, explanation)
    if explanation.advice:
        page.heading("What to do", Style.STRONG)
        for advice in explanation.advice[:_NAMED]:
            page.write(f"- {advice}", indent=2)
        if len(explanation.advice) > _NAMED:
            page.write(f"and {len(explanation.advice) - _NAMED} more{_ELSEWHERE}", indent=2)
    return page.encoded().decode("utf-8")


# ---------------------------------------------------------------- the rule and its verdict


def _headline(page: Page, explanation: Explanation) -> None:
    outcome, rule, result = explanation.outcome, explanation.rule, explanation.result
    verdict = result.verdict.value.replace("_", " ").upper() if result else "NOT SELECTED"
    style = _STYLES.get(result.verdict, Style.STRONG) if result else Style.STRONG
    page.write(f"{verdict}: {explanation.policy.name}/{rule.id} on {outcome.host}", style=style)
    page.write(f"{rule.title} ({rule.severity.value}; {rule.place})", indent=2)
    if result is None:
        page.write(f"policy '{explanation.policy.name}' does not select this host", indent=2)
        return
    if outcome.snapshot is None:
        detail = f": {outcome.detail}" if outcome.detail else ""
        page.write(f"no snapshot: {outcome.status.value}{detail}", indent=2)
        return
    gaps = outcome.snapshot.coverage.gaps
    seen = "everything was seen" if not gaps else f"seen in part: {outcome.detail}"
    when = f", collected {outcome.snapshot.collected_at}" if outcome.snapshot.collected_at else ""
    count = f"{result.checked} listener{'s' if result.checked != 1 else ''} judged"
    page.write(f"{count}; {seen}{when}", indent=2, style=Style.WARNING if gaps else Style.PLAIN)
    shown = {id(finding) for view in explanation.listeners for finding in view.findings}
    for finding in result.findings:
        if id(finding) not in shown:
            page.write(f"{finding.verdict.value}: {finding.reason}", indent=2)


def _rule(page: Page, explanation: Explanation) -> None:
    if not explanation.assertions:
        return
    page.heading("The rule, resolved for this host", Style.STRONG)
    if explanation.conditions:
        conditions = "; ".join(f"{fact} {wanted}" for fact, wanted in explanation.conditions)
        page.write(f"when: {conditions}", indent=2, hang=6)
    selector = "; ".join(f"{name} {wanted}" for name, wanted in explanation.selector)
    page.write(f"selects: {selector or 'every listener there is'}", indent=2, hang=9)
    for name, entries in explanation.assertions:
        if name.endswith("_owners"):
            page.write(f"{name}:", indent=2)
            for number, entry in enumerate(entries, start=1):
                page.write(f"{number}. {entry}", indent=4, hang=3)
        else:
            page.write(f"{name}: {', '.join(entries)}", indent=2, hang=len(name) + 2)


# ---------------------------------------------------------------- one listener


def _listener(page: Page, view: ListenerView, width: int) -> None:
    verdicts = [finding.verdict for finding in view.findings]
    concerned = any(owner.concerned for owner in view.owners)
    worst = next((item for item in _STYLES if item is not Verdict.PASS and item in verdicts), None)
    said = worst.value.upper() if worst else "part of a finding above" if concerned else "nothing against it"
    doubt = "" if view.selected else " (whether the rule selects it is not known)"
    page.heading(f"{endpoint(view.listener)}: {said}{doubt}", _STYLES.get(worst or Verdict.PASS, Style.GOOD))
    for finding in view.findings:
        page.write(finding.reason, indent=2)
        if finding.waiver:
            page.write(f"waiver: {finding.waiver}", indent=4)
    state = unowned(view.listener)
    if state:
        page.write(state, indent=2, style=Style.WARNING)
    if view.owners:
        page.blank()
        for line in picture(view.owners, width - 2):
            page.write(line.text, indent=2, style=line.style)
        page.write(
            "> the rule objects, * holds the socket, others are ancestors", indent=2, style=Style.QUIET
        )
    _entries(page, view.owners)
    _tools(page, view, width)


def _is_spoken_of(view: ListenerView) -> bool:
    return bool(view.findings) or any(owner.concerned for owner in view.owners)


def _nothing_against(page: Page, views: Sequence[ListenerView]) -> None:
    """The other listeners that the rule judged, a line each."""
    if not views:
        return
    page.heading(f"Nothing against {len(views)} more", Style.GOOD)
    for view in views[:_NAMED]:
        owners = ", ".join(
            f"{program(owner.owner.process)}[{owner.owner.process.pid}]" for owner in view.owners[:_NAMED]
        )
        page.write(f"{endpoint(view.listener)}: {owners or unowned(view.listener)}", indent=2)
    if len(views) > _NAMED:
        page.write(f"and {len(views) - _NAMED} more{_ELSEWHERE}", indent=2)


def _entries(page: Page, owners: Sequence[OwnerView]) -> None:
    """Which entries match each owner, or how near one comes; the same is said once."""
    told: dict[object, tuple[OwnerView, list[str]]] = {}
    for view in owners:
        process = view.owner.process
        for found in view.lists:
            words = _list_words(found)
            if words:
                told.setdefault((program(process), process.exe, tuple(words)), (view, words))
    # Those that the rule objects to come first: of many, they are what is looked for.
    in_order = sorted(told.values(), key=lambda item: not item[0].concerned)
    for view, words in in_order[:_NAMED]:
        page.blank()
        page.write(f"{program(view.owner.process)}[{view.owner.process.pid}]: {words[0]}", indent=2)
        for line in words[1:]:
            page.write(line, indent=6, hang=4)
    if len(in_order) > _NAMED:
        page.blank()
        page.write(f"and {len(in_order) - _NAMED} more owners{_ELSEWHERE}", indent=2)


def _list_words(found: ListMatch) -> list[str]:
    if found.matching:
        numbers = ", ".join(str(entry.number) for entry in found.matching)
        verb = "denied by" if found.assertion == "deny_owners" else "matches"
        return [f"{verb} {found.assertion} entry {numbers} ({found.matching[0].text})"]
    near = found.nearest
    if near is None or found.assertion == "deny_owners":
        return []
    may = near.matches is None
    head = f"no entry of {found.assertion} matches" + (" for sure" if may else "")
    return [
        f"{head}; the nearest is entry {near.number}, which {'may differ' if may else 'differs'} in",
        *map(_field_words, near.misses),
    ]


def _field_words(item: FieldMatch) -> str:
    unknown = "" if item.matches is False else " (not known)"
    return f"{item.name}: wanted {item.wanted}; is {item.had}{unknown}"


def _tools(page: Page, view: ListenerView, width: int) -> None:
    """Whom tools that know one owner name, and whether the rule would have passed with that."""
    if len(view.owners) < 2:
        return
    page.blank()
    page.write("Tools that know one owner name:", indent=2)
    for named in view.named:
        blind = named.tool in view.blind
        mark = "  WOULD HAVE PASSED" if blind else ""
        line = fitted(f"{named.tool:<8} {_named_words(named)}", width - 4 - len(mark)) + mark
        page.write(line, indent=4, style=Style.WARNING if blind else Style.PLAIN)


def _named_words(named: Named) -> str:
    if not named.listed:
        return "nobody: it does not list this socket"
    if named.owner is None:
        return "nobody"
    return f"{program(named.owner.process)}[{named.owner.process.pid}]"


# ---------------------------------------------------------------- the rest


def _passed_over(page: Page, explanation: Explanation) -> None:
    found = explanation.passed_over
    if not found:
        return
    count = f"{len(found)} listener{'s' if len(found) != 1 else ''}"
    page.heading(f"Not selected: {count}, the nearest first", Style.STRONG)
    for item in found[:_NAMED]:
        why = "; ".join(f"{field.name} {field.had}, wanted {field.wanted}" for field in item.because)
        page.write(f"{endpoint(item.listener)}: {why}", indent=2)
    if len(found) > _NAMED:
        page.write(f"and {len(found) - _NAMED} more{_ELSEWHERE}", indent=2)


def _waivers(page: Page, explanation: Explanation) -> None:
    if not explanation.waivers:
        return
    page.heading("Waivers considered", Style.STRONG)
    for waiver in explanation.waivers:
        said = "applies" if waiver.applies else "does not apply"
        page.write(f"{waiver.text}: {said}: {waiver.why}", indent=2)


# ---------------------------------------------------------------- JSON


def as_json(explanation: Explanation) -> str:
    """The whole explanation for a program, schema fleetaudit.explanation/1."""
    outcome, rule = explanation.outcome, explanation.rule
    record = {
        "schema": "fleetaudit.explanation/1",
        "host": {"name": outcome.host, "status": outcome.status.value, "detail": outcome.detail},
        "rule": {
            "policy": explanation.policy.name,
            "id": rule.id,
            "title": rule.title,
            "place": str(rule.place),
            "when": dict(explanation.conditions),
            "selector": dict(explanation.selector),
            "assertions": {name: list(entries) for name, entries in explanation.assertions},
        },
        "result": result_record(explanation.result) if explanation.result else None,
        "listeners": [_listener_json(view) for view in explanation.listeners],
        "not_selected": [
            {"listener": listener_record(item.listener), "because": _fields_json(item.because)}
            for item in explanation.passed_over
        ],
        "other_tools": {tool: verdict.value for tool, verdict in explanation.others.items()},
        "waivers": [
            {"place": str(item.place), "waiver": item.text, "applies": item.applies, "why": item.why}
            for item in explanation.waivers
        ],
        "advice": list(explanation.advice),
    }
    return json.dumps(record, indent=2, ensure_ascii=True) + "\n"


def _listener_json(view: ListenerView) -> dict[str, object]:
    return {
        "listener": listener_record(view.listener),
        "selected": view.selected,
        "reasons": [{"verdict": item.verdict.value, "reason": item.reason} for item in view.findings],
        "owners": [
            {
                **owner_record(Holder(owner.owner, owner.concerned, owner.held_by)),
                "entries": [_list_json(found) for found in owner.lists],
            }
            for owner in view.owners
        ],
        "named_by": {
            named.tool: named.owner.process.pid if named.owner else None
            for named in view.named
            if named.listed
        },
        "blind": sorted(view.blind),
    }


def _list_json(found: ListMatch) -> dict[str, object]:
    return {
        "assertion": found.assertion,
        "matching": [entry.number for entry in found.matching],
        "nearest": _entry_json(found.nearest) if found.nearest else None,
    }


def _entry_json(entry: EntryMatch) -> dict[str, object]:
    return {"entry": entry.number, "matches": entry.matches, "differs": _fields_json(entry.misses)}


def _fields_json(fields: Sequence[FieldMatch]) -> list[dict[str, object]]:
    return [
        {"field": item.name, "wanted": item.wanted, "is": item.had, "matches": item.matches}
        for item in fields
    ]
