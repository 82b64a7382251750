"""Policy documents to policies: every mistake at once, each with file, line, column and a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from fleetaudit import patterns, schema
from fleetaudit.errors import ConfigError, PolicyError, Problem
from fleetaudit.model import Severity
from fleetaudit.patterns import HostPattern
from fleetaudit.policy.checks import CHECKS
from fleetaudit.policy.model import CompiledRule, Policy, Rule, compile_rule
from fleetaudit.policy.values import Bindings, Path, ValueMistake, is_templated
from fleetaudit.yamlio import Document


def load(documents: Sequence[tuple[Document, str]]) -> tuple[Policy, ...]:
    """The policies of (document, sha256) pairs, sorted by name.

    Raises PolicyError with every problem found: schema, duplicate names and ids, values, host patterns.
    """
    problems: list[Problem] = []
    policies: list[Policy] = []
    for document, sha256 in documents:
        found = list(schema.problems(document, "policy"))
        if not found:
            policy = _policy(document, sha256, found)
            if policy is not None and not found:
                policies.append(policy)
        problems += found
    problems += _duplicate_names(policies)
    if not problems and not policies:
        problems.append(Problem("no policy was given", hint="name a policy file or a directory of *.yaml"))
    if problems:
        raise PolicyError(sorted(problems, key=_reading_order))
    return tuple(sorted(policies, key=lambda policy: policy.name))


def _reading_order(problem: Problem) -> tuple[str, int, int]:
    place = problem.place
    return (place.file, place.line, place.column) if place else ("", 0, 0)


def _duplicate_names(policies: Sequence[Policy]) -> Iterator[Problem]:
    first: dict[str, Policy] = {}
    for policy in policies:
        other = first.setdefault(policy.name, policy)
        if other is not policy:
            message = f"policy '{policy.name}' is already defined in {other.file}"
            yield Problem(message, policy.rules[0].place, "give it another name")


def _policy(document: Document, sha256: str, problems: list[Problem]) -> Policy | None:
    value = document.value
    if not isinstance(value, Mapping):
        return None
    hosts = _pattern(document, ("hosts",), str(value.get("hosts", "all")), problems)
    rules = []
    ids: dict[str, int] = {}
    for place, spec in enumerate(value["rules"]):
        path: Path = ("rules", place)
        if spec["id"] in ids:
            where = document.place(("rules", ids[spec["id"]]))
            message = f"rule id '{spec['id']}' is already used at line {where.line}"
            problems.append(Problem(message, document.place((*path, "id")), "give each rule its own id"))
        ids.setdefault(spec["id"], place)
        rules.append(_rule(document, path, spec, value, problems))
    if hosts is None:
        return None
    return Policy(
        name=value["name"],
        description=value.get("description", ""),
        hosts=hosts,
        rules=tuple(rules),
        file=document.file,
        sha256=sha256,
        max_waiver_days=value.get("max_waiver_days"),
    )


def _rule(
    document: Document,
    path: Path,
    spec: Mapping[str, object],
    whole: Mapping[str, object],
    problems: list[Problem],
) -> Rule:
    """One rule of the policy `whole`, which says what holds for all of its rules."""
    if not any(name in spec for name in CHECKS):
        message = f"rule '{spec['id']}' asserts nothing"
        problems.append(Problem(message, document.place(path), f"add one of {', '.join(CHECKS)}"))
    for name in ("expect", "owners"):
        bounds = spec.get(name)
        if isinstance(bounds, Mapping) and bounds.get("min", 0) > bounds.get("max", bounds.get("min", 0)):
            message = f"min {bounds['min']} is more than max {bounds['max']}: this never holds"
            problems.append(Problem(message, document.place((*path, name)), "write min first, not above max"))
    hosts = spec.get("hosts")
    return Rule(
        id=str(spec["id"]),
        title=str(spec.get("title", spec["id"])),
        severity=Severity(spec.get("severity", "medium")),
        spec=MappingProxyType(dict(spec)),
        place=document.place(path),
        path=path,
        remediation=str(spec.get("remediation", "")),
        controls=MappingProxyType({**_controls(whole.get("controls")), **_controls(spec.get("controls"))}),
        hosts=_pattern(document, (*path, "hosts"), hosts, problems) if isinstance(hosts, str) else None,
        compiled=_compile(document, path, spec, whole.get("when"), problems),
        when=_mapping(whole.get("when")),
        tags=frozenset((*_words(whole.get("tags")), *_words(spec.get("tags")))),
        references=tuple(dict.fromkeys((*_words(spec.get("references")), *_words(whole.get("references"))))),
    )


def _compile(
    document: Document, path: Path, spec: Mapping[str, object], when: object, problems: list[Problem]
) -> CompiledRule | None:
    """The rule compiled now, or None when inventory variables decide; its other values are checked anyway."""
    try:
        compiled = compile_rule(spec, path, Bindings(None), _mapping(when))
    except ValueMistake as mistake:
        problems.append(Problem(mistake.message, document.place(mistake.path), mistake.hint))
        return None
    return None if is_templated(spec) or is_templated(when) else compiled


def _pattern(document: Document, path: Path, text: str, problems: list[Problem]) -> HostPattern | None:
    try:
        return patterns.parse(text)
    except ConfigError as error:
        place = document.place(path)
        problems.extend(Problem(problem.message, place, problem.hint) for problem in error.problems)
        return None


def _mapping(value: object) -> Mapping[str, object] | None:
    return value if isinstance(value, Mapping) else None


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _controls(value: object) -> dict[str, tuple[str, ...]]:
    return {name: tuple(ids) for name, ids in value.items()} if isinstance(value, Mapping) else {}
