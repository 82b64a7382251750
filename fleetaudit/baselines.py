"""Reading baselines: reports in JSON, or recorded hosts judged again by the policies of the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO, Final

import msgspec

from fleetaudit.baseline import Baseline, fingerprints
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.inputs import open_snapshots, read_bytes
from fleetaudit.model import HostContext, Verdict
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy
from fleetaudit.policy.waivers import Waiver, waive
from fleetaudit.saved import index
from fleetaudit.text import visible

_REPORT: Final = re.compile(rb"\s*\{\s*\"schema\"\s*:\s*\"fleetaudit\.report/1\"")
_HEAD: Final = 200


class _Finding(msgspec.Struct):
    verdict: str
    fingerprint: str


class _Result(msgspec.Struct):
    findings: list[_Finding]


class _Host(msgspec.Struct):
    name: str


class _Report(msgspec.Struct):
    results: list[_Result]
    hosts: list[_Host]


_DECODER: Final = msgspec.json.Decoder(_Report)


def read_baseline(
    path: str,
    policies: Sequence[Policy],
    waivers: Sequence[Waiver],
    now: datetime,
    contexts: Mapping[str, HostContext],
    *,
    name: str = "",
    is_run: bool = False,
) -> Baseline:
    """The baseline that a file is: a report in JSON, or snapshots, which are judged now by these policies.

    `contexts` replace what snapshots say of the inventory; of a run (`is_run`) a host's later line counts.
    Raises ConfigError and SnapshotError for what is neither.
    """
    name = name or path
    if path == "-":
        raise ConfigError(Problem("--baseline: cannot be read from standard input", hint="name a file"))
    with ExitStack() as stack:
        files = open_snapshots([path], stack)
        if _REPORT.match(files[0][1].read(_HEAD)):
            return _of_report(path, name)
        files[0][1].seek(0)
        return _of_snapshots(
            files,
            name=name,
            policies=policies,
            waivers=waivers,
            now=now,
            contexts=contexts,
            is_run=is_run,
        )


def _of_report(path: str, name: str) -> Baseline:
    try:
        report = _DECODER.decode(read_bytes(path))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"no report in JSON: {visible(str(error))[:200]}"
        raise ConfigError(Problem(message, Place(path), "write one with -o json=PATH")) from None
    found = [finding for result in report.results for finding in result.findings if finding.fingerprint]

    def those(verdict: Verdict) -> frozenset[str]:
        return frozenset(finding.fingerprint for finding in found if finding.verdict == verdict.value)

    return Baseline(name, len(report.hosts), those(Verdict.FAIL), those(Verdict.WAIVED))


def _of_snapshots(
    files: Sequence[tuple[str, BinaryIO]],
    *,
    name: str,
    policies: Sequence[Policy],
    waivers: Sequence[Waiver],
    now: datetime,
    contexts: Mapping[str, HostContext],
    is_run: bool,
) -> Baseline:
    failing: set[str] = set()
    waived: set[str] = set()
    hosts = 0
    for saved in index(files, latest=is_run):
        outcome = replace(saved, context=contexts.get(saved.host, saved.context))
        audit, _ = waive(evaluate(derive(outcome), policies), waivers, now)
        failing.update(fingerprints(audit.results, Verdict.FAIL))
        waived.update(fingerprints(audit.results, Verdict.WAIVED))
        hosts += 1
    return Baseline(name, hosts, frozenset(failing), frozenset(waived))
