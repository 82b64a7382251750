"""Owner matchers and listener selectors, compiled once and asked three-valued questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from fleetaudit.model import UNKNOWN, Listener, Missing, NetworkNamespace, Owner, Process
from fleetaudit.policy.fields import (
    LISTENER_FIELDS,
    NETWORK_PROTOCOLS,
    OF_KIND,
    OF_LISTENER_KIND,
    OWNER_FIELDS,
    STATES,
    VIA_OWNERS,
)
from fleetaudit.policy.truth import Truth, all_of, any_of, negate
from fleetaudit.policy.values import (
    Bindings,
    Candidates,
    Is,
    Kind,
    Path,
    Test,
    ValueMistake,
    compile_value,
    literals,
)
from fleetaudit.usr_merge import has_long_name, short_name

NetnsTest: TypeAlias = Callable[[NetworkNamespace], Truth]
ANNOTATIONS = frozenset({"reason", "owner_team", "reviewed"})


class Trust(Enum):
    """What an executable path that the agent could not verify is worth: it is only a claim.

    In an allow entry nothing, in a deny entry enough to match, in a selector it decides nothing.
    """

    ALLOW = "allow"
    DENY = "deny"
    SELECT = "select"


_READ_OWNER = {name: known.read for name, known in OWNER_FIELDS.items()}
_READ_LISTENER = {name: known.read for name, known in LISTENER_FIELDS.items()}
# What costs least to ask, and rules out most, is asked first.
_ASKED_FIRST = ("port", "protocol", "path", "state", "family", "scope", "device", "ephemeral", "address")
_OPPOSITE = {Trust.ALLOW: Trust.DENY, Trust.DENY: Trust.ALLOW, Trust.SELECT: Trust.SELECT}


@dataclass(frozen=True, slots=True)
class OwnerMatcher:
    """Every field named must match. `kernel` entries match kernel-owned sockets only.

    `short` are the executables it names below /bin, /sbin or /lib: on a host with merged /usr also in /usr.
    `of_kind`: of processes of one kind it says the same (`fields.kind_of`).
    """

    tests: tuple[tuple[str, Test], ...]
    relatives: tuple[tuple[str, OwnerMatcher], ...]
    kernel: bool
    text: str
    short: frozenset[str | int] = frozenset()
    of_kind: bool = False

    def match(self, owner: Owner, trust: Trust) -> Truth:
        """Whether this owner matches, trusting its executable path as far as `trust` says."""
        if self.kernel:
            return False
        found: Truth = True
        for name, test in self.tests:
            if name == "exe":
                truth = self._executable(test, owner.process, trust)
            else:
                truth = test.match(_READ_OWNER[name](owner))
            if truth is False:
                return False
            if truth is None:
                found = None
        return all_of((found, *self._kin(owner, trust))) if self.relatives else found

    def _executable(self, test: Test, process: Process, trust: Trust) -> Truth:
        found = self._path(test, process, trust)
        unverified = process.exe_verified is False
        if trust is Trust.DENY:
            # What claims to be the program that a `not` spares is not spared on its word.
            return True if test.negated and (unverified or process.exe_deleted is True) else found
        if trust is Trust.SELECT:
            return None if unverified else found
        if unverified:
            return False
        if found is not False and all(name != "exe_deleted" for name, _ in self.tests):
            return all_of((found, Is(lambda deleted: deleted is False, "").match((process.exe_deleted,))))
        return found

    def _path(self, test: Test, process: Process, trust: Trust) -> Truth:
        """What the test says of the path, and of the name that merged /usr gives the same file besides."""
        found = test.match((process.exe,))
        other = short_name(process.exe) if self.short and isinstance(process.exe, str) else None
        if other not in self.short or process.usr_merged is False:
            return found
        also = test.match((process.exe, other))
        if process.usr_merged is True or also is found:
            return also
        return any_of((found, also)) if trust is Trust.DENY else None

    def _kin(self, owner: Owner, trust: Trust) -> tuple[Truth, ...]:
        return tuple(_related(name, matcher, owner, trust) for name, matcher in self.relatives)


def _related(name: str, matcher: OwnerMatcher, owner: Owner, trust: Trust) -> Truth:
    """`parent`: the nearest ancestor matches; `ancestor`: some does; `no_ancestor`: none does."""
    chain = [
        Owner(process, ancestors=owner.ancestors[place + 1 :], ancestry_cut=owner.ancestry_cut)
        for place, process in enumerate(owner.ancestors)
    ]
    if name == "parent":
        if chain:
            return matcher.match(chain[0], trust)
        return None if owner.ancestry_cut else False
    if name == "no_ancestor":
        trust = _OPPOSITE[trust]  # here a match speaks against the owner, or for it
    found = any_of(matcher.match(ancestor, trust) for ancestor in chain)
    if found is False and owner.ancestry_cut:
        found = None
    return negate(found) if name == "no_ancestor" else found


def compile_owner(spec: Mapping[str, object], path: Path, bindings: Bindings) -> OwnerMatcher:
    """The matcher for one entry. Raises ValueMistake or MissingVariable."""
    tests: list[tuple[str, Test]] = []
    relatives: list[tuple[str, OwnerMatcher]] = []
    for name, value in spec.items():
        if name in ANNOTATIONS or name == "kernel":
            continue
        if isinstance(value, Mapping) and name in ("ancestor", "no_ancestor", "parent"):
            relatives.append((name, compile_owner(value, (*path, name), bindings)))
            continue
        known = OWNER_FIELDS[name]
        tests.append((name, compile_value(value, known.kind, (*path, name), bindings, known.choices)))
    if not tests and not relatives and spec.get("kernel") is not True:
        raise ValueMistake(
            path, "the entry names no field and would match everybody", "add exe, user or unit"
        )
    words = [f"{name} {test.text}" for name, test in tests]
    words += [f"{name} ({matcher.text})" for name, matcher in relatives]
    kernel = spec.get("kernel") is True
    short = [literal for name, test in tests if name == "exe" for literal in literals(test)]
    return OwnerMatcher(
        tests=tuple(tests),
        relatives=tuple(relatives),
        kernel=kernel,
        text="the kernel" if kernel else ", ".join(words),
        of_kind=not relatives and all(name in OF_KIND for name, _ in tests),
        short=frozenset(path for path in short if isinstance(path, str) and has_long_name(path)),
    )


class Surroundings(Protocol):
    """What a selector must know of the host besides the listener itself."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """Every listener."""

    @property
    def kinds(self) -> Mapping[int, int]:
        """Numbers of the kinds of processes and of listeners, by id()."""

    def places(self, ports: frozenset[str | int]) -> Iterable[int]:
        """Where in `listeners` those with these ports are, and those without a port; of no ports: all."""

    def owners_known(self, listener: Listener) -> bool:
        """Whether every owner of the listener was seen."""

    def approved(self, listener: Listener) -> Truth:
        """Whether some rule with an allow list or a required listener selects it."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which listeners a rule is about. Without a `listeners` key: every listener there is."""

    tests: tuple[tuple[str, Test], ...] = ()
    kind_tests: tuple[tuple[str, Test], ...] = ()  # of fields that listeners of one kind have in common
    netns: NetnsTest = field(default=lambda _netns: True)
    owner: OwnerMatcher | None = None
    approved: bool | None = None
    ports: frozenset[str | int] = frozenset()  # the only ports it selects, where it names them one by one

    @property
    def every_test(self) -> tuple[tuple[str, Test], ...]:
        """The fields that it names, in the order in which they are asked."""
        return tuple(sorted((*self.tests, *self.kind_tests), key=_turn))

    def match(self, listener: Listener, around: Surroundings) -> Truth:
        """Whether the selector selects the listener; None when the snapshot does not say."""
        return self._match(listener, around, {})

    def match_all(self, around: Surroundings) -> tuple[Truth, ...]:
        """What `match` says of each listener of the host; what depends on its kind is asked once a kind."""
        found: list[Truth] = [False] * len(around.listeners)
        known: dict[int, Truth] = {}
        for place in around.places(self.ports):
            found[place] = self._match(around.listeners[place], around, known)
        return tuple(found)

    def _match(self, listener: Listener, around: Surroundings, known: dict[int, Truth]) -> Truth:
        if self.ports and isinstance(listener.port, int) and listener.port not in self.ports:
            return False  # what most rules say of most listeners, for little
        found = _all_hold(self.tests, listener, around)
        if found is False:
            return False
        kind = around.kinds.get(id(listener))
        if kind is None or kind not in known:
            known[-1 if kind is None else kind] = self._of_kind(listener, around)
        found = all_of((found, known[-1 if kind is None else kind]))
        if found is False or (self.owner is None and self.approved is None):
            return found
        return all_of((found, self._by_owner(listener, around), self._by_approval(listener, around)))

    def _of_kind(self, listener: Listener, around: Surroundings) -> Truth:
        """What is the same for all listeners of one kind (`fields.listener_kind_of`)."""
        found = all_of((_all_hold(self.kind_tests, listener, around), self.netns(listener.netns)))
        # In another state it may not be a listener at all.
        return None if found and listener.state not in (*STATES, UNKNOWN) else found

    def _by_owner(self, listener: Listener, around: Surroundings) -> Truth:
        if self.owner is None:
            return True
        found = any_of(
            self.owner.match(owner, Trust.SELECT) for owner in (*listener.owners, *listener.held_by)
        )
        return None if found is False and not around.owners_known(listener) else found

    def _by_approval(self, listener: Listener, around: Surroundings) -> Truth:
        if self.approved is None:
            return True
        approved = around.approved(listener)
        return approved if self.approved else negate(approved)


def _all_hold(tests: Sequence[tuple[str, Test]], listener: Listener, around: Surroundings) -> Truth:
    found: Truth = True
    for name, test in tests:
        truth = _listener_field(name, test, listener, around)
        if truth is False:
            return False
        if truth is None:
            found = None
    return found


def _listener_field(name: str, test: Test, listener: Listener, around: Surroundings) -> Truth:
    if name in VIA_OWNERS:
        return test.match(_of_owners(name, listener, around))
    values = tuple(_READ_LISTENER[name](listener))
    if name in ("address", "port") and values == (None,):
        return False  # a family that has none is not selected, not even by {not: …}
    return test.match(values)


def _of_owners(name: str, listener: Listener, around: Surroundings) -> Candidates:
    values = tuple(
        value for owner in (*listener.owners, *listener.held_by) for value in OWNER_FIELDS[name].read(owner)
    )
    if not around.owners_known(listener):
        return (*values, UNKNOWN)
    return values or (None,)


def compile_selector(spec: Mapping[str, object] | None, path: Path, bindings: Bindings) -> Selector:
    """The selector for a rule's `listeners`. Raises ValueMistake or MissingVariable."""
    if spec is None:
        return Selector()
    tests: list[tuple[str, Test]] = []
    if "protocol" not in spec and "path" not in spec:
        text = "a network protocol"
        tests.append(("protocol", Is(lambda value: value in NETWORK_PROTOCOLS, text)))
    for name, value in spec.items():
        known = LISTENER_FIELDS.get(name)
        if known is not None:
            tests.append((name, compile_value(value, known.kind, (*path, name), bindings, known.choices)))
        elif name in VIA_OWNERS:
            tests.append((name, compile_value(value, Kind.TEXT, (*path, name), bindings)))
    owner, approved = spec.get("owner"), spec.get("approved")
    return Selector(
        tests=tuple(sorted((item for item in tests if item[0] not in OF_LISTENER_KIND), key=_turn)),
        kind_tests=tuple(sorted((item for item in tests if item[0] in OF_LISTENER_KIND), key=_turn)),
        netns=_compile_netns(spec.get("netns", "host"), (*path, "netns"), bindings),
        owner=compile_owner(owner, (*path, "owner"), bindings) if isinstance(owner, Mapping) else None,
        approved=approved if isinstance(approved, bool) else None,
        ports=next(
            (test.exact for name, test in tests if name == "port" and isinstance(test, Is)), frozenset()
        ),
    )


def _turn(test: tuple[str, Test]) -> int:
    return _ASKED_FIRST.index(test[0]) if test[0] in _ASKED_FIRST else len(_ASKED_FIRST)


def _compile_netns(value: object, path: Path, bindings: Bindings) -> NetnsTest:
    """`host`, `container` and `any` are words, never names: a namespace called "host" is not the host's."""
    if isinstance(value, Mapping):
        inner = _compile_netns(value.get("not"), (*path, "not"), bindings)
        return lambda netns: negate(inner(netns))
    if isinstance(value, list | tuple):
        options = [_compile_netns(item, (*path, place), bindings) for place, item in enumerate(value)]
        return lambda netns: any_of(option(netns) for option in options)
    if value == "any":
        return lambda _netns: True
    if value == "host":
        return _is_host
    if value == "container":
        return lambda netns: negate(_is_host(netns))
    test = compile_value(value, Kind.TEXT, path, bindings)
    return lambda netns: test.match((str(netns.id) if netns.id != "" else UNKNOWN, netns.name))


def _is_host(netns: NetworkNamespace) -> Truth:
    return None if isinstance(netns.host, Missing) else netns.host
