"""Build the wheel, install it into a clean environment and use it: `make wheel-smoke`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    ["--version"],
    ["schema", "snapshot"],
    ["agent"],
    ["collect", "--local", "--output", "-"],
    ["policy", "test", str(ROOT / "policies")],
    ["policy", "show", "pack:cis/ubuntu-24-04"],
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)], check=True)
        (wheel,) = out.glob("*.whl")
        venv.create(out / "venv", with_pip=True)
        subprocess.run([out / "venv/bin/pip", "install", "--quiet", str(wheel)], check=True)
        for command in COMMANDS:
            done = subprocess.run(
                [out / "venv/bin/fleetaudit", *command], cwd=folder, capture_output=True, check=False
            )
            if done.returncode != 0 or not done.stdout:
                sys.stderr.write(f"{command}: exit {done.returncode}\n{done.stderr.decode()}\n")
                return 1
        sys.stderr.write(f"{wheel.name}: {len(COMMANDS)} commands work from a clean environment\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
