"""The benchmark of judging runs, holds the limits it states, and says what it could not measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.policy_cost import Beside, Judged, compare, main, render

CHEAP = [Judged(1000, 1.0, 40_000), Judged(10_000, 10.0, 42_000)]


def test_it_runs_without_the_peer(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    main(["--hosts", "10", "--peer-hosts", "2", "--peers", str(tmp_path / "none"), "--output", str(results)])
    assert "| 10 |" in results.read_text()
    assert "could not be measured" in results.read_text()


@pytest.mark.parametrize(
    ("runs", "beside", "kept"),
    [
        (CHEAP, None, True),
        (CHEAP, Beside(200, 1.0, 6.5, 1.0), True),
        (CHEAP, Beside(200, 1.0, 5.5, 1.0), False),
        ([CHEAP[0], Judged(10_000, 31.0, 42_000)], None, False),
        ([CHEAP[0], Judged(10_000, 10.0, 60_000)], None, False),
        ([CHEAP[0], Judged(1_000, 3.1, 42_000)], None, False),
    ],
)
def test_limits_are_held(runs: list[Judged], beside: Beside | None, kept: bool) -> None:
    assert render(runs, beside)[1] is kept


def test_a_peer_that_finds_something_else_is_no_result(tmp_path: Path) -> None:
    liar = tmp_path / "python"
    liar.write_text('#!/bin/sh\necho \'{"parsed": 0, "whole": 1, "found": [[["deny-tmp", 1]]]}\'\n')
    liar.chmod(0o755)
    with pytest.raises(RuntimeError, match="h00000: fleetaudit found"):
        compare(tmp_path, 1, liar)
