"""`extends` and `include`: policies made of several files, as the one document that they come to.

Pure: who calls says how a file is read. What each rule and key is from stays known, so that a mistake is
located in the file where it was made.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from fleetaudit import patterns, schema
from fleetaudit.errors import ConfigError, Place, Problem
from fleetaudit.policy.values import Path
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

# (what a policy names, the file that names it) -> the documents, each with the sha256 of its file.
Reader: TypeAlias = Callable[[str, str], Sequence[tuple[Document, str]]]

MAX_DEPTH: Final = 20
MAX_RULES: Final = 20_000
_MAKING: Final = frozenset({"rules", "extends", "include", "without"})
_OWN: Final = frozenset({"name", "version", "description"})  # never taken over from another policy


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a rule, or a part of it, is written."""

    document: Document
    path: Path

    @property
    def place(self) -> Place:
        """File, line and column."""
        return self.document.place(self.path)


@dataclass(frozen=True, slots=True)
class RuleSource:
    """One rule as it comes to be: its keys, and the layers that wrote them, the deciding one last."""

    spec: Mapping[str, object]
    layers: tuple[Layer, ...]
    writers: Mapping[str, Layer]

    @property
    def id(self) -> str:
        """The rule's id."""
        return str(self.spec["id"])

    def place(self, path: Path = ()) -> Place:
        """Where the value at `path` within the rule is written."""
        layer = self.writers.get(str(path[0])) if path else None
        layer = layer or self.layers[-1]
        return layer.document.place((*layer.path, *path))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A policy with everything it is made of: keys without rules, rules, and the digest of all its files.

    `documents` says which file each key is from; `bases` are the digests of the files it extends.
    """

    document: Document
    keys: Mapping[str, object]
    documents: Mapping[str, Document]
    rules: tuple[RuleSource, ...]
    sha256: str
    bases: frozenset[str] = frozenset()

    def place(self, path: Path) -> Place:
        """Where a key of the policy itself is written."""
        return self.documents.get(str(path[0]), self.document).place(path)


@dataclass(slots=True)
class Resolver:
    """Resolves documents, reading the others they name once each. `problems` gathers every mistake."""

    read: Reader | None = None
    problems: list[Problem] = field(default_factory=list)
    _known: dict[str, Resolved | None] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def resolve(self, document: Document, sha256: str, chain: tuple[str, ...] = ()) -> Resolved | None:
        """The document with what it extends and includes, or None when there are problems."""
        if document.file not in self._known:
            before = len(self.problems)
            self.problems += schema.problems(document, "policy")
            found = None
            if len(self.problems) == before and isinstance(document.value, Mapping):
                found = self._resolve(document, document.value, sha256, (*chain, document.file))
            self._known[document.file] = found
        return self._known[document.file]

    def _resolve(
        self, document: Document, value: Mapping[str, object], sha256: str, chain: tuple[str, ...]
    ) -> Resolved | None:
        before = len(self.problems)
        base = self._base(document, value, chain)
        packs = self._packs(document, value, chain)
        if len(self.problems) > before:
            return None  # what is missing would look like more mistakes
        taken = list(base.rules) if base else []
        for pack in packs:
            taken += self._narrowed(document, pack)
        rules = self._rules(document, value, self._wanted(document, value, taken), base)
        if len(rules) > MAX_RULES:
            message = f"the policy comes to {len(rules)} rules; the most are {MAX_RULES}"
            self.problems.append(Problem(message, document.place(("include",)), "split it"))
        keys = {key: item for key, item in value.items() if key not in _MAKING}
        documents = dict.fromkeys(keys, document)
        if base:
            inherited = {key: item for key, item in base.keys.items() if key not in _OWN}
            documents = {**base.documents, **documents}
            keys = {**inherited, **keys, **_united(inherited, keys)}
        parts = [sha256, *([base.sha256] if base else []), *(pack.sha256 for pack in packs)]
        return Resolved(
            document=document,
            keys=keys,
            documents=documents,
            rules=tuple(rules),
            sha256=sha256 if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            bases=self._bases(base),
        )

    def _bases(self, base: Resolved | None) -> frozenset[str]:
        if base is None:
            return frozenset()
        return base.bases | {identity(base.document, self._digests[base.document.file])}

    def _base(
        self, document: Document, value: Mapping[str, object], chain: tuple[str, ...]
    ) -> Resolved | None:
        if "extends" not in value:
            return None
        found = self._named(document, ("extends",), str(value["extends"]), chain)
        if len(found) > 1:
            message = f"'{visible(str(value['extends']))}' is {len(found)} policies"
            self._note(document, ("extends",), message, "extend one file, and include the others")
        return found[0] if len(found) == 1 else None

    def _packs(
        self, document: Document, value: Mapping[str, object], chain: tuple[str, ...]
    ) -> list[Resolved]:
        named = value.get("include")
        names = named if isinstance(named, list) else []
        packs: dict[str, Resolved] = {}
        for place, name in enumerate(names):
            for pack in self._named(document, ("include", place), str(name), chain):
                packs.setdefault(pack.document.file, pack)
        return list(packs.values())

    def _named(self, document: Document, path: Path, name: str, chain: tuple[str, ...]) -> list[Resolved]:
        """What `name` stands for, resolved; nothing, and a problem, when that does not work."""
        if self.read is None:
            self._note(document, path, "other files cannot be read here", "write the rules out")
            return []
        if len(chain) >= MAX_DEPTH:
            self._note(document, path, f"policies are nested deeper than {MAX_DEPTH}", "flatten them")
            return []
        try:
            read = self.read(name, document.file)
        except ConfigError as error:
            for problem in error.problems:
                inside = problem.place is not None and problem.place.line
                self.problems.append(problem if inside else replace(problem, place=document.place(path)))
            return []
        found: list[Resolved] = []
        for other, sha256 in read:
            if other.file in chain:
                ring = " -> ".join(map(visible, (*chain[chain.index(other.file) :], other.file)))
                self._note(document, path, f"policies take each other in: {ring}", "break the circle")
                continue
            self._digests[other.file] = sha256
            resolved = self.resolve(other, sha256, chain)
            if resolved is not None:
                found.append(resolved)
        return found

    def _note(self, document: Document, path: Path, message: str, hint: str) -> None:
        self.problems.append(Problem(message, document.place(path), hint))

    def _wanted(
        self, document: Document, value: Mapping[str, object], taken: Sequence[RuleSource]
    ) -> list[RuleSource]:
        """The rules taken over, less those that `without` names."""
        named = value.get("without")
        left_out = [str(name) for name in named] if isinstance(named, list) else []
        ids = {rule.id for rule in taken}
        for place, name in enumerate(left_out):
            if name not in ids:
                message = f"no rule '{name}' is extended or included, so it cannot be left out"
                self._note(document, ("without", place), message, _near(name, ids))
        return [rule for rule in taken if rule.id not in left_out]

    def _rules(
        self,
        document: Document,
        value: Mapping[str, object],
        taken: Sequence[RuleSource],
        base: Resolved | None,
    ) -> list[RuleSource]:
        """Taken over rules in their order, overridden where this file says so, then its own."""
        rules: dict[str, RuleSource] = {}
        for rule in taken:
            first = rules.setdefault(rule.id, rule)
            if first is not rule and (first.layers, first.spec) != (rule.layers, rule.spec):
                message = f"rule '{rule.id}' ({rule.place()}) is shadowed by that of {first.place()}"
                hint = "give one another id, or leave it out: `without: [ID]` in the file that includes it"
                self._note(document, ("include",), message, hint)
        inherited = {rule.id for rule in base.rules} if base else set()
        own: dict[str, RuleSource] = {}
        for rule in _written(document, value):
            if rule.id in own:
                message = f"rule id '{rule.id}' is already used at line {own[rule.id].place(('id',)).line}"
                self.problems.append(Problem(message, rule.place(("id",)), "give each rule its own id"))
                rules[f"{rule.id} {len(rules)}"] = rule  # its other mistakes are told too
                continue
            own[rule.id] = rule
            other = rules.get(rule.id)
            if other is None:
                rules[rule.id] = rule
            elif rule.id in inherited:
                rules[rule.id] = _overridden(other, rule)
            else:
                message = f"rule '{rule.id}' shadows the included one of {other.place()}"
                hint = "give it another id, or leave the included one out: `without: [ID]`"
                self.problems.append(Problem(message, rule.place(("id",)), hint))
        return list(rules.values())

    def _narrowed(self, document: Document, pack: Resolved) -> Iterator[RuleSource]:
        """The rules of an included policy, each with what that policy says for all of its rules."""
        for rule in pack.rules:
            spec = {**rule.spec, **_united(pack.keys, rule.spec)}
            hosts = _both(pack.keys.get("hosts"), rule.spec.get("hosts"))
            if hosts is None:
                message = f"the hosts of rule '{rule.id}' cannot be said beside those of its policy"
                hint = f"in {pack.document.file}, write one of the two as one group"
                self.problems.append(Problem(message, rule.place(("hosts",)), hint))
            elif hosts != "all":
                spec["hosts"] = hosts
            outer, inner = _mapping(pack.keys.get("when")), _mapping(rule.spec.get("when"))
            twice = [fact for fact in outer if fact in inner and outer[fact] != inner[fact]]
            if twice:
                message = f"rule '{rule.id}' and its policy both say `when` {twice[0]}, and differ"
                self.problems.append(Problem(message, rule.place(("when",)), "say it in one of the two"))
            if outer or inner:
                spec["when"] = {**outer, **inner}
            head = {key: Layer(pack.documents.get(key, document), ()) for key in ("hosts", "when")}
            writers = {**{key: head[key] for key in head if key not in rule.spec}, **rule.writers}
            yield RuleSource(spec, rule.layers, writers)


def identity(document: Document, sha256: str) -> str:
    """What makes a document the same as another, by whichever path it was read."""
    return sha256 or document.file


def _written(document: Document, value: Mapping[str, object]) -> Iterator[RuleSource]:
    rules = value.get("rules")
    for place, spec in enumerate(rules if isinstance(rules, list) else ()):
        layer = Layer(document, ("rules", place))
        yield RuleSource(spec, (layer,), dict.fromkeys(spec, layer))


def _overridden(base: RuleSource, rule: RuleSource) -> RuleSource:
    """The base's rule with the keys that the other writes in place of its own."""
    return RuleSource(
        {**base.spec, **rule.spec}, (*base.layers, *rule.layers), {**base.writers, **rule.writers}
    )


def _united(outer: Mapping[str, object], inner: Mapping[str, object]) -> dict[str, object]:
    """What adds up: controls by framework, tags and references."""
    found: dict[str, object] = {}
    controls = {**_mapping(outer.get("controls")), **_mapping(inner.get("controls"))}
    if controls:
        found["controls"] = controls
    for key in ("tags", "references"):
        listed = [*_list(outer.get(key)), *_list(inner.get(key))]
        if listed:
            found[key] = list(dict.fromkeys(listed))
    return found


def _both(one: object, other: object) -> str | None:
    """A host pattern for the hosts of both, or None where none can say it."""
    texts = [str(text) for text in (one, other) if text is not None and text != "all"]
    if len(texts) < 2:
        return texts[0] if texts else "all"
    for whole, single in (texts, texts[::-1]):
        try:
            terms = patterns.parse(single).terms
        except ConfigError:
            return whole  # told where it is written
        if len(terms) == 1 and not terms[0].operator:
            return f"{whole}:&{single}"
    return None


def _near(name: str, ids: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(ids), n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(ids)) or 'none'}"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
