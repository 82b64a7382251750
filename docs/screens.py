"""Draw the screens of the documentation from real runs over the demo fleet: `python docs/screens.py`.

Each command runs on a terminal of its own, so that it is drawn as a person sees it. What differs from run to
run (ids, times, pids, paths) is made the same. The pictures need no network: no font is loaded.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from fleetaudit.demo.fleet import DemoFleet

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 96
# name -> (lines that are shown, what is typed behind `fleetaudit`)
SCREENS: dict[str, tuple[int, tuple[str, ...]]] = {
    "audit": (34, ("evaluate", "snapshots.jsonl", "-p", "policies")),
    "listeners": (30, ("listeners", "-i", "inventory.yaml", "--limit", "web1,db1,batch1")),
    "explain": (
        40,
        ("policy", "explain", "web1", "no-shell-owner", "--from", "snapshots.jsonl", "-p", "policies"),
    ),
}
VARIES = (
    (r"run \d{8}T\d{6}Z-[0-9a-f]{8}", "run 20261123T100000Z-5f3a9c01"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-23T10:00:00.000Z"),
    (r"/\S*/bin/python3\.\d+", "/usr/bin/python3.11"),
    (r"python3\.\d+", "python3.11"),
    (r"SHA256:\S+", "SHA256:…"),
    (r"port \d{4,5}: Connection", "port 22: Connection"),
)
_DARK = [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)]
_DARK += [(88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)]
_BRIGHT = [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65)]
_BRIGHT += [(121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)]
THEME = TerminalTheme((13, 17, 23), (230, 237, 243), _DARK, _BRIGHT)


def on_terminal(command: Sequence[str], folder: Path) -> str:
    """What a command writes to a terminal of its own, escapes and all."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "HOME": str(folder)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-m", "fleetaudit", *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    ):
        os.close(follower)
        pieces = []
        try:
            while piece := os.read(leader, 65536):
                pieces.append(piece)
        except OSError:
            pass  # so Linux says that nobody has the terminal open any more
    os.close(leader)
    text = b"".join(pieces).decode().replace("\r\n", "\n")
    for pattern, replacement in VARIES:
        text = re.sub(pattern, replacement, text)
    return text


def drawn(command: Sequence[str], text: str, lines: int) -> str:
    """The picture of the first lines, below what was typed."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text(f"$ fleetaudit {' '.join(command)}", style="bold"))
        shown = text.splitlines()
        more = ["…"] if len(shown) > lines else []
        console.print(Text.from_ansi("\n".join([*shown[:lines], *more])))
        form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        return console.export_svg(title="fleetaudit", theme=THEME, code_format=form, unique_id=command[0])


def main() -> int:
    """Draw every screen into docs/screens/, or into the folder that is given."""
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/screens"
    with TemporaryDirectory() as name, DemoFleet.start(Path(name) / "fleet") as fleet:
        folder = Path(name)
        (folder / ".ssh").mkdir(mode=0o700)
        shutil.copy(fleet.known_hosts, folder / ".ssh" / "known_hosts")
        shutil.copy(fleet.inventory, folder / "inventory.yaml")
        shutil.copytree(fleet.policies, folder / "policies")
        on_terminal(["collect", "-i", "inventory.yaml", "--output", "snapshots.jsonl"], folder)
        for screen, (lines, command) in SCREENS.items():
            picture = drawn(command, on_terminal(command, folder), lines)
            (to / f"{screen}.svg").write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
