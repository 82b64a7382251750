"""Selectors that can find nothing, or that find more than meant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from fleetaudit.errors import Problem
from fleetaudit.policy.lint.base import Subject, leaves, selector
from fleetaudit.policy.values import Bindings, Kind, ValueMistake, compile_value, is_templated

_NETWORK = ("tcp", "udp", "udplite", "sctp", "dccp")
_STREAMS = frozenset({"tcp", "sctp", "dccp"})
_DATAGRAMS = frozenset({"udp", "udplite"})
_ALL = (*_NETWORK, "raw", "unix", "packet", "vsock")
# Which protocols can have a field's value at all; address and port of vsock are a CID and a port.
_WITH_PORT = frozenset({*_NETWORK, "vsock"})
_WITH_FAMILY = {"unix": {"unix"}, "packet": {"packet"}, "vsock": {"vsock"}}
_IP = frozenset({*_NETWORK, "raw"})


def never_selects(subject: Subject) -> Iterator[Problem]:
    """Fields of a selector that exclude each other: the rule is `not_applicable`, or passes, for ever."""
    for rule in subject.rules:
        spec = selector(rule)
        protocols = _protocols(spec)
        for field, able in _needs(spec):
            if protocols and not protocols & able:
                named = "protocol" in spec or "path" in spec
                what = ", ".join(sorted(protocols)) if named else "the network protocols, which are meant,"
                yield subject.problem(
                    "never-selects",
                    f"no listener of {what} has {field}: {_shown(spec[field])}",
                    (*rule.path, "listeners", field),
                    f"write protocol: {min(able)}" if not named else "change one of the two",
                )
        yield from _contradictions(subject, rule.path, spec)


def _protocols(spec: Mapping[str, object]) -> frozenset[str]:
    """The protocols that the selector leaves, empty when an inventory variable decides."""
    if "protocol" not in spec:
        return frozenset({"unix"} if "path" in spec else _NETWORK)
    return _left(spec["protocol"], _ALL)


def _left(value: object, words: Sequence[str]) -> frozenset[str]:
    if is_templated(value):
        return frozenset()
    try:
        test = compile_value(value, Kind.TEXT, (), Bindings({}), words)
    except ValueMistake:
        return frozenset()
    return frozenset(word for word in words if test.match((word,)))


def _needs(spec: Mapping[str, object]) -> Iterator[tuple[str, frozenset[str]]]:
    """Each field with the protocols whose listeners can satisfy it."""
    if "port" in spec:
        yield "port", _WITH_PORT
    if "path" in spec:
        yield "path", frozenset({"unix"})
    if "address" in spec:
        yield "address", _IP | {"vsock"}
    if spec.get("ephemeral") is True:
        yield "ephemeral", _DATAGRAMS
    families = _left(spec.get("family", "*"), ("inet", "inet6", "unix", "packet", "vsock"))
    if "family" in spec and families:
        able = frozenset().union(*(_WITH_FAMILY.get(name, _IP) for name in families))
        yield "family", able
    scopes = ("loopback", "link_local", "multicast", "private", "any", "public", "unix")
    left = _left(spec.get("scope", "*"), scopes)
    if "scope" in spec and left:
        yield "scope", frozenset({"unix"} if left == {"unix"} else _ALL if "unix" in left else _IP)
    states = _left(spec.get("state", "*"), ("LISTEN", "UNCONN"))
    if "state" in spec and len(states) == 1:
        yield "state", frozenset(_ALL) - (_DATAGRAMS if states == {"LISTEN"} else _STREAMS)


def _contradictions(
    subject: Subject, path: tuple[str | int, ...], spec: Mapping[str, object]
) -> Iterator[Problem]:
    """Addresses of another family than the one named."""
    families = _left(spec.get("family", "*"), ("inet", "inet6"))
    if "family" not in spec or len(families) != 1:
        return
    version = 4 if families == {"inet"} else 6
    for leaf in leaves((*path, "listeners", "address"), spec.get("address")):
        other = _version(leaf.value)
        if other is not None and other != version and not leaf.negated:
            yield subject.problem(
                "never-selects",
                f"{leaf.value} is no address of family {next(iter(families))}",
                leaf.path,
                "leave out the family, or write an address of it",
            )


def _version(value: object) -> int | None:
    try:
        return ipaddress.ip_network(str(value), strict=False).version
    except ValueError:
        return None


def container_namespace(subject: Subject) -> Iterator[Problem]:
    """A selector that names a container but not `netns`, which is `host` unless named."""
    for rule in subject.rules:
        spec = selector(rule)
        if "container" in spec and spec["container"] is not None and "netns" not in spec:
            yield subject.problem(
                "container-netns",
                "netns is `host` unless named: listeners in a container's own network are not selected",
                (*rule.path, "listeners", "container"),
                "add netns: container, or netns: any",
            )


def no_selector(subject: Subject) -> Iterator[Problem]:
    """`expect` or `scope` over every listener there is, unix sockets included."""
    for rule in subject.rules:
        for name in ("expect", "scope"):
            if name in rule.spec and "listeners" not in rule.spec:
                yield subject.problem(
                    "no-selector",
                    f"{name} without listeners is about every listener, unix and raw sockets included",
                    (*rule.path, name),
                    "add listeners, such as listeners: {protocol: tcp, port: 22}",
                )


def approves_everything(subject: Subject) -> Iterator[Problem]:
    """An allow list over all listeners in a policy that looks for what no allow list approves."""
    if not any("approved" in selector(rule) for rule in subject.policy.rules):
        return
    for rule in subject.rules:
        if "allow_owners" in rule.spec and not selector(rule):
            yield subject.problem(
                "approves-everything",
                "an allow list without listeners approves every listener: `approved: false` finds none",
                (*rule.path, "allow_owners"),
                "say which listeners it is about",
            )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"not {_shown(value.get('not'))}"
    return ", ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)
