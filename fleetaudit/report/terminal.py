"""`text`: for a person. The first screen says what is wrong and where; what is the same is said once.

The findings are folded in memory until the last host has passed: the headline comes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from fleetaudit.model import BaselineStanding, Finding, HostStatus, Report, Run, Source, Summary, Verdict
from fleetaudit.report import wording
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE, Renderer, RenderOptions
from fleetaudit.report.folding import BrokenRule, Digest, Fold, Folds, owner_shape
from fleetaudit.report.page import Page, Style
from fleetaudit.report.wording import Holder

K = TypeVar("K", bound=Hashable)
_OWNERS_SHOWN: Final = 8
_RULES_SHOWN: Final = 4
_HOSTS_NAMED: Final = 3
_OUTCOMES: Final = {
    0: ("COMPLIANT", Style.GOOD, "every rule that decides was judged and holds"),
    1: ("VIOLATIONS", Style.BAD, "violations at or above the severity that fails a run"),
    3: ("INCOMPLETE", Style.WARNING, "no such violation was seen, but not everything could be judged"),
    130: ("INTERRUPTED", Style.WARNING, "the run was stopped: hosts are missing"),
}
_OUTCOMES_OF_NEW: Final = {
    0: (
        "NOTHING NEW",
        Style.WARNING,
        "no violation that decides is new; the old ones are still there",
    ),
    1: (
        "NEW VIOLATIONS",
        Style.BAD,
        "violations that decide and that the baseline does not have",
    ),
}
_SEVERITY_STYLE: Final = {"critical": Style.BAD, "high": Style.BAD, "medium": Style.WARNING}


def text(options: RenderOptions) -> Renderer:
    """The renderer of `text`, for this width and colour."""

    def render(report: Report) -> Iterator[bytes]:
        digest = Digest()
        for audit in report.audits:
            digest.add(audit)
            yield b""
        yield _page(report.run, report.summary(), digest, options).encoded()

    return render


def _page(run: Run, summary: Summary, digest: Digest, options: RenderOptions) -> Page:
    page = Page(options.width, colour=options.colour)
    _headline(page, run, summary, digest, options)
    _violations(page, digest, options)
    _not_audited(page, summary, digest, options)
    _listed(page, "Could not be judged", digest.unknown, Style.WARNING, options)
    _listed(page, "Errors: rules that could not be run", digest.errors, Style.BAD, options)
    _listed(
        page, "Waived: violations that somebody accepted, not passes", digest.waived, Style.WARNING, options
    )
    _waivers(page, summary, options)
    if options.include_pass:
        _passed(page, digest)
    _closing(page, summary, digest)
    return page


# ---------------------------------------------------------------- what a reader sees first


def _policy(source: Source) -> str:
    name = source.name or source.path
    return f"{name} (not applicable: for none of the targets)" if source.targets == 0 else name


def _headline(page: Page, run: Run, summary: Summary, digest: Digest, options: RenderOptions) -> None:
    name, style, _ = _outcome(summary, digest)
    page.write(f"{name}: {_verdict(summary, digest)}", style=style)
    violations = digest.violations()
    for broken in violations[: options.entries]:
        rule = broken.first
        where = str(broken.hosts) if broken.hosts.count <= _HOSTS_NAMED else f"{broken.hosts.count} hosts"
        page.write(f"{rule.severity.value:9} {rule.policy}/{rule.rule}: {where}", indent=2, hang=10)
    if len(violations) > options.entries:
        page.write(f"and {len(violations) - options.entries} more rules, all of them below", indent=2)
    if violations:
        page.blank()
    reached = summary.ok + summary.partial
    page.write(
        f"{_number(summary.targeted, 'host')} targeted, {reached} reached, {summary.ok} fully covered, "
        f"{reached - summary.unjudged} judged",
        indent=2,
    )
    if summary.left_out:
        page.write(f"{_number(summary.left_out, 'more host')} left out by --where", indent=2)
    counts = [
        f"{summary.results.get(verdict.value, 0)} {verdict.value.replace('_', ' ')}" for verdict in Verdict
    ]
    page.write(f"{_number(sum(summary.results.values()), 'result')}: {', '.join(counts)}", indent=2)
    seen = _number(digest.endpoints, "network endpoint")
    page.write(f"{seen} seen, {digest.unapproved} that no rule approves", indent=2)
    if summary.baseline is not None:
        page.write(_baseline(summary.baseline), indent=2)
    if not run.complete:
        page.write("the run was interrupted: this report is not complete", indent=2, style=Style.WARNING)
    policies = ", ".join(_policy(source) for source in run.policies) or "none"
    page.write(f"run {run.id}, {run.started_at} to {run.finished_at}", indent=2, style=Style.QUIET)
    page.write(f"fleetaudit {run.version}, policies: {policies}", indent=2, style=Style.QUIET)
    left_out = run.options.get("rules_left_out")
    if isinstance(left_out, int) and left_out:
        page.write(f"{_number(left_out, 'rule')} left out by --tags and --skip-tags", indent=2)


def _baseline(standing: BaselineStanding) -> str:
    found = f"{_number(standing.new, 'new violation')}, {standing.old} old"
    if standing.newly_waived:
        found += f", {standing.newly_waived} newly waived"
    what = "; only new ones fail the run" if standing.new_only else ""
    return f"against the baseline {standing.name} ({_number(standing.hosts, 'host')}): {found}{what}"


def _verdict(summary: Summary, digest: Digest) -> str:
    by_severity = [f"{count} {name}" for name, count in summary.severities.items() if count]
    missing = [f"{_number(summary.failed, 'host')} not audited"] if summary.failed else []
    kinds = (Verdict.WAIVED, Verdict.UNKNOWN, Verdict.ERROR)
    counted = [(summary.results.get(kind.value, 0), kind.value) for kind in kinds]
    missing += [f"{_number(count, 'result')} {name}" for count, name in counted if count]
    if summary.unjudged:
        missing.append(f"{_number(summary.unjudged, 'host')} without a rule that applies")
    said = [
        f"{_number(len(digest.broken), 'rule')} broken on {digest.violators.count} of "
        f"{_number(summary.targeted, 'host')} ({', '.join(by_severity)})"
        if digest.broken
        else "no violation seen"
    ]
    return "; ".join(said + missing)


def _outcome(summary: Summary, digest: Digest) -> tuple[str, Style, str]:
    code, gate = summary.exit_code, summary.baseline
    if gate is not None and gate.new_only:
        if code == 0 and gate.old:
            return _OUTCOMES_OF_NEW[0]
        if code == 1 and (gate.new or gate.newly_waived):
            return _OUTCOMES_OF_NEW[1]
    if code == 0 and digest.broken:
        return (
            "COMPLIANT BY THE CHOSEN SEVERITY",
            Style.WARNING,
            "no violation is grave enough to fail the run",
        )
    return _OUTCOMES.get(code, ("FAILED", Style.BAD, "the run itself failed"))


# ---------------------------------------------------------------- violations


def _violations(page: Page, digest: Digest, options: RenderOptions) -> None:
    for broken in digest.violations():
        rule = broken.first
        severity = rule.severity.value
        title = f"{severity.upper()}  {rule.policy}/{rule.rule}: {rule.title}"
        page.heading(title, _SEVERITY_STYLE.get(severity, Style.STRONG))
        if rule.controls:
            page.write(f"controls: {wording.controls(rule.controls)}", indent=2, style=Style.QUIET)
        _entries(page, broken, options)
        if rule.remediation:
            page.write(f"remedy: {rule.remediation}", indent=2, hang=8)


def _entries(page: Page, broken: BrokenRule, options: RenderOptions) -> None:
    for fold in islice(broken.entries, options.entries):
        if fold.sample is not None:
            _entry(page, fold, fold.sample)
    _rest(page, len(broken.entries), options, f"on {_number(broken.hosts.count, 'host')} in all")


def _entry(page: Page, fold: Fold[K], finding: Finding) -> None:
    alone = fold.hosts.count == 1
    where = wording.endpoint(finding.listener) if finding.listener else ""
    hosts = str(fold.hosts) if alone else f"{fold.hosts.count} hosts"
    mark = "  NEW" if finding.new else ""
    page.write(f"{hosts}  {where}".rstrip() + mark, indent=2, style=Style.STRONG)
    if not alone:
        page.write(str(fold.hosts), indent=4, hang=0)
    _owners(page, wording.holders(finding), finding.reason, pids=alone)
    if finding.listener and (state := wording.unowned(finding.listener)):
        page.write(f"  ({state})", indent=4)
    example = "" if alone else f"on {fold.hosts.names[0]}: "
    page.write(f"{example}{finding.reason}", indent=4)


def _owners(page: Page, holders: Iterable[Holder], reason: str, *, pids: bool) -> None:
    """The owners, ">" before those the finding is about; those that differ only in pid are one line."""
    groups: dict[tuple[str, ...], list[Holder]] = {}
    for holder in holders:
        groups.setdefault(owner_shape(holder), []).append(holder)
    for shape in sorted(groups)[:_OWNERS_SHOWN]:
        _owner(page, groups[shape], reason, pids=pids)
    hidden = sum(len(groups[shape]) for shape in sorted(groups)[_OWNERS_SHOWN:])
    if hidden:
        page.write(f"  and {_number(hidden, 'more owner')}", indent=4)


def _owner(page: Page, alike: list[Holder], reason: str, *, pids: bool) -> None:
    holder, process = alike[0], alike[0].owner.process
    number = f" x{len(alike)}" if len(alike) > 1 else f"[{process.pid}]"
    facts = [f"{wording.program(process)}{number if pids else ''} ({wording.account(process)})"]
    if isinstance(process.exe, str):
        facts.append(process.exe + (" (deleted)" if process.exe_deleted is True else ""))
    facts += [wording.origin(holder.owner)] if wording.origin(holder.owner) else []
    facts += ["could receive the socket"] if holder.held_by else []
    mark = "> " if holder.concerned else "  "
    page.write(mark + ", ".join(facts), indent=4, hang=4)
    told = any(f"(pid {it.owner.process.pid}) < " in reason for it in alike)
    if holder.concerned and holder.owner.ancestors and not told:
        chain = " < ".join(
            f"{wording.program(item)}{f'[{item.pid}]' if pids else ''}" for item in holder.owner.ancestors
        )
        page.write(f"started by {chain}", indent=8, style=Style.QUIET)


# ---------------------------------------------------------------- what is not known


def _not_audited(page: Page, summary: Summary, digest: Digest, options: RenderOptions) -> None:
    if len(digest.failed):
        page.heading(f"Not audited: {_number(summary.failed, 'host')}", Style.WARNING)
        for fold in islice(digest.failed, options.entries):
            status, detail = fold.key
            _said_of(page, fold, f"{status.value}: {detail}" if detail else status.value)
        statuses = [(name.value, summary.statuses.get(name.value, 0)) for name in HostStatus]
        counts = ", ".join(f"{count} {name}" for name, count in statuses if count)
        _rest(page, len(digest.failed), options, f"hosts by status: {counts}")
    if len(digest.partial):
        page.heading(f"Covered only in part: {_number(summary.partial, 'host')}", Style.WARNING)
        for partial in islice(digest.partial, options.entries):
            _said_of(page, partial, partial.key)
        _rest(page, len(digest.partial), options, f"on {_number(summary.partial, 'host')} in all")
    if digest.unjudged.count:
        page.heading(f"Not judged, no rule applies: {_number(digest.unjudged.count, 'host')}", Style.WARNING)
        page.write(str(digest.unjudged), indent=2, hang=0)


def _listed(page: Page, title: str, folds: Folds[str], style: Style, options: RenderOptions) -> None:
    if not len(folds):
        return
    page.heading(title, style)
    for fold in islice(folds, options.entries):
        _said_of(page, fold, fold.key)
        page.write(f"rules: {_some(fold.rules)}", indent=4, hang=7, style=Style.QUIET)
        if fold.endpoints:
            page.write(f"listeners: {_some(fold.endpoints)}", indent=4, hang=11, style=Style.QUIET)
    _rest(page, len(folds), options)


def _waivers(page: Page, summary: Summary, options: RenderOptions) -> None:
    wanting = [standing for standing in summary.waivers if standing.wants_attention]
    if not wanting:
        return
    page.heading("Waivers that want attention", Style.WARNING)
    for standing in wanting[: options.entries]:
        page.write(
            f"{standing.file}:{standing.line}  {standing.policy}/{standing.rule}: "
            f"{', '.join(standing.states)}: {standing.detail}",
            indent=2,
        )
    _rest(page, len(wanting), options)


def _said_of(page: Page, fold: Fold[K], what: str) -> None:
    hosts = str(fold.hosts) if fold.hosts.count == 1 else f"{fold.hosts.count} hosts ({fold.hosts})"
    page.write(f"{hosts}: {what}", indent=2)


def _rest(page: Page, entries: int, options: RenderOptions, extent: str = "") -> None:
    """That a list was cut: never without a word, and where the rest is."""
    if entries > options.entries:
        more = f"and {entries - options.entries} more{', ' if extent else ''}{extent}"
        page.write(f"{more} (the JSON and CSV reports have them all)", indent=2)


def _some(names: Iterable[str]) -> str:
    everything = list(names)
    more = f" and {len(everything) - _RULES_SHOWN} more" if len(everything) > _RULES_SHOWN else ""
    return ", ".join(everything[:_RULES_SHOWN]) + more


# ---------------------------------------------------------------- the end


def _passed(page: Page, digest: Digest) -> None:
    if not len(digest.passed):
        return
    page.heading("Passed", Style.GOOD)
    for fold in sorted(digest.passed, key=lambda fold: fold.key):
        page.write(f"{'/'.join(fold.key)} on {_number(fold.hosts.count, 'host')}", indent=2)


def _closing(page: Page, summary: Summary, digest: Digest) -> None:
    page.blank()
    if idle := summary.results.get(Verdict.NOT_APPLICABLE.value, 0):
        page.write(f"Not applicable: {_number(idle, 'result')}, nothing on the host that the rule is about.")
    page.write(f"Scope: {NOTICE}.", style=Style.QUIET)
    if digest.containers.count:
        page.write(f"On {_hosts(digest)}: {CONTAINER_NOTICE}.", style=Style.QUIET)
    for fold in digest.stale:
        names = f"{_number(fold.hosts.count, 'host')} ({fold.hosts})"
        page.write(f"stale_agent on {names}: {fold.key}.", style=Style.WARNING)
    name, style, meaning = _outcome(summary, digest)
    page.write(f"Exit code {int(summary.exit_code)} ({name.lower()}): {meaning}.", style=style)


def _hosts(digest: Digest) -> str:
    return f"{_number(digest.containers.count, 'host')} ({digest.containers})"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
