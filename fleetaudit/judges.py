"""What a run is judged by: policies, waivers, and what makes it fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from fleetaudit.baseline import Baseline, Comparing
from fleetaudit.baselines import read_baseline
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.files import Files, Noted, Noting
from fleetaudit.inputs import DISK, read_policies, read_waivers
from fleetaudit.model import HostContext, Severity, Source
from fleetaudit.policy.choosing import choose
from fleetaudit.policy.model import Policy
from fleetaudit.policy.waivers import Waiver
from fleetaudit.session import is_number
from fleetaudit.summary import Gate, Tally
from fleetaudit.waiving import Waiving
from fleetaudit.where import parse

WARN_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Judges:
    """Everything that judges a run at the moment `now`; `recorded` is what a report says of it.

    `asked` (the arguments of `appoint`, less the time) and `files` (what was read) appoint the same again.
    With a `baseline`, violations are marked as new or not; with `new_only`, old ones do not fail the run.
    """

    policies: tuple[Policy, ...]
    gate: Gate
    waivers: tuple[Waiver, ...]
    waiver_files: tuple[Source, ...]
    now: datetime
    warn: timedelta
    recorded: Mapping[str, object]
    asked: Mapping[str, object]
    files: Noted
    baseline: Baseline | None = None
    new_only: bool = False

    def tally(self) -> Tally:
        """What counts one pass over the run."""
        waiving = Waiving(self.waivers, self.now, self.warn, self.policies) if self.waivers else None
        comparing = Comparing(self.baseline, self.new_only) if self.baseline else None
        return Tally(self.gate, waiving=waiving, comparing=comparing)

    def against(
        self,
        path: str | None,
        contexts: Mapping[str, HostContext],
        *,
        new_only: bool = False,
        name: str = "",
        is_run: bool = False,
    ) -> Judges:
        """These judges with the baseline at `path`, if there is one; the rest is as for `read_baseline`.

        Raises ConfigError, also for `new_only` without a baseline.
        """
        if path is None:
            if new_only:
                raise ConfigError(Problem("--new-only: new since when?", hint="add --baseline FILE"))
            return self
        baseline = read_baseline(
            path, self.policies, self.waivers, self.now, contexts, name=name, is_run=is_run
        )
        recorded = {**self.recorded, "baseline": baseline.name, "new_only": new_only}
        return replace(self, baseline=baseline, new_only=new_only, recorded=recorded)


def appoint(
    policies: Sequence[str],
    now: datetime,
    *,
    fail_on: Severity | str = Severity.LOW,
    require_coverage: float = 100.0,
    allow_unjudged: bool = False,
    where: Sequence[str] = (),
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    waivers: Sequence[str] = (),
    strict_waivers: bool = False,
    waiver_warn_days: int = WARN_DAYS,
    files: Files = DISK,
) -> Judges:
    """Read the policies and waivers. Raises PolicyError and ConfigError with every mistake of one kind."""
    if now.tzinfo is None:
        raise ConfigError(Problem("now: the time has no zone", hint="such as datetime.now(timezone.utc)"))
    conditions = parse(where)
    noting = Noting(files)
    chosen = choose(read_policies(policies, files=noting), tags, skip_tags)
    found, waiver_files = read_waivers(waivers, chosen, now, noting)
    severity = _severity(fail_on)
    if not is_number(require_coverage) or not 0 <= require_coverage <= 100:
        raise ConfigError(Problem(f"require_coverage: {require_coverage!r} is not from 0 to 100"))
    return Judges(
        policies=chosen,
        gate=Gate(severity, require_coverage, allow_unjudged, conditions, strict_waivers),
        waivers=found,
        waiver_files=waiver_files,
        now=now,
        warn=timedelta(days=waiver_warn_days),
        recorded={
            "fail_on": severity.value,
            "require_coverage": require_coverage,
            "allow_unjudged": allow_unjudged,
            "where": tuple(where),
            "tags": tuple(tags),
            "skip_tags": tuple(skip_tags),
            "rules_left_out": sum(not rule.judged for policy in chosen for rule in policy.rules),
            "strict_waivers": strict_waivers,
        },
        asked={
            "policies": list(policies),
            "fail_on": severity.value,
            "require_coverage": require_coverage,
            "allow_unjudged": allow_unjudged,
            "where": list(where),
            "tags": list(tags),
            "skip_tags": list(skip_tags),
            "waivers": list(waivers),
            "strict_waivers": strict_waivers,
            "waiver_warn_days": waiver_warn_days,
        },
        files=noting.noted,
    )


def _severity(text: Severity | str) -> Severity:
    try:
        return Severity(text)
    except ValueError:
        choices = ", ".join(item.value for item in Severity)
        raise ConfigError(Problem(f"fail_on: {text!r} is no severity", hint=f"one of {choices}")) from None
