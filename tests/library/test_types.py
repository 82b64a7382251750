"""What a user's type checker sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fleetaudit

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import fleetaudit
from fleetaudit.model import Finding, Host, HostAudit, HostStatus, Outcome
from fleetaudit.transport.memory import MemoryTransport, telling


class Watch(fleetaudit.Observer):
    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        return None


options = fleetaudit.Options(forks=5, user="audit")
memory = {"memory": MemoryTransport(telling({}))}
report: fleetaudit.AuditReport = fleetaudit.audit("i.yaml", ["p.yaml"], options=options, observer=Watch())
audits: list[HostAudit] = list(report)
findings: list[Finding] = [finding for result in audits[0].results for finding in result.findings]
code: int = report.summary.exit_code
outcomes: list[Outcome] = list(fleetaudit.collect([Host("a", "", transport="memory")], transports=memory))
pieces: list[bytes] = list(fleetaudit.evaluate(outcomes, "p.yaml").render("json"))
reveal_type(fleetaudit.evaluate("s.jsonl", "p.yaml"))
fleetaudit.audit(7, "p.yaml")
fleetaudit.Options(fork=5)
report.sumary
"""


def test_a_users_script_is_checked_strictly(tmp_path: Path) -> None:
    assert Path(fleetaudit.__file__).with_name("py.typed").exists()
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}:{ROOT / 'typings'}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = [line.split(": ", 2)[2] for line in done.stdout.splitlines() if line.startswith("script.py")]
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if line.startswith("script.py")]
    assert found[0] == 'Revealed type is "fleetaudit.results.AuditReport"', done.stdout + done.stderr
    assert 'Argument 1 to "audit"' in found[1]
    assert 'Unexpected keyword argument "fork"' in found[2]
    assert 'no attribute "sumary"' in found[3]
    wrong = SCRIPT.splitlines().index('reveal_type(fleetaudit.evaluate("s.jsonl", "p.yaml"))') + 1
    assert {int(line) for line in lines} == set(range(wrong, wrong + 4))
