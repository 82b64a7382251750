"""Two runs of the history compared: only hosts whose content differs are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from fleetaudit.history.diff import Change, changes
from fleetaudit.history.reading import StoredHost, StoredRun, hosts_of, normals
from fleetaudit.history.store import chunks


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed by host; who could not be compared and why; who was seen in part in either run.

    `compared` hosts were looked at, `partly` ones among them.
    """

    changed: Mapping[str, tuple[Change, ...]]
    compared: int
    missing: Mapping[str, str]
    partly: tuple[str, ...]


def compare(
    connection: Connection,
    before: StoredRun,
    after: StoredRun,
    *,
    host: str | None = None,
    everything: bool = False,
) -> Comparison:
    """What changed between two runs, on every host or one; `everything` as for `changes`."""
    old = {it.name: it for it in hosts_of(connection, before) if host in (None, it.name)}
    new = {it.name: it for it in hosts_of(connection, after) if host in (None, it.name)}
    missing = {
        name: reason
        for name in sorted(old.keys() | new.keys())
        if (reason := _reason(old.get(name), before) or _reason(new.get(name), after))
    }
    both = sorted((old.keys() & new.keys()) - missing.keys())
    differing = [name for name in both if old[name].lasting != new[name].lasting]
    changed = {}
    for some in chunks(differing, 250):
        known = normals(connection, {it[name].lasting or 0 for it in (old, new) for name in some})
        for name in some:
            found = changes(
                known[old[name].lasting or 0], known[new[name].lasting or 0], everything=everything
            )
            if found:
                changed[name] = found
    partly = tuple(name for name in both if "partial" in (old[name].status, new[name].status))
    return Comparison(changed, len(both), missing, partly)


def _reason(host: StoredHost | None, run: StoredRun) -> str:
    if host is None:
        return f"not in run {run.run_id}"
    if host.lasting is None:
        return f"{host.status} in run {run.run_id}" + (f": {host.detail}" if host.detail else "")
    return ""
