"""Every owner of every listening socket, judged by policy, for a whole fleet.

As a library: `fleetaudit.audit`, `fleetaudit.collect` and `fleetaudit.evaluate` (docs/library.md), imported
when they are first asked for, so that `import fleetaudit` costs nothing. `__init__.pyi` tells type checkers.
"""

import importlib

__version__ = "0.1.0"

__all__ = [
    "AuditReport",
    "Observer",
    "Options",
    "Outcomes",
    "__version__",
    "audit",
    "collect",
    "evaluate",
]


def __getattr__(name: str) -> object:
    """The library's names, on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'fleetaudit' has no attribute {name!r}")
    value: object = getattr(importlib.import_module("fleetaudit.library"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
