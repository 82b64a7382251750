"""Write the terminal sample of README.md from a real audit of the demo fleet: `python docs/sample.py`.

With --check, say whether the sample still is what the demo prints (pids, ports, times and paths aside).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- sample: begin (written by `python docs/sample.py`) -->\n"
END = "<!-- sample: end -->\n"
# What differs from run to run and machine to machine.
VARIES = (
    (r"/\S*/(fleet|demo-out)/", "demo-out/"),
    (r"/\S*/bin/(python3\.\d+)", r"/usr/bin/\1"),
    (r"python3\.\d+", "python3.11"),
    (
        r"run \S+, \S+ to\s+\S+",
        "run 20261123T100000Z-5f3a9c01, 2026-11-23T10:00:00.000Z to\n    2026-11-23T10:00:00.500Z",
    ),
    (r"(/usr/bin/python3\.11),\s+original", r"\1, original"),
    (r"SHA256:\S+", "SHA256:…"),
    (r"port \d{4,5}: Connection\s+refused", "port 22: Connection refused"),
    (r"\]:\d{4,5}'", "]:22'"),
)


def sample() -> str:
    """The first screens of the demo's report."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fleetaudit", "demo", "--output", f"{folder}/demo-out"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True, timeout=120)
    text = done.stdout.split("\nHIGH  ")[0].rstrip()
    for pattern, replacement in VARIES:
        text = re.sub(pattern, replacement, text)
    return f"What `make demo` prints begins so:\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write the sample, or check it."""
    readme = ROOT / "README.md"
    page = readme.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    old, _, tail = rest.partition(END)
    new = sample()
    if "--check" in sys.argv:
        return int(old != new)
    readme.write_text(head + BEGIN + new + END + tail, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
