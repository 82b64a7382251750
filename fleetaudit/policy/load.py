"""Policy documents to policies: every mistake at once, each with file, line, column and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from fleetaudit import patterns
from fleetaudit.errors import ConfigError, Place, PolicyError, Problem
from fleetaudit.model import Severity
from fleetaudit.patterns import HostPattern
from fleetaudit.policy.checks import CHECKS
from fleetaudit.policy.expressions import MISSING
from fleetaudit.policy.model import CompiledRule, Policy, Rule, compile_rule
from fleetaudit.policy.resolve import Reader, Resolved, Resolver, RuleSource, identity
from fleetaudit.policy.values import Bindings, ValueMistake, is_templated
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

_MOST_PROBLEMS: Final = 1000


def load(
    documents: Sequence[tuple[Document, str]], read: Reader | None = None, *, bases: bool = False
) -> tuple[Policy, ...]:
    """The policies of (document, sha256) pairs, sorted by name, less those that another one extends.

    `read` gets the files that they extend and include; without it there can be none. With `bases`, those
    that another one extends are among them.
    Raises PolicyError with every problem found: schema, duplicate names and ids, values, host patterns.
    """
    problems: list[Problem] = []
    policies: list[Policy] = []
    for resolved in resolve(documents, problems, read, bases=bases):
        found: list[Problem] = []
        policy = _policy(resolved, found)
        if policy is not None and not found:
            policies.append(policy)
        problems += found
    problems += _duplicate_names(policies)
    if not problems and not policies:
        problems.append(Problem("no policy was given", hint="name a policy file or a directory of *.yaml"))
    if problems:
        raise PolicyError(_told(problems))
    return tuple(sorted(policies, key=lambda policy: policy.name))


def resolve(
    documents: Sequence[tuple[Document, str]],
    problems: list[Problem],
    read: Reader | None = None,
    *,
    bases: bool = False,
) -> tuple[Resolved, ...]:
    """The documents with what they are made of, less those that another one extends; adds to `problems`."""
    resolver = Resolver(read)
    found = [
        (resolver.resolve(document, sha256), identity(document, sha256)) for document, sha256 in documents
    ]
    problems += resolver.problems
    resolved = [(item, name) for item, name in found if item is not None]
    extended = {base for item, _ in resolved for base in item.bases}
    return tuple(item for item, name in resolved if bases or name not in extended)


def _told(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in reading order, each once and on one line, and once that a library is missing."""
    shown = (
        replace(problem, message=visible(problem.message), hint=visible(problem.hint)) for problem in problems
    )
    ordered = sorted(dict.fromkeys(shown), key=_reading_order)
    missing = [problem for problem in ordered if problem.message == MISSING]
    return [problem for problem in ordered if problem not in missing[1:]][:_MOST_PROBLEMS]


def _reading_order(problem: Problem) -> tuple[str, int, int]:
    place = problem.place
    return (place.file, place.line, place.column) if place else ("", 0, 0)


def _duplicate_names(policies: Sequence[Policy]) -> Iterator[Problem]:
    first: dict[str, Policy] = {}
    for policy in policies:
        other = first.setdefault(policy.name, policy)
        if other is not policy:
            message = f"policy '{policy.name}' is already defined in {other.file}"
            yield Problem(message, Place(policy.file, 1, 1), "give it another name")


def _policy(resolved: Resolved, problems: list[Problem]) -> Policy | None:
    keys = resolved.keys
    hosts = _pattern(str(keys.get("hosts", "all")), resolved.place(("hosts",)), problems)
    rules = tuple(_rule(source, resolved, problems) for source in resolved.rules)
    if not rules:
        place = resolved.document.place(("without",))
        problems.append(Problem("no rule is left of this policy", place, "leave fewer rules out, or add one"))
    if hosts is None:
        return None
    most = keys.get("max_waiver_days")
    return Policy(
        name=str(keys["name"]),
        description=str(keys.get("description", "")),
        hosts=hosts,
        rules=rules,
        file=resolved.document.file,
        sha256=resolved.sha256,
        max_waiver_days=most if isinstance(most, int) else None,
    )


def _rule(source: RuleSource, resolved: Resolved, problems: list[Problem]) -> Rule:
    spec, keys = source.spec, resolved.keys
    if not any(name in spec for name in CHECKS):
        problems.append(_asserts_nothing(source, resolved))
    for name in ("expect", "owners"):
        bounds = spec.get(name)
        if isinstance(bounds, Mapping) and bounds.get("min", 0) > bounds.get("max", bounds.get("min", 0)):
            message = f"min {bounds['min']} is more than max {bounds['max']}: this never holds"
            problems.append(Problem(message, source.place((name,)), "write min first, not above max"))
    hosts = spec.get("hosts")
    path = source.layers[-1].path
    return Rule(
        id=source.id,
        title=str(spec.get("title", spec["id"])),
        severity=Severity(spec.get("severity", "medium")),
        spec=MappingProxyType(dict(spec)),
        place=source.place(),
        path=path,
        remediation=str(spec.get("remediation", "")),
        controls=MappingProxyType({**_controls(keys.get("controls")), **_controls(spec.get("controls"))}),
        hosts=_pattern(hosts, source.place(("hosts",)), problems) if isinstance(hosts, str) else None,
        compiled=_compile(source, resolved, problems),
        when=_mapping(keys.get("when")),
        tags=frozenset(_texts(keys, "tags") + _texts(spec, "tags")),
        references=tuple(dict.fromkeys(_texts(spec, "references") + _texts(keys, "references"))),
    )


def _asserts_nothing(source: RuleSource, resolved: Resolved) -> Problem:
    message, hint = f"rule '{source.id}' asserts nothing", f"add one of {', '.join(CHECKS)}"
    others = [rule.id for rule in resolved.rules if rule is not source]
    if "extends" in _mapping(resolved.document.value):
        message += ", and there is none of this id to override"
        near = difflib.get_close_matches(source.id, others, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{hint}, or take the id of an extended rule"
    return Problem(message, source.place(), hint)


def _compile(source: RuleSource, resolved: Resolved, problems: list[Problem]) -> CompiledRule | None:
    """The rule compiled now, or None when inventory variables decide; its other values are checked anyway."""
    path, when = source.layers[-1].path, resolved.keys.get("when")
    try:
        compiled = compile_rule(source.spec, path, Bindings(None), _mapping(when))
    except ValueMistake as mistake:
        inside = mistake.path[: len(path)] == path
        place = source.place(mistake.path[len(path) :]) if inside else resolved.place(mistake.path)
        problems.append(Problem(mistake.message, place, mistake.hint))
        return None
    spec = {key: value for key, value in source.spec.items() if key != "when_expr"}
    return None if is_templated(spec) or is_templated(when) else compiled


def _pattern(text: str, place: Place, problems: list[Problem]) -> HostPattern | None:
    try:
        return patterns.parse(text)
    except ConfigError as error:
        problems.extend(Problem(problem.message, place, problem.hint) for problem in error.problems)
        return None


def _controls(value: object) -> dict[str, tuple[str, ...]]:
    return {name: tuple(ids) for name, ids in value.items()} if isinstance(value, Mapping) else {}


def _texts(spec: Mapping[str, object], key: str) -> tuple[str, ...]:
    listed = spec.get(key)
    return tuple(map(str, listed)) if isinstance(listed, list) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
