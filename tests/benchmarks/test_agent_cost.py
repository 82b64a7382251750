"""The benchmark runs, measures true answers only, and says what it could not measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.agent_cost import NONCE, ROOT, check_answer, parse
from benchmarks.loads import SCENES, Scene
from benchmarks.results import LIMITS, Cost, Measured, compare, render
from fleetaudit.agent.agent import frame

SMALL = Scene(processes=5, fds=4, listeners=1, owners=2, namespaces=1)


def cells(table: str, tool: str) -> list[str]:
    """The row of a tool in the only or the first table."""
    (row, *_) = [line for line in table.splitlines() if line.startswith(f"| {tool} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_quick_run_writes_a_table(tmp_path: Path) -> None:
    output = tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks.agent_cost", "--quick", "--rounds", "1"]
    command += ["--loads", "quiet", "namespaces", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    table = output.read_text(encoding="utf-8")
    assert "A quick run" in table
    assert [line.partition(":")[0] for line in table.splitlines() if line.startswith("## ")] == [
        "## quiet",
        "## namespaces",
    ]
    for tool in ("ss", "agent", "python3 alone"):
        assert float(cells(table, tool)[1]) > 0
    assert float(cells(table, "agent")[3]) > 0
    for tool in ("netstat", "lsof", "psutil"):
        assert cells(table, tool)[1] == "not installed" or float(cells(table, tool)[1]) > 0


def answer(owners: int) -> bytes:
    sockets = [
        {"protocol": "tcp", "owners": [{}] * owners},
        {"protocol": "tcp", "owners": [{}] * 5},
        {"protocol": "unix", "owners": [{}]},
    ]
    return frame(NONCE, json.dumps({"sockets": sockets}).encode())


def test_an_answer_that_misses_an_owner_is_no_measurement() -> None:
    check_answer(SMALL, answer(owners=2))
    with pytest.raises(RuntimeError, match="saw 6 of 7"):
        check_answer(SMALL, answer(owners=1))


def test_what_was_not_measured_says_so() -> None:
    costs: dict[str, list[Cost | None]] = {
        "ss": [(0.01, 9000), (0.03, 9000)],
        "agent": [(0.03, 11000), (0.03, 20480)],
        "lsof": [None, (1.0, 1)],
    }
    table = render([Measured("quiet", SMALL, costs)], {"ss": "6.1"}, rounds=2, quick=False)
    assert cells(table, "agent") == ["agent", "30.0", "30.0", "2.00", "20.0", "2.0, 40 MiB: kept"]
    assert cells(table, "lsof")[1] == "1 of 2 runs ended by a signal"
    assert cells(table, "netstat")[1] == "not installed"
    assert "A quick run" not in table


@pytest.mark.parametrize(("cpu", "peak"), [(0.021, 1000), (0.001, 41 * 1024)], ids=["cpu", "memory"])
def test_a_limit_that_is_not_kept_shows(cpu: float, peak: int) -> None:
    costs: dict[str, list[Cost | None]] = {"ss": [(0.01, 9000)], "agent": [(cpu, peak)]}
    table = render([Measured("quiet", SMALL, costs)], {}, rounds=1, quick=False)
    assert cells(table, "agent")[-1].endswith("**exceeded**")


def test_ratios_are_taken_round_by_round() -> None:
    quiet, noisy = (0.010, 1), (0.100, 1)
    assert compare([(0.020, 1), (0.200, 1), (0.020, 1)], [quiet, noisy, quiet]) == pytest.approx(2)
    assert compare([(0.020, 1)], []) is None


def test_every_load_has_a_limit_and_a_small_form() -> None:
    assert LIMITS.keys() == SCENES.keys() - {"idle"}
    for scene in SCENES.values():
        small = scene.shrunk()
        assert small.processes >= small.owners >= small.listeners >= 1
        assert bool(small.connections) == bool(scene.connections)
        assert bool(small.namespaces) == bool(scene.namespaces)


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--rounds", "0"])
    assert "--rounds is at least 1" in capsys.readouterr().err
