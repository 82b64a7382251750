"""Whether one policy value, entry or selector covers another: all that the second matches, the first does.

"No" means "not that we can tell": what is not covered for sure is not reported.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import TypeAlias

from fleetaudit.policy.fields import LISTENER_FIELDS, OWNER_FIELDS
from fleetaudit.policy.lint.base import leaves
from fleetaudit.policy.values import Bindings, Kind, ValueMistake, compile_value, is_templated
from fleetaudit.usr_merge import has_long_name

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_SPAN = re.compile(r"(\d+)(?:\s*-\s*(\d+))?\Z")
_PATTERN = re.compile(r"~|.*[*?\[]")


def value_covers(wide: object, narrow: object, kind: Kind) -> bool:
    """Whether `wide` matches every value that `narrow` matches."""
    if wide == narrow:
        return True
    if kind is Kind.TEXT and isinstance(wide, str) and isinstance(narrow, str) and not _PATTERN.match(wide):
        return False  # the common case, and cheap: a literal covers itself only
    if is_templated(wide) or is_templated(narrow):
        return False
    if isinstance(narrow, list | tuple):
        return all(value_covers(wide, item, kind) for item in narrow)
    if isinstance(narrow, Mapping):
        # not X is within not Y when all of Y is within X.
        return isinstance(wide, Mapping) and value_covers(narrow.get("not"), wide.get("not"), kind)
    if isinstance(wide, list | tuple):
        return any(value_covers(item, narrow, kind) for item in wide)
    return _single_covers(wide, narrow, kind)


def _single_covers(wide: object, narrow: object, kind: Kind) -> bool:
    if isinstance(wide, Mapping):
        return False  # a subject can have several values (name and number): one that matches is not all
    if kind in (Kind.NUMBER, Kind.PORT):
        outer, inner = span(wide), span(narrow)
        return outer is not None and inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]
    if kind is Kind.ADDRESS:
        outside, inside = _network(wide), _network(narrow)
        if outside is not None or inside is None:
            return outside is not None and inside is not None and _within(inside, outside)
        narrow = str(inside.network_address) if inside.num_addresses == 1 else f"~{narrow}"
    if isinstance(narrow, str) and _PATTERN.match(narrow):
        return wide == "*"
    subject = str(narrow) if isinstance(narrow, int) and kind is Kind.TEXT else narrow
    try:
        return compile_value(wide, kind, (), Bindings({})).match((subject,)) is True
    except ValueMistake:
        return False


def span(value: object) -> tuple[int, int] | None:
    """The first and last number that a number or range means, None for anything else."""
    found = _SPAN.match(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    return (int(found[1]), int(found[2] or found[1])) if found else None


def _network(value: object) -> _Network | None:
    try:
        return ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def entry_covers(wide: Mapping[str, object], narrow: Mapping[str, object]) -> bool:
    """Whether every owner that `narrow` matches also matches `wide` (fields only, no annotations)."""
    return all(name in narrow and _field_covers(name, wide[name], narrow[name]) for name in wide) and (
        # Without exe_deleted an allow entry with exe means a file that is there still.
        "exe" not in wide or wide.get("exe_deleted") == narrow.get("exe_deleted")
    )


def _field_covers(name: str, wide: object, narrow: object) -> bool:
    known = OWNER_FIELDS.get(name)
    if name == "exe" and (_has_long_names(wide) or _has_long_names(narrow)):
        # On a host with merged /usr such a literal has a second name, which no pattern has.
        return wide == narrow or (
            _are_literals(wide) and _are_literals(narrow) and value_covers(wide, narrow, Kind.TEXT)
        )
    return wide == narrow if known is None else value_covers(wide, narrow, known.kind)


def selector_covers(wide: Mapping[str, object] | None, narrow: Mapping[str, object] | None) -> bool:
    """Whether every listener that `narrow` selects is one that `wide` selects; None is a rule without any."""
    if wide is None:
        return True
    if narrow is None:
        return False
    # What is not named is not free: the network protocols, and the host's own namespace, are meant.
    if ("protocol" in wide or "path" in wide) and "protocol" not in narrow and "path" not in narrow:
        return False
    if "protocol" not in wide and "path" not in wide and not _of_the_network(narrow):
        return False
    if not _netns_covers(wide.get("netns", "host"), narrow.get("netns", "host")):
        return False
    return all(_selects_within(name, wide[name], narrow) for name in wide if name != "netns")


def _netns_covers(wide: object, narrow: object) -> bool:
    return wide in ("any", narrow)


def _of_the_network(narrow: Mapping[str, object]) -> bool:
    network = ["tcp", "udp", "udplite", "sctp", "dccp"]
    if "protocol" in narrow:
        return value_covers(network, narrow["protocol"], Kind.TEXT)
    return "path" not in narrow


def _selects_within(name: str, wide: object, narrow: Mapping[str, object]) -> bool:
    if name not in narrow:
        return False
    if name == "owner":
        return wide == narrow[name]
    known = LISTENER_FIELDS.get(name)
    return wide == narrow[name] if known is None else value_covers(wide, narrow[name], known.kind)


def _has_long_names(value: object) -> bool:
    return any(has_long_name(str(leaf.value)) for leaf in leaves((), value) if leaf.is_literal)


def _are_literals(value: object) -> bool:
    return all(leaf.is_literal and not leaf.negated for leaf in leaves((), value))
