"""Host patterns select what Ansible selects: its own InventoryManager is the judge."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.errors import InventoryError
from fleetaudit.inventory import Inventory, load

INI = """\
z9
[web]
web2
web1
web10
[db]
db1
d.b.c
[prod:children]
db
web
[app]
app1
web1
[six]
2001:db8::1
"""
YAML = """\
all:
  hosts: {z9: , y8: }
  children:
    prod:
      hosts: {p9: , p10: }
      children:
        web: {hosts: {web3: , web1: }}
    app: {hosts: {"app[1:2]x": , web1: }}
"""
PATTERNS = (Path(__file__).parent / "patterns.txt").read_text().splitlines()
ASK = """\
import json, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
found = []
manager = InventoryManager(DataLoader(), sources=[sys.argv[1]])
for pattern, limit in json.load(sys.stdin):
    manager.clear_caches()
    try:
        manager.subset(limit)
        found.append(sorted(host.name for host in manager.get_hosts(pattern)))
    except Exception as error:
        found.append(str(error))
print(json.dumps(found))
"""


def theirs(path: Path, asked: list[tuple[str, str | None]]) -> list[list[str] | str]:
    given = json.dumps(asked)
    ask = [sys.executable, "-c", ASK, str(path)]
    done = subprocess.run(ask, input=given, capture_output=True, text=True, check=True, timeout=60)
    found: list[list[str] | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(inventory: Inventory, pattern: str, limit: str | None) -> list[str]:
    """Empty for what is refused: Ansible warns of a name that does not exist, and selects the rest."""
    try:
        return [host.name for host in inventory.select(pattern, limit)]
    except InventoryError:
        return []


def written(seed: int) -> list[tuple[str, str | None]]:
    chance = random.Random(seed)  # noqa: S311  (no secret)
    terms = [
        "web",
        "db",
        "prod",
        "app",
        "web1",
        "z9",
        "w*",
        "*1",
        "~.*[12]$",
        "all",
        "web[0]",
        "prod[1:3]",
        "*[2]",
    ]

    def pattern() -> str:
        return ":".join(
            chance.choice(["", "", "&", "!"]) + chance.choice(terms) for _ in range(chance.randint(1, 4))
        )

    return [(pattern(), pattern() if chance.random() < 0.4 else None) for _ in range(300)]


@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.yml", YAML)])
def test_a_pattern_selects_what_ansible_selects(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    inventory = load([str(path)], home="/")
    known = {*inventory.groups, *(host.name for host in inventory.hosts)}
    asked: list[tuple[str, str | None]] = [(pattern, None) for pattern in PATTERNS]
    asked += [*(("all", pattern) for pattern in PATTERNS), *written(name == "hosts")]
    asked = [pair for pair in asked if _exists(pair[0], known) and _exists(pair[1] or "", known)]
    assert len(asked) > 100
    differing = {}
    for (pattern, limit), expected in zip(asked, theirs(path, asked), strict=True):
        found = ours(inventory, pattern, limit)
        if found != ([] if isinstance(expected, str) else expected):
            differing[pattern, limit] = found, expected
    assert differing == {}


def _exists(pattern: str, known: set[str]) -> bool:
    """Whether all names in it are in this inventory: we refuse others."""
    names = [
        term.lstrip("&!").partition("[")[0]
        for term in pattern.replace("2001:db8::1", "six").replace(",", ":").split(":")
    ]
    return all(not name.isalnum() or name in known for name in names)


def test_files_of_names(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(INI)
    inventory = load([str(path)], home="/")
    retry = tmp_path / "retry"
    retry.write_text("web1\n\n db1 \nweb[-1]\n2001:db8::1\n")
    everything = {"web1", "db1", "web10", "2001:db8::1"}
    for pattern, expected in (
        (f"@{retry}", everything),
        (f"@{retry}:z9:!web", {"db1", "2001:db8::1", "z9"}),
        (f"prod:&@{retry}", {"web1", "db1", "web10"}),
        (f"web:!@{retry}", {"web2"}),
    ):
        assert {host.name for host in inventory.select(pattern)} == expected
        assert {host.name for host in inventory.select("all", pattern)} == expected
    assert theirs(path, [("all", f"@{retry}")]) == [sorted(everything)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names: no host is named in it (every host had answered)"),
        ("web1\nweb4\n", "names:2: no host or group is called 'web4' (did you mean web"),
        ("web1\n!db1\n", "names:2: '!db1' is no name (name hosts or groups, one a line)"),
        ("@names\n", "names:1: '@names' is no name"),
        ("web1\nw 2\n", "names:2: host pattern 'w 2': 'w 2' holds a blank"),
        ("web1\nprdo*\n", "names:2: 'prdo*' fits no host and no group"),
        ("web[7]\n", "'web' has 3 hosts, none of them there (positions count from 0, both ends included)"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text(INI)
    Path("names").write_text(text)
    with pytest.raises(InventoryError) as caught:
        load(["hosts"], home="/").select("all", "@names")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("web[3]", "host pattern 'web[3]': 'web' has 3 hosts, none of them there"),
        ("db:!web[-4]", "'web' has 3 hosts"),
        ("web[2:1]", "'web' has 3 hosts"),
        ("web[0-1]", "'web[0-1]' may be positions or a glob (write [0:1] for positions, or a regular"),
        ("nope[0]", "no host or group is called 'nope'"),
        ("web:prdo*", "host pattern 'web:prdo*': 'prdo*' fits no host and no group (groups with"),
        ("web:~nope[0-9]", "'~nope[0-9]' fits no host and no group"),
        ("@", "@ names no file"),
        ("@none", "none: "),
    ],
)
def test_positions_and_files_that_are_nowhere(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "hosts").write_text(INI)
    with pytest.raises(InventoryError) as caught:
        load([str(tmp_path / "hosts")], home="/").select(pattern)
    assert message in str(caught.value)


def test_what_is_excluded_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(INI)
    found = load([str(tmp_path / "hosts")], home="/").select("web:!test*")
    assert [host.name for host in found] == ["web1", "web10", "web2"]
