"""Waiver files to waivers: every mistake at once, each with file, line, column and a remedy. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Final

from fleetaudit import patterns, schema
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.patterns import HostPattern
from fleetaudit.policy.matchers import OwnerMatcher, Selector, compile_owner, compile_selector
from fleetaudit.policy.model import Policy
from fleetaudit.policy.values import Bindings, Path, ValueMistake, is_templated
from fleetaudit.policy.waivers import Waiver
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def load(documents: Sequence[Document], policies: Sequence[Policy], now: datetime) -> tuple[Waiver, ...]:
    """The waivers of these files, in reading order.

    A waiver for a policy that is not in this run is kept: another run has it. Raises ConfigError with every
    mistake: schema, values, dates, host patterns, and rules that their policy does not have.
    """
    problems: list[Problem] = []
    waivers: list[Waiver] = []
    known = {policy.name: policy for policy in policies}
    for document in documents:
        found = schema.problems(document, "waivers")
        problems += found
        value = document.value
        if found or not isinstance(value, Mapping):
            continue
        for number, spec in enumerate(value["waivers"]):
            reader = _Reader(document, ("waivers", number), spec)
            waiver = reader.waiver(known.get(spec["policy"]), now)
            problems += reader.problems
            if not reader.problems:
                waivers.append(waiver)
    if problems:
        raise ConfigError(problems)
    return tuple(waivers)


class _Reader:
    """Reads one waiver, noting every mistake."""

    def __init__(self, document: Document, path: Path, spec: Mapping[str, object]) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._path = path
        self._spec = spec

    def waiver(self, policy: Policy | None, now: datetime) -> Waiver:
        """The waiver; of no use if there are problems."""
        spec = self._spec
        if policy is not None:
            self._check_rule(policy)
        expires = self._day()
        return Waiver(
            policy=str(spec["policy"]),
            rule=str(spec["rule"]),
            reason=str(spec["reason"]),
            place=self._document.place(self._path),
            hosts=self._hosts(),
            listeners=self._listeners(),
            owners=self._owners(),
            expires=expires,
            approved_by=str(spec.get("approved_by", "")),
            ticket=str(spec.get("ticket", "")),
            too_long=_excess(policy, expires, now),
        )

    def _note(self, path: Path, message: str, hint: str) -> None:
        self.problems.append(Problem(message, self._document.place((*self._path, *path)), hint))

    def _check_rule(self, policy: Policy) -> None:
        ids, rule = [item.id for item in policy.rules], str(self._spec["rule"])
        if rule not in ids:
            near = difflib.get_close_matches(rule, ids, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its rules: {', '.join(ids)}"
            self._note(("rule",), f"policy '{policy.name}' has no rule '{visible(rule)}'", hint)

    def _day(self) -> date | None:
        if "expires" not in self._spec:
            return None
        text = str(self._spec["expires"])
        try:
            if _DATE.fullmatch(text):  # Python 3.11 takes other forms too
                return date.fromisoformat(text)
        except ValueError:
            pass
        self._note(("expires",), f"'{visible(text)}' is no date", "write for example 2027-03-31")
        return None

    def _hosts(self) -> HostPattern:
        try:
            return patterns.parse(str(self._spec.get("hosts", "all")))
        except ConfigError as error:
            for problem in error.problems:
                self._note(("hosts",), problem.message, problem.hint)
            return patterns.parse("all")

    def _listeners(self) -> Selector | None:
        spec = self._spec.get("listeners")
        if not isinstance(spec, Mapping) or self._is_templated("listeners"):
            return None
        try:
            return compile_selector(spec, (*self._path, "listeners"), Bindings(None))
        except ValueMistake as mistake:
            self._mistake(mistake)
            return None

    def _owners(self) -> tuple[OwnerMatcher, ...]:
        owners = self._spec.get("owners")
        path: Path = (*self._path, "owners")
        if self._is_templated("owners"):
            return ()
        entries = [(path, owners)]
        if isinstance(owners, list):
            entries = [((*path, number), entry) for number, entry in enumerate(owners)]
        found = []
        for where, entry in entries:
            try:
                if isinstance(entry, Mapping):
                    found.append(compile_owner(entry, where, Bindings(None)))
            except ValueMistake as mistake:
                self._mistake(mistake)
        return tuple(found)

    def _is_templated(self, key: str) -> bool:
        found = is_templated(self._spec.get(key))
        if found:
            hint = "write the value itself; hosts that differ get a waiver each"
            self._note((key,), "a waiver takes no inventory variables", hint)
        return found

    def _mistake(self, mistake: ValueMistake) -> None:
        self.problems.append(Problem(mistake.message, self._document.place(mistake.path), mistake.hint))


def _excess(policy: Policy | None, expires: date | None, now: datetime) -> str:
    """Why the policy does not allow a waiver for so long."""
    if policy is None or policy.max_waiver_days is None:
        return ""
    limit = f"policy '{policy.name}' allows {policy.max_waiver_days} days (max_waiver_days)"
    if expires is None:
        return f"does not hold: it has no end, and {limit}"
    days = (expires - now.astimezone(timezone.utc).date()).days
    return f"does not hold: it has {days} days left, and {limit}" if days > policy.max_waiver_days else ""
