"""A waiver written from a finding of a report: as narrow as the finding, for a person to look at. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from fleetaudit.errors import ConfigError, Problem

_PLAIN = re.compile(r"[ !#-\[\]-~]")
_SPECIAL = re.compile(r"[*?\[{]")
_OWNER_FIELDS = ("exe", "user", "unit", "container")


def entry(result: Mapping[str, object], finding: Mapping[str, object], facts: Mapping[str, str]) -> str:
    """The entry of a waiver file that covers the finding on its host, in YAML, indented as a list of two.

    `result` and `finding` are of a report in JSON; `facts` are reason, expires and the like. Raises
    ConfigError for a finding that no narrow waiver can cover.
    """
    lines = [f"policy: {_quoted(result['policy'])}", f"rule: {_quoted(result['rule'])}"]
    lines.append(f"hosts: {_quoted(_host(str(result['host'])))}")
    listener = finding.get("listener")
    if isinstance(listener, Mapping):
        lines.append(f"listeners: {_mapping(_listener(listener))}")
    owners = [_owner(owner) for owner in _concerned(finding)]
    if owners:
        unique = list(dict.fromkeys(map(_mapping, owners)))
        lines.append("owners:")
        lines += [f"  - {owner}" for owner in unique]
    lines += [f"{name}: {_quoted(value)}" for name, value in facts.items() if value]
    return "  - " + "\n    ".join(lines) + "\n"


def _concerned(finding: Mapping[str, object]) -> list[Mapping[str, object]]:
    listed = finding.get("owners")
    owners = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, Sequence) else []
    return [owner for owner in owners if owner.get("concerned")] or owners


def _listener(listener: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {"protocol": listener["protocol"]}
    for name in ("address", "port", "path"):
        value = listener.get(name)
        if value is not None:
            found[name] = _literal(value) if name == "path" else value
    if listener.get("netns_host") is False:
        found["netns"] = _literal(listener.get("netns_name") or str(listener["netns"]))
    elif "path" in found or listener["protocol"] in ("raw", "packet"):
        found["netns"] = "any"
    return found


def _owner(owner: Mapping[str, object]) -> dict[str, object]:
    pid = owner.get("pid")
    if not isinstance(owner.get("exe"), str):
        raise _unfit(f"the executable of process {pid} is not known")
    if owner.get("exe_verified") is False:
        raise _unfit(f"the path that process {pid} claims is not that of its executable")
    found = {name: _literal(owner[name]) for name in _OWNER_FIELDS if owner.get(name)}
    return found | ({"exe_deleted": True} if owner.get("exe_deleted") is True else {})


def _unfit(what: str) -> ConfigError:
    return ConfigError(Problem(f"{what}: no waiver can name it", hint="find out what it is first"))


def _host(name: str) -> str:
    """The pattern for one host. Host names have none of the characters that patterns give a meaning to."""
    return f"[{name}]" if ":" in name else name


def _literal(value: object) -> object:
    """Text as a value that matches it and nothing else."""
    if not isinstance(value, str):
        return value
    escaped = _SPECIAL.sub(lambda found: f"[{found[0]}]", value)
    return f"[~]{escaped[1:]}" if escaped.startswith("~") else escaped


def _mapping(values: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {_quoted(value)}" for name, value in values.items()) + "}"


def _quoted(value: object) -> str:
    """As YAML that reads back the same, whatever the text holds (it does not take JSON's surrogate pairs)."""
    if not isinstance(value, str):
        return json.dumps(value)
    return '"' + "".join(char if _PLAIN.match(char) else f"\\U{ord(char):08x}" for char in value) + '"'
