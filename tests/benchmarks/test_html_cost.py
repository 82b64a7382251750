"""The benchmark of the HTML report runs, and holds the limits it states."""

from __future__ import annotations

import pytest

from benchmarks import html_cost
from tests.report.browser import PROGRAM


@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
def test_a_small_fleet_is_measured_and_a_limit_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert html_cost.main(["--hosts", "20"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 20 | 40 | ")
    monkeypatch.setattr(html_cost, "SIZE_LIMIT", 0.001)
    assert html_cost.main(["--hosts", "20"]) == 1
