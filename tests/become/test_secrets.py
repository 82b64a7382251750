"""Passwords appear nowhere: whole audits by real sshd and sudo, and everything that they leave or show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.become import secretive
from tests.become.once import alone

OUTPUTS = {
    "report.json",
    "report.jsonl",
    "report.csv",
    "report.text",
    "stderr",
    "sshd.log",
    "snapshots.jsonl",
    "report.sarif",
    "report.csv-listeners",
    "history.db",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    document = json.loads(alone(tmp_path_factory, "tests.become.secretive"))
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("way", ["terminal", "environment", "both asked", "su", "doas"])
def test_passwords_that_work_are_seen_nowhere(found: dict[str, Any], way: str) -> None:
    audit = found[way]
    assert audit["host"] in ("ok", "partial"), audit
    assert audit["leaks"] == []
    assert set(audit["files"]) >= OUTPUTS
    assert audit["journal_seen"]
    assert sum(name.startswith("history.db ") for name in audit["files"]) >= 3
    assert audit["sudo_seen"], "the watcher was too slow to see sudo: its silence would prove nothing"


@pytest.mark.parametrize(
    ("way", "status"),
    [("wrong become", "become_failed"), ("wrong ssh", "auth_failed"), ("wrong su", "become_failed")],
)
def test_passwords_that_are_refused_are_not_repeated(found: dict[str, Any], way: str, status: str) -> None:
    assert found[way]["host"] == status, found[way]
    assert found[way]["leaks"] == []
    assert set(found[way]["files"]) >= OUTPUTS - {"snapshots.jsonl"}


def test_the_watcher_sees_an_environment_with_a_secret(found: dict[str, Any]) -> None:
    assert found["environment"]["own_environment_seen"]
    assert not found["terminal"]["own_environment_seen"]


@pytest.mark.parametrize("secret", secretive.SECRETS)
def test_the_search_finds_what_it_looks_for(secret: str) -> None:
    assert secretive.tells(f"x{json.dumps(secret)}y".encode())
    assert not secretive.tells(b"Zq7")
