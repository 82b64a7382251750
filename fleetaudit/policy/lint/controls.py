"""Controls that no catalogue has: a slip of the pen there is evidence for nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from fleetaudit.errors import Problem
from fleetaudit.policy.controls import OWN_PREFIX, frameworks
from fleetaudit.policy.lint.base import Subject
from fleetaudit.policy.values import Path
from fleetaudit.text import visible


def unknown_control(subject: Subject) -> Iterator[Problem]:
    """A framework, or a control of one, that the catalogue does not have."""
    value = subject.document.value
    yield from _unknown(subject, ("controls",), value.get("controls") if isinstance(value, Mapping) else None)
    for rule in subject.rules:
        yield from _unknown(subject, (*rule.path, "controls"), rule.spec.get("controls"))


def _unknown(subject: Subject, path: Path, controls: object) -> Iterator[Problem]:
    for name, ids in controls.items() if isinstance(controls, Mapping) else ():
        if name.startswith(OWN_PREFIX):
            continue
        known = frameworks().get(name)
        if known is None:
            message = f"no framework is called '{visible(name)}'"
            yield subject.problem("unknown-control", message, (*path, name), _nearest(name, frameworks()))
            continue
        for place, control in enumerate(ids if isinstance(ids, Sequence) else ()):
            if control not in known.controls:
                message = f"the catalogue has no control '{visible(str(control))}' of {known.title}"
                hint = _nearest(str(control), known.controls)
                yield subject.problem("unknown-control", message, (*path, name, place), hint)


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"a framework of your own begins with {OWN_PREFIX}"
