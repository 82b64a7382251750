"""What `fleetaudit history` prints, in words and in JSON."""

from __future__ import annotations

from dataclasses import asdict

from fleetaudit.cli.console import say
from fleetaudit.history.comparing import Comparison
from fleetaudit.history.diff import fold, holder_words
from fleetaudit.history.past import Judged, Listening, Look
from fleetaudit.history.reading import StoredHost, StoredRun
from fleetaudit.history.standing import Standing
from fleetaudit.text import visible

_COUNTED = ("fail", "waived", "unknown", "error", "pass")
_NAMED = 10


# ---------------------------------------------------------------- in words


def run_line(run: StoredRun) -> str:
    """A run in one line."""
    begin = f"{visible(run.run_id)}  {visible(run.started_at)}"
    if not run.finished:
        return f"{begin}  cut short while it was stored"
    whole = "" if run.complete else ", interrupted"
    found = counts(run.summary.get("results", {}), None)
    return f"{begin}  exit {run.exit_code}  {reached(run)}{whole}  {found}"


def reached(run: StoredRun) -> str:
    """How many of its targets a run reached."""
    hosts = run.summary.get("hosts", {})
    return f"{hosts.get('ok', 0) + hosts.get('partial', 0)} of {hosts.get('targeted', 0)} hosts"


def counts(found: dict[str, int], before: dict[str, int] | None) -> str:
    """Verdicts counted, with what changed since `before`."""

    def one(name: str) -> str:
        now = found.get(name, 0)
        change = 0 if before is None else now - before.get(name, 0)
        return f"{now} {name}" + (f" ({change:+d})" if change else "")

    return ", ".join(map(one, _COUNTED))


def say_missing(found: Comparison) -> None:
    """Tell on standard error of whom a comparison says nothing, or not all."""
    for name, reason in list(found.missing.items())[:_NAMED]:
        say(visible(f"{name}: not compared: {reason}"))
    if len(found.missing) > _NAMED:
        say(f"and {len(found.missing) - _NAMED} hosts more that were not compared")
    if found.partly:
        more = f" and {len(found.partly) - _NAMED} more" if len(found.partly) > _NAMED else ""
        say(visible(f"seen in part: {', '.join(found.partly[:_NAMED])}{more}"))


def look_text(host: str, look: Look, listeners: tuple[Listening, ...]) -> str:
    """What a look found."""
    head = f"{host}  {look.looked_at}  {look.status}  (run {look.run_id})"
    if look.lasting is None:
        return visible(f"{head}  {look.detail}")
    lines = [f"  {it.words}  {_held(it)}" for it in listeners] or ["  nothing listened there"]
    return "\n".join(map(visible, [head, *lines]))


def _held(it: Listening) -> str:
    if not it.held:
        return holder_words(it.holders) or f"no owner seen ({', '.join(it.endpoint.states)})"
    words = []
    for holder, held in it.held:
        unit = f", {holder.unit}" if holder.unit not in ("", "?") else ""
        words.append(f"{holder_words([holder])[:-1]}, pid {held.pid}{unit})")
    return "; ".join(words)


def standing_text(rule: str, host: str, found: Standing) -> str:
    """How a rule stands."""
    now, first = found.now, found.first
    silent = f", {found.silent} more could not tell" if found.silent else ""
    runs = f"{found.runs} run{'s' if found.runs > 1 else ''}{silent}"
    lines = [f"{host}  {rule}: {now.verdict} since {first.started_at} (run {first.run_id}; {runs})"]
    if found.before is not None:
        lines.append(f"  before that: {found.before.verdict} at {_moment(found.before)}")
    if now.verdict != "pass":
        lines.append(
            f"  last good: {_moment(found.last_good) if found.last_good else 'never in the history'}"
        )
    for it in found.findings:
        where = f"{it.endpoint}: " if it.endpoint else ""
        lines.append(f"  {where}{it.reason}  (first seen {it.first.started_at})")
    return "\n".join(map(visible, lines))


def _moment(it: Judged) -> str:
    return f"{it.started_at} (run {it.run_id})"


# ---------------------------------------------------------------- in JSON


def run_row(run: StoredRun) -> dict[str, object]:
    """A run."""
    return {
        "run": run.run_id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "finished": run.finished,
        "complete": run.complete,
        "exit_code": run.exit_code,
        "summary": run.summary,
    }


def host_row(host: StoredHost) -> dict[str, object]:
    """A host of a run."""
    return {"name": host.name, "status": host.status, "detail": host.detail, "looked_at": host.looked_at}


def comparison_row(old: StoredRun, new: StoredRun, found: Comparison) -> dict[str, object]:
    """A comparison, folded over the hosts."""
    return {
        "before": old.run_id,
        "after": new.run_id,
        "compared": found.compared,
        "changes": [asdict(it.change) | {"hosts": it.hosts} for it in fold(found.changed.items())],
        "not_compared": found.missing,
        "seen_in_part": found.partly,
    }


def look_row(host: str, look: Look, listeners: tuple[Listening, ...]) -> dict[str, object]:
    """What a look found."""
    return {
        "host": host,
        "run": look.run_id,
        "looked_at": look.looked_at,
        "status": look.status,
        "detail": look.detail,
        "listeners": [_listening_row(it) for it in listeners],
    }


def _listening_row(it: Listening) -> dict[str, object]:
    names = ("netns", "protocol", "family", "device", "address", "port", "path", "scope")
    holder_names = ("exe", "user", "unit", "container", "inherited", "marks")
    return {
        **{name: getattr(it.endpoint, name) for name in names},
        "owner_states": it.endpoint.states,
        "owners": [{name: getattr(holder, name) for name in holder_names} for holder in it.holders],
        "processes": [
            {"pid": held.pid, "exe": holder.exe, "user": holder.user, "fds": held.fds}
            for holder, held in it.held
        ],
    }


def standing_row(rule: str, host: str, found: Standing) -> dict[str, object]:
    """How a rule stands."""

    def when(it: Judged | None) -> dict[str, object] | None:
        return None if it is None else {"run": it.run_id, "started_at": it.started_at, "verdict": it.verdict}

    return {
        "host": host,
        "rule": rule,
        "verdict": found.now.verdict,
        "since": when(found.first),
        "runs": found.runs,
        "could_not_tell": found.silent,
        "before": when(found.before),
        "last_good": when(found.last_good),
        "findings": [
            {"endpoint": it.endpoint, "reason": it.reason, "first_seen": when(it.first)}
            for it in found.findings
        ],
    }
