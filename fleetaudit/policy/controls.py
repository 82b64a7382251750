"""The catalogue of controls that ships with titles: what policies may say that they support.

Titles are in our words; a framework whose name begins with `x_` is the user's own and is not looked up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

OWN_PREFIX: Final = "x_"


@dataclass(frozen=True, slots=True)
class Framework:
    """One version of a framework: its title, where it is published, and the titles of its controls by id."""

    title: str
    url: str
    controls: Mapping[str, str]


@cache
def frameworks() -> Mapping[str, Framework]:
    """Every framework of the catalogue by the name that policies use, sorted."""
    text = files("fleetaudit.policy").joinpath("controls.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            name: Framework(item["title"], item["url"], MappingProxyType(item["controls"]))
            for name, item in sorted(json.loads(text).items())
        }
    )


def title(framework: str, control: str) -> str | None:
    """What a control demands, in a line; None for one that the catalogue does not have."""
    known = frameworks().get(framework)
    return known.controls.get(control) if known else None
