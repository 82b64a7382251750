"""`when_expr`: one more condition on each listener that the selector selected, in CEL. Optional.

CEL (https://cel.dev) has no loops and no side effects. Time is bounded: expressions are short, regular
expressions are RE2's, and the library gives up on an evaluation that iterates too much. It returns errors as
values: anything but a boolean is an error here. The library is imported when a policy wants it.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from fleetaudit.model import UNKNOWN, Listener, Outcome, Owner
from fleetaudit.policy.fields import LISTENER_FIELDS, OWNER_FIELDS
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.values import Path, ValueMistake
from fleetaudit.policy.view import HostView

MISSING: Final = "`when_expr` needs the CEL library, which is not installed"
_OWNERS: Final = re.compile(r"\bowners\b")
_MESSAGE: Final = re.compile(
    r"(?:[A-Z_]+: )?(?:ERROR: )?(?:<input>:(?P<line>\d+):(?P<column>\d+): )?(?P<said>[^\n]*)"
)
_LONGEST: Final = 200
_HAS: Final = "; `has(…)` asks first"


class ExpressionError(Exception):
    """An expression that could not be evaluated on this host's data."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. `reads_owners`: its answer is not known where not every owner was seen."""

    text: str
    reads_owners: bool
    _program: Any = field(repr=False, compare=False)

    def holds(self, listener: Listener, view: HostView, outcome: Outcome) -> Truth:
        """Whether it is true of the listener. Raises ExpressionError."""
        if self.reads_owners and not view.owners_known(listener):
            return None
        data = {
            "listener": _listener(listener),
            "owners": [_owner(owner) for owner in (*listener.owners, *listener.held_by)],
            "host": _host(outcome),
            "vars": _plain(outcome.context.variables),
        }
        try:
            value = self._program.eval(data=data)
            answer, kind = value.value(), value.type().name()
        except RuntimeError as error:  # what the library raises for all that is not the data's fault
            raise ExpressionError(_said(str(error))) from None
        if isinstance(answer, bool) and kind == "BOOL":
            return answer
        said = _said(str(answer)) if kind == "ERROR" else f"it is {kind} and not true or false"
        raise ExpressionError(said + (_HAS if "not found" in said else ""))


def compile_expression(spec: object, path: Path) -> Expression | None:
    """The expression of a rule, if it has one. Raises ValueMistake, also where the library is missing."""
    if not isinstance(spec, str):
        return None
    if "{{" in spec:
        raise ValueMistake(path, "variables are `vars.NAME` in an expression", "write it without {{ }}")
    try:
        cel = importlib.import_module("cel_expr_python.cel")
    except ImportError:
        raise ValueMistake(path, MISSING, "pip install 'fleetaudit[cel]'") from None
    try:
        program = _environment(cel).compile(spec)
        kind = program.return_type().name()
    except RuntimeError as error:
        raise ValueMistake(path, f"the expression is wrong: {_said(str(error))}", _NAMES) from None
    if kind not in ("BOOL", "DYN"):
        raise ValueMistake(path, f"the expression gives {kind}", "compare it with something")
    return Expression(spec, _OWNERS.search(spec) is not None, program)


_NAMES: Final = "names are listener, owners, host and vars"


@functools.cache
def _environment(cel: ModuleType) -> Any:
    kind = cel.Type
    fields = kind.Map(kind.STRING, kind.DYN)
    return cel.NewEnv(
        variables={"listener": fields, "owners": kind.List(fields), "host": fields, "vars": fields}
    )


def _said(message: str) -> str:
    """What the library says, in one line: its position counts in the expression."""
    found = _MESSAGE.match(message)
    if found is None:
        return message[:_LONGEST]
    where = f"column {found['column']}: " if found["column"] else ""
    where = f"line {found['line']}, {where}" if found["line"] not in (None, "1") else where
    said = found["said"].removesuffix("[INVALID_ARGUMENT]").removesuffix("[INTERNAL]").strip()
    return where + said[:_LONGEST]


# ---------------------------------------------------------------- the data: what is not known is absent


def _listener(listener: Listener) -> dict[str, object]:
    fields = {name: next(iter(known.read(listener))) for name, known in LISTENER_FIELDS.items()}
    netns = listener.netns
    fields["netns"] = "host" if netns.host is True else (netns.name or str(netns.id))
    return {name: value for name, value in fields.items() if value is not UNKNOWN}


def _owner(owner: Owner) -> dict[str, object]:
    fields = {name: next(iter(known.read(owner))) for name, known in OWNER_FIELDS.items()}
    if owner.process.exe_verified is False:
        fields["exe"] = UNKNOWN  # only claimed
    return {name: value for name, value in fields.items() if value is not UNKNOWN}


def _host(outcome: Outcome) -> dict[str, object]:
    host: dict[str, object] = {"name": outcome.host, "groups": ["all", *outcome.context.groups]}
    snapshot = outcome.snapshot
    if snapshot is not None:
        os = {"id": snapshot.os_id, "version_id": snapshot.os_version}
        host["os"] = {name: value for name, value in os.items() if value is not None}
        told = {"kernel": snapshot.kernel, "arch": snapshot.arch}
        host |= {name: value for name, value in told.items() if value is not None}
    return host


def _plain(value: object) -> Any:
    """An inventory value as the library takes it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
