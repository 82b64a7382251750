"""The benchmark of the history runs, checks what it kept, and holds the limits it states."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.history_cost import Kept, main, render


def test_it_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    assert main(["--hosts", "20", "--output", str(results)]) in (0, 1)
    assert "| every host restarted |" in results.read_text()


@pytest.mark.parametrize(
    ("kept", "good"),
    [
        (Kept("second", 10_000, 9.9, 9.9, judged=True), True),
        (Kept("second", 10_000, 10.1, 1.0, judged=True), False),
        (Kept("second", 10_000, 1.0, 10.1, judged=True), False),
        (Kept("second", 1_000, 1.1, 0.1, judged=True), False),
        (Kept("first", 10_000, 99.0, 99.0), True),
    ],
)
def test_limits_are_held(kept: Kept, good: bool) -> None:
    assert render([kept], "SQLite")[1] is good
