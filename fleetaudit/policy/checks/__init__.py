"""The assertions a rule can make: one file each, one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fleetaudit.policy.checks.allow_owners import compile_allow_owners
from fleetaudit.policy.checks.base import CompileCheck
from fleetaudit.policy.checks.deny_owners import compile_deny_owners
from fleetaudit.policy.checks.expect import compile_expect
from fleetaudit.policy.checks.owners import compile_owner_count
from fleetaudit.policy.checks.require_owners import compile_require_owners
from fleetaudit.policy.checks.same import compile_same
from fleetaudit.policy.checks.scope import compile_scope

CHECKS: Final[Mapping[str, CompileCheck]] = MappingProxyType(
    {
        "allow_owners": compile_allow_owners,
        "deny_owners": compile_deny_owners,
        "require_owners": compile_require_owners,
        "same": compile_same,
        "owners": compile_owner_count,
        "scope": compile_scope,
        "expect": compile_expect,
    }
)
