"""What other distributions add, as entry points: looked for when a name is asked for that is not built in.

https://packaging.python.org/en/latest/specifications/entry-points/. Reading the metadata of everything that
is installed takes tens of milliseconds, which a run that needs no plugin does not pay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.text import visible

TRANSPORTS: Final = "fleetaudit.transports"
INVENTORY_SOURCES: Final = "fleetaudit.inventory_sources"
_REMEDY: Final = "correct, update or remove that distribution"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point, loaded. `origin` names it and its distribution, for messages."""

    name: str
    origin: str
    function: Callable[..., Any]

    def __call__(self, argument: object) -> Any:
        """What the plugin's function returns. Raises ConfigError when it fails."""
        return self.guarded("it", self.function, argument)

    def guarded(self, what: str, function: Callable[..., Any], *arguments: object) -> Any:
        """What a function of the plugin's returns. Raises ConfigError when `what`, as it is called, fails."""
        try:
            return function(*arguments)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's function may raise anything
            said = " ".join(str(error).split())[:300]
            problem = f"{what} failed: {type(error).__name__}: {said}"
            raise self.broken(problem, "see what it needs") from error

    def broken(self, what: str, hint: str = "") -> ConfigError:
        """The error to raise for a plugin that does not keep its contract."""
        return ConfigError(Problem(visible(f"{self.origin}: {what}"), hint=hint or _REMEDY))


@cache
def names(group: str) -> tuple[str, ...]:
    """What there is in a group, sorted; nothing is loaded. Looked up once: each host of a fleet may ask."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def find(group: str, name: str) -> Plugin | None:
    """The plugin of this name, None if there is none. Loads it.

    Raises ConfigError, naming distribution and entry point, when it does not load, is no callable, or when
    two distributions claim the name.
    """
    found = tuple(dict.fromkeys(entry_points(group=group, name=name)))
    if not found:
        return None
    if len(found) > 1:
        listed = "; ".join(visible(_origin(point, group)) for point in found)
        raise ConfigError(Problem(f"several plugins are called '{visible(name)}': {listed}", hint="keep one"))
    point = found[0]
    origin = _origin(point, group)
    try:
        function = point.load()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything while it is imported
        said = " ".join(str(error).split())[:300]
        problem = f"{origin} does not load: {type(error).__name__}: {said}"
        raise ConfigError(Problem(visible(problem), hint=_REMEDY)) from error
    plugin = Plugin(name, origin, function)
    if not callable(function):
        raise plugin.broken(f"it is of type {type(function).__name__}, which cannot be called")
    return plugin


def _origin(point: EntryPoint, group: str) -> str:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
    return f"entry point {group}: {point.name} = {point.value} of {distribution}"
