"""`html`: one page that needs nothing else: no network, no other file, and its script only to search.

What matters is made here: the verdict, the denominators, the fleet map, the findings folded by rule. Only the
search table is drawn by a script, from data in the page. Text from hosts and files is data everywhere: Jinja2
escapes it, the script sets it as text, and the page's policy (CSP, by hash) lets nothing run but that script.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from fleetaudit.model import HostStatus, Report, Run, Source, Summary, Verdict
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE, Renderer, RenderOptions
from fleetaudit.report.figures import FORMULA, compliance_text, counted, denominators, notes
from fleetaudit.report.folding import Digest
from fleetaudit.report.html_findings import listings, sections, severity_counts
from fleetaudit.report.html_map import FleetMap
from fleetaudit.report.html_past import Changes
from fleetaudit.report.html_rows import Rows
from fleetaudit.report.phrases import clipped

_OUTCOMES: Final = {
    0: ("Compliant", "good", "Every rule that decides was judged and holds."),
    1: ("Violations", "bad", "There are violations at or above the severity that fails a run."),
    3: ("Incomplete", "warning", "No such violation was seen, but not everything could be judged."),
    130: ("Interrupted", "warning", "The run was stopped: hosts are missing."),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A number and its share of a whole, in tenths of a percent."""

    name: str
    tone: str
    count: int
    share: int
    start: int = 0


def html(options: RenderOptions) -> Renderer:
    """The renderer of `html`."""

    def render(report: Report) -> Iterator[bytes]:
        digest, fleet = Digest(), FleetMap()
        rows = Rows(include_pass=options.include_pass)
        changes = Changes(options.past) if options.past else None
        for audit in report.audits:
            digest.add(audit)
            fleet.add(audit)
            rows.add(audit)
            if changes is not None:
                changes.add(audit)
            yield b""
        summary = report.summary()
        values = {
            **_front(report.run, summary, digest),
            "changes": changes,
            "trend": changes.trend(summary) if changes else None,
            "map": fleet.drawn(report.run.policies),
            "sections": sections(digest),
            "listings": listings(digest, summary, include_pass=options.include_pass),
            "rows": rows,
            "data": map(Markup, rows.encoded()),  # escaped by `embedded` for where it stands
            "include_pass": options.include_pass,
        }
        page = _environment().get_template("page.html")
        for part in page.generate(values):
            yield part.encode("utf-8")

    return render


def _front(run: Run, summary: Summary, digest: Digest) -> dict[str, object]:
    """What the first screen says."""
    name, tone, meaning = _outcome(summary, digest)
    hosts = denominators(summary)
    grave = list(severity_counts(summary))
    most = max((count for _, count in grave), default=0)
    statuses = [
        f"{summary.statuses[status.value]} {status.value}"
        for status in HostStatus
        if summary.statuses.get(status.value)
    ]
    return {
        "run": run,
        "run_id": clipped(run.id),
        "version": clipped(run.version),
        "times": (clipped(run.started_at), clipped(run.finished_at)),
        "policies": [clipped(_policy(source)) for source in run.policies],
        "verdict": name,
        "tone": tone,
        "meaning": meaning,
        "said": _said(summary, digest),
        "hosts": [
            Bar(what, "host", count, _tenths(count, summary.targeted)) for what, count in hosts.items()
        ],
        "results": _stacked(summary),
        "severities": [Bar(what, what, count, _tenths(count, most)) for what, count in grave],
        "compliance": compliance_text(summary),
        "formula": FORMULA,
        "endpoints": (digest.endpoints, digest.unapproved),
        "notes": [clipped(note) for note in notes(run, summary)],
        "statuses": ", ".join(statuses),
        "exit_code": int(summary.exit_code),
        "notice": NOTICE,
        "containers": clipped(str(digest.containers)) if digest.containers.count else "",
        "container_notice": CONTAINER_NOTICE,
        **_assets(),
    }


def _outcome(summary: Summary, digest: Digest) -> tuple[str, str, str]:
    gate = summary.baseline
    if summary.exit_code == 0 and gate is not None and gate.new_only and gate.old:
        return "Nothing new", "warning", "No violation that decides is new; the old ones are still there."
    if summary.exit_code == 0 and digest.broken:
        return (
            "Compliant by the chosen severity",
            "warning",
            "There are violations; none is grave enough to fail the run.",
        )
    return _OUTCOMES.get(int(summary.exit_code), ("Failed", "bad", "The run itself failed."))


def _said(summary: Summary, digest: Digest) -> list[str]:
    """What is wrong, in numbers: what was found, then what is not known."""
    said = ["No violation was seen"]
    if digest.broken:
        where = f"{digest.violators.count} of {counted(summary.targeted, 'host')}"
        said = [f"{counted(len(digest.broken), 'rule')} broken on {where}"]
    if summary.failed:
        said.append(f"{counted(summary.failed, 'host')} not audited")
    for kind in (Verdict.UNKNOWN, Verdict.ERROR, Verdict.WAIVED):
        if count := summary.results.get(kind.value, 0):
            said.append(f"{counted(count, 'result')} {kind.value}")
    if summary.unjudged:
        said.append(f"{counted(summary.unjudged, 'host')} without a rule that applies")
    return said


def _stacked(summary: Summary) -> list[Bar]:
    """All results side by side, passes first."""
    numbers = [(verdict.value, summary.results.get(verdict.value, 0)) for verdict in Verdict]
    whole = sum(count for _, count in numbers)
    bars, before = [], 0
    for what, count in numbers:
        start = _tenths(before, whole)
        before += count
        bars.append(Bar(what.replace("_", " "), what, count, _tenths(before, whole) - start, start))
    return bars


def _tenths(part: int, whole: int) -> int:
    return 1000 * part // whole if whole else 0


def _policy(source: Source) -> str:
    name = source.name or source.path
    return f"{name} (not applicable: for none of the targets)" if source.targets == 0 else name


@lru_cache(1)
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=FunctionLoader(_asset),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@lru_cache(1)
def _assets() -> dict[str, object]:
    """Style and script, and their hashes for the page's policy: nothing else may act in it."""
    found: dict[str, object] = {}
    for name in ("page.css", "page.js"):
        text = _asset(name)
        kind = name.rpartition(".")[2]
        found[kind] = Markup(text)  # noqa: S704  (a file of ours)
        found[f"{kind}_hash"] = b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
    return found


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("html_assets").joinpath(name).read_text("utf-8")
