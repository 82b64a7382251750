"""Write docs/policies.md, the list of all shipped policies, from `policies/`: `python docs/packs.py`.

With --check, say whether the page still is what the policies say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from fleetaudit.inputs import packs, read_policies
from fleetaudit.policy.controls import frameworks, title
from fleetaudit.policy.model import Policy

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "policies.md"
HEAD = """\
# Shipped policies

<!-- Written by `python docs/packs.py`; change the policies instead. -->

`-p pack:NAME` names one, or a folder of them, wherever fleetaudit is installed; `-p policies/NAME.yaml`
does in this repository. `fleetaudit policy show pack:NAME` prints one with all it is made of. They support
the controls they name, and never certify: what listens is one part of a requirement. Copy what you want to
change, or `extends` it ([policy.md](policy.md)).

```sh
fleetaudit evaluate snapshots.jsonl -p pack:hygiene
fleetaudit policy show pack:cis/ubuntu-24-04
```
"""


def page() -> str:
    """The whole page."""
    names = [name for name in packs(ROOT / "policies") if (ROOT / "policies" / f"{name}.yaml").is_file()]
    lines = [HEAD]
    used: dict[tuple[str, str], None] = {}
    for name in names:
        (policy,) = read_policies([str(ROOT / "policies" / f"{name}.yaml")])
        lines += [f"## {name}\n", f"{' '.join(policy.description.split())}\n", *_rules(policy), ""]
        used |= dict.fromkeys(
            (framework, control)
            for rule in policy.rules
            for framework, ids in (rule.controls or {}).items()
            for control in ids
        )
    lines += ["## Controls\n", "| control | demands |", "|---|---|"]
    lines += [
        f"| {_known(framework)} {control} | {title(framework, control)} |"
        for framework, control in sorted(used)
    ]
    return "\n".join(lines) + "\n"


def _rules(policy: Policy) -> Iterator[str]:
    yield "| rule | severity | demands |"
    yield "|---|---|---|"
    for rule in policy.rules:
        yield f"| `{rule.id}` | {rule.severity.value} | {rule.title} |"


def _known(framework: str) -> str:
    found = frameworks()[framework]
    return f"[{found.title}]({found.url})"


def main() -> int:
    """Write the page, or with --check compare it."""
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text() != page())
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
