"""`github`: annotations of a GitHub Actions job, printed to its log (workflow commands).

GitHub shows 10 errors, 10 warnings and 10 notices of one step and drops the rest without a word, so what is
the same is folded by rule, and the tenth of a kind says how many more there are. Syntax and escaping are
those of actions/toolkit, packages/core/src/command.ts. A command cannot begin inside a text: all texts are
on one line with nothing hidden in them. argv is in none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fleetaudit.model import Report, Run, Severity, Summary, Verdict
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import FORMULA, compliance_text, counted, denominators_text, notes
from fleetaudit.report.folding import BrokenRule, Digest, Folds
from fleetaudit.report.phrases import clipped, example, sentence

_EACH: Final = 10
_KINDS_TOLD: Final = 3  # different violations of one rule
_REASON: Final = 500
_MESSAGE: Final = 3000
_NAMES: Final = 20


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One line of a job's log. `place` is a file and a line, if any; `title` and `message` are plain text."""

    title: str
    message: str
    place: tuple[str, int] | None = None


def github(options: RenderOptions) -> Renderer:
    """The renderer of `github`."""

    def render(report: Report) -> Iterator[bytes]:
        digest = Digest()
        for audit in report.audits:
            digest.add(audit)
            yield b""
        summary = report.summary()
        broken = digest.violations()
        grave = [rule for rule in broken if rule.first.severity.at_least(Severity.MEDIUM)]
        light = [rule for rule in broken if not rule.first.severity.at_least(Severity.MEDIUM)]
        files = {source.name: source.path for source in report.run.policies}
        errors = [*_interrupted(report.run), *(_violation(rule, files) for rule in grave)]
        warnings = [*(_violation(rule, files) for rule in light), *_not_known(digest, summary)]
        notices = [_figures(report.run, summary, digest), *_accepted(digest)]
        if options.include_pass:
            notices += _passed(digest)
        for kind, found in (("error", errors), ("warning", warnings), ("notice", notices)):
            yield "".join(_lines(kind, found)).encode("utf-8")

    return render


def _interrupted(run: Run) -> Iterator[_Annotation]:
    if not run.complete:
        yield _Annotation("The audit was interrupted", "hosts are missing from this report")


def _violation(rule: BrokenRule, files: dict[str, str]) -> _Annotation:
    first = rule.first
    said = [
        f"{example(fold)}: {sentence(fold.sample, _REASON)}"
        for fold in islice(rule.entries, _KINDS_TOLD)
        if fold.sample is not None
    ]
    more = len(rule.entries) - _KINDS_TOLD
    said += [f"and {more} more kinds of violation"] if more > 0 else []
    said += [f"remedy: {first.remediation}"] if first.remediation else []
    title = f"{first.severity.value}: {first.title} ({counted(rule.hosts.count, 'host')})"
    file = files.get(first.policy)
    place = (file, first.line) if file else None
    return _Annotation(title, f"{first.policy}/{first.rule}: " + "; ".join(said), place)


def _not_known(digest: Digest, summary: Summary) -> Iterator[_Annotation]:
    """Hosts and rules without a judgement. Each kind is one annotation, so none can crowd out another."""
    if summary.failed:
        said = [
            f"{fold.hosts}: {status.value}{f': {detail}' if detail else ''}"
            for fold in digest.failed
            for status, detail in [fold.key]
        ]
        yield _Annotation(f"{counted(summary.failed, 'host')} not audited", _few(said))
    for verdict, folds, what in (
        (Verdict.UNKNOWN, digest.unknown, "could not be judged"),
        (Verdict.ERROR, digest.errors, "could not be run"),
    ):
        if len(folds):
            results = counted(summary.results.get(verdict.value, 0), "result")
            yield _Annotation(f"{results} {verdict.value}: rules that {what}", _told(folds))
    if digest.unjudged.count:
        yield _Annotation(
            f"{counted(digest.unjudged.count, 'host')} without a rule that applies", str(digest.unjudged)
        )
    if len(digest.partial):
        said = [f"{fold.hosts}: {fold.key}" for fold in digest.partial]
        yield _Annotation(f"{counted(summary.partial, 'host')} covered only in part", _few(said))
    wanting = [it for it in summary.waivers if it.wants_attention]
    if wanting:
        said = [f"{it.policy}/{it.rule}: {', '.join(it.states)}: {it.detail}" for it in wanting]
        place = (wanting[0].file, wanting[0].line)
        yield _Annotation(f"{counted(len(wanting), 'waiver')} that want attention", _few(said), place)


def _accepted(digest: Digest) -> Iterator[_Annotation]:
    if len(digest.waived):
        yield _Annotation("Waived: violations that somebody accepted, not passes", _told(digest.waived))


def _passed(digest: Digest) -> Iterator[_Annotation]:
    if len(digest.passed):
        said = [f"{'/'.join(fold.key)} on {counted(fold.hosts.count, 'host')}" for fold in digest.passed]
        yield _Annotation("Passed", _few(said))


def _figures(run: Run, summary: Summary, digest: Digest) -> _Annotation:
    counts = ", ".join(f"{count} {name}" for name, count in summary.results.items())
    container = f"; on {digest.containers}: {CONTAINER_NOTICE}" if digest.containers.count else ""
    return _Annotation(
        f"fleetaudit {run.id}: exit code {int(summary.exit_code)}",
        f"hosts: {denominators_text(summary)}; results: {counts}; compliance {compliance_text(summary)} "
        f"({FORMULA}); {'; '.join([*notes(run, summary), NOTICE])}{container}",
    )


def _told(folds: Folds[str]) -> str:
    return _few([f"{fold.hosts}: {fold.key} (rules: {_few(list(fold.rules))})" for fold in folds])


def _few(said: Sequence[str]) -> str:
    shown = "; ".join(clipped(item, _REASON) for item in said[:_NAMES])
    return f"{shown}; and {len(said) - _NAMES} more" if len(said) > _NAMES else shown


def _lines(kind: str, found: Sequence[_Annotation]) -> Iterator[str]:
    if len(found) <= _EACH:
        shown = list(found)
    else:
        rest = found[_EACH - 1 :]
        title = f"{len(rest)} more of this kind, which GitHub would not show"
        shown = [*found[: _EACH - 1], _Annotation(title, _few([item.title for item in rest]))]
    for item in shown:
        properties = [f"title={_property(clipped(item.title, 200))}"]
        if item.place is not None:
            file, line = item.place
            properties[:0] = [f"file={_property(clipped(file))}", f"line={max(line, 1)}"]
        yield f"::{kind} {','.join(properties)}::{_data(clipped(item.message, _MESSAGE))}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
