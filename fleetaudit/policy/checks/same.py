"""`same`: the owners of each selected endpoint must agree in the fields named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import UNKNOWN, Finding, Inherited, Maybe, Missing, Owner, Process, Verdict
from fleetaudit.policy.checks.base import Case, Group, endpoints, holders, judge_groups
from fleetaudit.policy.checks.wording import clipped, names_of, way_of
from fleetaudit.policy.fields import OWNER_FIELDS
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class Same:
    """Compiled `same`: judged over the union of an endpoint's sockets, so a joiner by SO_REUSEPORT shows."""

    fields: tuple[str, ...]
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per endpoint whose owners differ, or may differ."""
        return judge_groups(case, lambda group: self._endpoint(case, group), endpoints)

    def _endpoint(self, case: Case, group: Group) -> Finding | None:
        owners = _serving(holders(group))
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        values = {name: _values(name, owners) for name in self.fields}
        for name, found in values.items():
            known = {value for value in found if value is not UNKNOWN}
            if len(known) > 1:
                reason = f"its owners differ in {name} ({_shown(name, owners)}): {names_of(owners)}"
                return Finding(Verdict.FAIL, f"{reason}{way_of(owners)}", group[0], owners, beyond=doubt)
        unsaid = [name for name, found in values.items() if UNKNOWN in found]
        if not doubt and unsaid:
            doubt = f"the snapshot does not say {' and '.join(unsaid)} of all of {names_of(owners)}"
        return Finding(Verdict.UNKNOWN, doubt, group[0], owners) if doubt else None


def _serving(owners: Sequence[Owner]) -> tuple[Owner, ...]:
    """Without the system manager, which keeps the sockets that it opened for those whom it passes them to."""
    if not any(owner.inherited is Inherited.ACTIVATION for owner in owners):
        return tuple(owners)
    return tuple(owner for owner in owners if owner.process.pid != 1)


def _shown(name: str, owners: Sequence[Owner]) -> str:
    """The first few different values, as the snapshot has them."""
    told = {str(next(iter(OWNER_FIELDS[name].read(owner)))) for owner in owners}
    return " and ".join(clipped(text) for text in sorted(told)[:3]) if len(told) > 1 else "two of one name"


def _values(name: str, owners: Sequence[Owner]) -> tuple[object, ...]:
    if name == "exe":
        return _executables([owner.process for owner in owners])
    if name == "user":
        return tuple(_account(owner.process.euid, owner.process.user) for owner in owners)
    if name == "group":
        return tuple(_account(owner.process.gid, owner.process.group) for owner in owners)
    return tuple(next(iter(OWNER_FIELDS[name].read(owner))) for owner in owners)


def _account(number: Maybe[int], name: Maybe[str | None]) -> object:
    """The number decides: two users without a name are not one user."""
    return number if not isinstance(number, Missing) else (name or UNKNOWN)


def _executables(processes: Sequence[Process]) -> tuple[object, ...]:
    """File identities where all have one; else paths, of which one that is not verified proves nothing."""
    if processes and all(isinstance(process.exe_file, str) for process in processes):
        return tuple(process.exe_file for process in processes)
    return tuple(_claimed(process) for process in processes)


def _claimed(process: Process) -> object:
    if isinstance(process.exe, Missing) or process.exe_verified is False:
        return UNKNOWN
    return (process.exe, process.exe_deleted is True)


def compile_same(spec: object, path: Path, bindings: Bindings) -> Same:
    """The check for a rule's `same` list."""
    return Same(tuple(str(name) for name in spec) if isinstance(spec, list | tuple) else ())
