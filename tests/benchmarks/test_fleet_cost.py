"""The benchmark of the fleet runs, counts whole answers only, and says what it could not measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fleet_cost import ROOT, parse
from benchmarks.fleet_inside import Cost, Job
from benchmarks.fleet_results import (
    ANSIBLE,
    BARE,
    OWN,
    OWN_TRANSPORT,
    PYINFRA,
    Fleet,
    Results,
    compare,
    render,
    whole,
)


def cells(table: str, row: str) -> list[str]:
    """The first row that begins with this cell."""
    (found, *_) = [line for line in table.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def cost(cpu: float, answers: int = 100, said: float | None = None, peak: int = 50 * 1024) -> Cost:
    return {"cpu": cpu, "peak": peak, "wall": 1.0, "answers": answers, "status": 0, "said": said}


def results(**parts: object) -> Results:
    usual: dict[str, object] = {
        "fleets": (),
        "starts": {"fleetaudit --help": [cost(0.1)]},
        "simulated": {1000: cost(5, peak=100 * 1024), 5000: cost(25, peak=110 * 1024)},
        "latency": {OWN_TRANSPORT: [cost(0.1, 1, 0.6)], BARE: [cost(0.1, 1, 0.8)]},
        "listeners": 50,
        "facts": {},
        "rounds": 1,
        "quick": False,
    }
    return Results(**(usual | parts))  # type: ignore[arg-type]  # a dict of them cannot be typed


def test_a_quick_run_writes_every_table(tmp_path: Path) -> None:
    output = tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks.fleet_cost", "--quick", "--rounds", "1"]
    command += ["--peers", str(tmp_path / "nobody"), "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    table = output.read_text(encoding="utf-8")
    assert "A quick run" in table
    for client in (OWN, BARE):
        assert float(cells(table, client)[1]) > 0
    assert cells(table, "asyncssh")[1] == "not installed"
    assert float(cells(table, "20")[1]) > 10
    for client in (OWN_TRANSPORT, BARE):  # the first row named so is the one behind the slow link
        assert float(cells(table, client)[1]) > 5 * 50, "five round trips are the least that SSH takes"
    assert float(cells(table, "`fleetaudit --help`")[1]) > 0
    assert "exceeded" not in table.partition("## One host")[2], "a quick run judges nothing"


def test_a_run_that_lost_a_host_is_no_measurement() -> None:
    runs = [cost(1.0), cost(0.1, answers=99)]
    assert whole(runs, 100) == runs[:1]
    costs = {OWN: runs, BARE: [cost(1.0), cost(1.0)], PYINFRA: [cost(0.1, answers=3)]}
    table = render(results(fleets=[Fleet(100, costs)]))
    fleet = table.partition("## 100 hosts")[2]
    assert cells(fleet, f"{OWN} (1 of 2 failed)")[1] == "10.00"
    assert cells(fleet, PYINFRA)[1] == "failed: 3 of 100 hosts answered"
    assert cells(fleet, ANSIBLE)[1] == "not installed"
    assert f"{OWN} against {PYINFRA}: nothing to compare with" in fleet


@pytest.mark.parametrize(
    ("other", "ratio", "verdict"),
    [
        (BARE, 1.5, "kept"),
        (BARE, 1.51, "**exceeded**"),
        (ANSIBLE, 0.1, "kept"),
        (ANSIBLE, 0.11, "**exceeded**"),
        (PYINFRA, 0.33, "kept"),
        (PYINFRA, 0.34, "**exceeded**"),
    ],
)
def test_limits_of_cpu(other: str, ratio: float, verdict: str) -> None:
    table = render(results(fleets=[Fleet(100, {OWN: [cost(ratio)], other: [cost(1.0)]})]))
    (line,) = [line for line in table.splitlines() if line.startswith(f"- {OWN} against {other}")]
    assert line.endswith(f": {verdict}")


def test_other_limits_that_are_not_kept_show() -> None:
    assert "exceeded" not in render(results())
    for part in (
        {"starts": {"fleetaudit --help": [cost(0.16)]}},
        {"simulated": {1000: cost(5, peak=201 * 1024)}},
        {"simulated": {1000: cost(5, peak=100 * 1024), 5000: cost(5, peak=116 * 1024)}},
        {"latency": {OWN_TRANSPORT: [cost(0.1, 1, 0.73)], BARE: [cost(0.1, 1, 0.8)]}},
    ):
        assert render(results(**part)).count("**exceeded**") == 1


def test_ratios_are_taken_round_by_round() -> None:
    quiet, noisy = cost(0.010), cost(0.100)
    assert compare([cost(0.02), cost(0.2), cost(0.02)], [quiet, noisy, quiet], 100) == pytest.approx(2)
    assert compare([cost(0.02)], [], 100) is None


def measured(folder: Path, code: str, seconds: float) -> Cost:
    """What a client cost; in a process of its own, because every child of that is ended afterwards."""
    job: Job = {
        "argv": [sys.executable, "-c", code],
        "folder": str(folder),
        "output": str(folder / "out"),
        "answers": (str(folder / "out"), "(?m)^answered$"),
    }
    program = (
        f"import json; from benchmarks.fleet_inside import run; print(json.dumps(run({job!r}, {seconds}, 0)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: Cost = json.loads(done.stdout)
    return found


def test_the_cost_of_a_client_is_that_of_its_whole_tree(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    found = measured(tmp_path, f"{child}\nprint('answered')\nprint('seconds 1.5')", 60)
    assert found["cpu"] >= 0.3
    assert (found["answers"], found["status"], found["said"]) == (1, 0, 1.5)


def test_a_client_that_hangs_is_ended(tmp_path: Path) -> None:
    found = measured(tmp_path, "import time; time.sleep(60)", 0.2)
    assert found["wall"] < 30
    assert found["status"] is None
    assert whole([found], 0) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds and --hosts are at least 1"),
        (["--hosts", "100", "0"], "--rounds and --hosts are at least 1"),
        (["--hosts", "1001"], "--hosts is at most 1000"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert words in capsys.readouterr().err
