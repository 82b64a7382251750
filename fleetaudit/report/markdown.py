"""`markdown`: a job summary (GitHub's $GITHUB_STEP_SUMMARY, a merge request's comment). GitHub's flavour.

GitHub drops a summary over 1 MiB whole, so this one never is: what does not fit is counted. Text from hosts
and files is written so that it makes no markup, link, mention or table cell: all that could is a numeric
character reference, which CommonMark never takes for structure (section 2.5). argv is nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fleetaudit.model import HostStatus, Report, Run, Summary, Verdict
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import FORMULA, compliance_text, counted, denominators, notes
from fleetaudit.report.folding import Digest, Folds
from fleetaudit.report.markup import literal
from fleetaudit.report.phrases import clipped, example, sentence

_LIMIT: Final = 1_000_000  # bytes; GitHub's is 1 MiB = 1,048,576
_RESERVE: Final = 4_000  # for the last lines
_CELL: Final = 400
_ROWS: Final = 200  # of one table
_OUTCOMES: Final = {0: "Compliant", 1: "Violations", 3: "Incomplete", 130: "Interrupted"}


def markdown(options: RenderOptions) -> Renderer:
    """The renderer of `markdown`."""

    def render(report: Report) -> Iterator[bytes]:
        digest = Digest()
        for audit in report.audits:
            digest.add(audit)
            yield b""
        sheet = _Sheet()
        _write(sheet, report.run, report.summary(), digest, options)
        yield sheet.encoded()

    return render


class _Sheet:
    """Collects lines up to the limit; counts the rows that found no place."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._left_out = 0

    def line(self, text: str = "", limit: int = _LIMIT - _RESERVE) -> bool:
        """One more line, unless the whole would be over `limit` bytes."""
        size = len(text.encode("utf-8")) + 1
        if self._size + size > limit:
            return False
        self._size += size
        self._lines.append(text)
        return True

    def table(self, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A section with a table; cells are text, not markup. Half of the room is left to those after it."""
        everything = list(rows)
        if not everything:
            return
        limit = (self._size + _LIMIT - _RESERVE) // 2
        for text in (f"### {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"):
            self.line(text)
        shown = everything[:_ROWS]
        written = sum(self.line(f"| {' | '.join(_text(cell) for cell in row)} |", limit) for row in shown)
        self._left_out += len(shown) - written
        self.line()
        if len(everything) > written:
            self.line(f"and {len(everything) - written} more: the JSON and CSV reports have them all.")
            self.line()

    def encoded(self) -> bytes:
        if self._left_out:
            self._lines.append(f"**{self._left_out} rows had no place: a summary has at most 1 MiB.**")
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8")


def _write(sheet: _Sheet, run: Run, summary: Summary, digest: Digest, options: RenderOptions) -> None:
    sheet.line(f"## fleetaudit: {_headline(summary, digest)}")
    sheet.line()
    if not run.complete:
        sheet.line("**The run was interrupted: hosts are missing.**")
        sheet.line()
    _figures(sheet, summary, digest, notes(run, summary))
    _violations(sheet, digest)
    failed = [(fold.key[0].value, str(fold.hosts), fold.key[1]) for fold in digest.failed]
    sheet.table(f"Not audited: {counted(summary.failed, 'host')}", ("status", "hosts", "detail"), failed)
    partial = [(str(fold.hosts), fold.key) for fold in digest.partial]
    sheet.table(f"Covered only in part: {counted(summary.partial, 'host')}", ("hosts", "gaps"), partial)
    if digest.unjudged.count:
        title = f"Not judged, no rule applies: {counted(digest.unjudged.count, 'host')}"
        sheet.table(title, ("hosts",), [(str(digest.unjudged),)])
    _folds(sheet, "Could not be judged", digest.unknown)
    _folds(sheet, "Errors: rules that could not be run", digest.errors)
    _folds(sheet, "Waived: violations that somebody accepted, not passes", digest.waived)
    waivers = [
        (f"{it.file}:{it.line}", f"{it.policy}/{it.rule}", ", ".join(it.states), it.detail)
        for it in summary.waivers
        if it.wants_attention
    ]
    sheet.table("Waivers that want attention", ("waiver", "rule", "states", "why"), waivers)
    if options.include_pass:
        passed = [("/".join(fold.key), str(fold.hosts.count)) for fold in digest.passed]
        sheet.table("Passed", ("rule", "hosts"), sorted(passed))
    _closing(sheet, run, summary, digest)


def _headline(summary: Summary, digest: Digest) -> str:
    if summary.exit_code == 0 and summary.baseline and summary.baseline.new_only and summary.baseline.old:
        return f"Nothing new; {counted(summary.baseline.old, 'old violation')}"
    if summary.exit_code == 0 and digest.broken:
        return "Compliant by the chosen severity"
    return _OUTCOMES.get(int(summary.exit_code), "Failed")


def _figures(sheet: _Sheet, summary: Summary, digest: Digest, told: Sequence[str]) -> None:
    hosts = denominators(summary)
    sheet.table("Hosts", tuple(hosts), [[str(count) for count in hosts.values()]])
    names = [verdict.value.replace("_", " ") for verdict in Verdict]
    counts = [str(summary.results.get(verdict.value, 0)) for verdict in Verdict]
    sheet.table("Results", names, [counts])
    grave = [(name, str(count)) for name, count in summary.severities.items() if count]
    sheet.table(
        "Failing results by severity", [name for name, _ in grave], [[c for _, c in grave]] * bool(grave)
    )
    sheet.line(f"Compliance: {compliance_text(summary)} = {_text(FORMULA)}.")
    sheet.line()
    seen = f"{digest.endpoints} network endpoints seen, {digest.unapproved} that no rule approves."
    sheet.line(seen)
    sheet.line()
    for note in told:
        sheet.line(f"{_text(note)}.")
        sheet.line()


def _violations(sheet: _Sheet, digest: Digest) -> None:
    rows = []
    for broken in digest.violations():
        rule = broken.first
        for fold in broken.entries:
            if fold.sample is None:
                continue
            what = sentence(fold.sample, _CELL)
            name = f"{rule.policy}/{rule.rule}"
            rows.append((rule.severity.value, name, example(fold), what, rule.remediation))
    sheet.table("Violations", ("severity", "rule", "hosts", "what", "remedy"), rows)


def _folds(sheet: _Sheet, title: str, folds: Folds[str]) -> None:
    rows = [(str(fold.hosts), fold.key, ", ".join(fold.rules), ", ".join(fold.endpoints)) for fold in folds]
    sheet.table(title, ("hosts", "why", "rules", "listeners"), rows)


def _closing(sheet: _Sheet, run: Run, summary: Summary, digest: Digest) -> None:
    statuses = ", ".join(
        f"{summary.statuses[status.value]} {status.value}"
        for status in HostStatus
        if summary.statuses.get(status.value)
    )
    policies = ", ".join(source.name or source.path for source in run.policies) or "none"
    sheet.line(f"Run {_text(run.id)}, {_text(run.started_at)} to {_text(run.finished_at)}, ")
    sheet.line(
        f"fleetaudit {_text(run.version)}, policies: {_text(policies)}. Hosts by status: {_text(statuses)}."
    )
    sheet.line(f"Exit code {int(summary.exit_code)}. Scope: {NOTICE}.")
    if digest.containers.count:
        sheet.line(f"On {_text(str(digest.containers))}: {CONTAINER_NOTICE}.")


def _text(text: str) -> str:
    return literal(clipped(text, _CELL))
