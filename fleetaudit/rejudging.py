"""What judged a run, as bytes that go into a history, and judges made of them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from fleetaudit.baseline import Baseline
from fleetaudit.errors import StoreError
from fleetaudit.files import Noted
from fleetaudit.judgement import report
from fleetaudit.judges import Judges, appoint
from fleetaudit.model import Outcome, Report
from fleetaudit.report.record import run_of
from fleetaudit.summary import Tally


class _Baseline(msgspec.Struct):
    name: str
    hosts: int
    failing: list[str]
    waived: list[str]


class _Inputs(msgspec.Struct):
    """`asked` are the arguments of `appoint`; `contents` are bytes, in JSON base64."""

    asked: Mapping[str, Any]
    expanded: Mapping[str, tuple[str, ...]]
    contents: Mapping[str, bytes]
    new_only: bool = False
    baseline: _Baseline | None = None


_INPUTS: Final = msgspec.json.Decoder(_Inputs)


def inputs_of(judges: Judges) -> bytes:
    """Everything but the time; equal for runs that were judged by the same."""
    found = _Inputs(judges.asked, judges.files.expanded, judges.files.contents, judges.new_only)
    if judges.baseline is not None:
        found.baseline = _written(judges.baseline)
    return msgspec.json.encode(found, enc_hook=dict, order="deterministic")


def baseline_bytes(baseline: Baseline) -> bytes:
    """What a baseline knows, in bytes that are equal for equal ones."""
    return msgspec.json.encode(_written(baseline))


def _written(baseline: Baseline) -> _Baseline:
    return _Baseline(baseline.name, baseline.hosts, sorted(baseline.failing), sorted(baseline.waived))


def files_of(inputs: bytes) -> Mapping[str, bytes]:
    """The policies and waivers as they were read, by path. Raises StoreError for what is none."""
    try:
        return _INPUTS.decode(inputs).contents
    except msgspec.MsgspecError as error:
        raise StoreError("the history is damaged: what a run was judged by") from error


def judges_of(inputs: bytes, now: datetime) -> Judges:
    """The judges at the moment `now`. Raises StoreError for what is none; PolicyError and ConfigError where
    this version does not take what that one took.
    """
    try:
        found = _INPUTS.decode(inputs)
        judges = appoint(**found.asked, now=now, files=Noted(found.expanded, found.contents))
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError("the history is damaged: what a run was judged by") from error
    if found.baseline is None:
        return judges
    it = found.baseline
    baseline = Baseline(it.name, it.hosts, frozenset(it.failing), frozenset(it.waived))
    return replace(judges, baseline=baseline, new_only=found.new_only)


class Circumstances(msgspec.Struct, frozen=True):
    """What a run was judged in, beside its inputs: the moment, and what became of it on the way.

    `left_out` are the hosts that `--where` left out, `interrupted` whether somebody cut the run short.
    """

    now: str
    interrupted: bool = False
    left_out: tuple[str, ...] = ()


def circumstances(judges: Judges, tally: Tally) -> Mapping[str, object]:
    """Those of a run that has passed, as JSON."""
    found = Circumstances(judges.now.isoformat(), tally.interrupted, tuple(tally.left_out))
    return msgspec.to_builtins(found)  # type: ignore[no-any-return]


def report_again(
    record: Mapping[str, Any], inputs: bytes, outcomes: Callable[[], Iterable[Outcome]]
) -> Callable[[], Report]:
    """Makes the report of a stored run, each time anew: `record` is what is stored of the run itself.

    Raises StoreError for a record that is none; PolicyError and ConfigError as `judges_of`.
    """
    try:
        found = msgspec.convert(record["again"], Circumstances)
        run = run_of(record["run"])
        now = datetime.fromisoformat(found.now)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise StoreError("the history is damaged: the record of a run") from error
    judges = judges_of(inputs, now)

    def make() -> Report:
        tally = judges.tally()
        tally.interrupted, tally.left_out = found.interrupted, list(found.left_out)
        return report(outcomes(), judges.policies, run, tally)

    return make
