"""Every command, every YAML and every Python example in the documentation is executed."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fleetaudit import schema, yamlio
from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.derive import derive
from fleetaudit.inputs import read_policies
from fleetaudit.inventory import load
from fleetaudit.judgement import utc_now
from fleetaudit.policy import waiver_files
from fleetaudit.policy.testing import run
from fleetaudit.snapshot import decode_line
from tests.build import policy

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    info: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, found["info"].strip(), found["body"])


BLOCKS = list(blocks())
YAML = [block for block in BLOCKS if block.info.startswith("yaml")]
SHELL = [block for block in BLOCKS if block.info == "sh"]
PYTHON = [block for block in BLOCKS if block.info in ("python", "python test")]
# By page and in order: what one command writes the next one may read.
COMMANDS: dict[str, list[str]] = {}
for _block in SHELL:
    _lines = [line for line in _block.body.replace("\\\n", " ").splitlines() if line.strip()]
    COMMANDS.setdefault(_block.page, []).extend(_lines)


def test_there_is_something_to_check_and_every_block_is_of_a_known_kind() -> None:
    assert len(YAML) > 5
    assert sum(map(len, COMMANDS.values())) > 30
    assert len(PYTHON) > 3
    kinds = {"sh", "text", "json", "yaml policy", "yaml rules", "yaml inventory", "yaml policy-test"}
    kinds |= {"python", "python test", "yaml waivers", "yaml config"}
    assert [str(block) for block in BLOCKS if block.info not in kinds] == []


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_examples_load(block: Block, tmp_path: Path) -> None:
    kind = block.info.removeprefix("yaml").strip()
    if "when_expr:" in block.body:
        pytest.importorskip("cel_expr_python", reason="the extra `cel` is not installed")
    if kind == "policy" and ("extends:" in block.body or "include:" in block.body):
        shutil.copytree(ROOT / "policies", tmp_path / "policies")
        (tmp_path / "example.yaml").write_text(block.body)
        assert read_policies([str(tmp_path / "example.yaml")])
    elif kind in ("policy", "rules"):
        assert policy(block.body).rules
    elif kind == "config":
        assert schema.problems(yamlio.parse(block.body.encode(), str(block)), "config") == ()
    elif kind == "waivers":
        assert waiver_files.load([yamlio.parse(block.body.encode(), str(block))], [], utc_now())
    elif kind == "inventory":
        path = tmp_path / "inventory.yaml"
        path.write_text(block.body)
        assert load([str(path)], home=str(tmp_path)).hosts
    else:
        document = yamlio.parse(block.body.encode(), str(block))
        assert isinstance(document.value, dict)
        subject = ROOT / "policies" / str(document.value["policy"])
        cases = run(document, policy(subject.read_text()), lambda line: derive(decode_line(line)))
        assert [case for case in cases if not case.passed] == []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory with the demo fleet's inventory and host keys in the usual places."""
    folder = tmp_path_factory.mktemp("home")
    with DemoFleet.start(folder / "fleet") as fleet:
        shutil.copy(fleet.inventory, folder / "inventory.yaml")
        (folder / ".ssh").mkdir(mode=0o700)
        shutil.copy(fleet.known_hosts, folder / ".ssh" / "known_hosts")
        shutil.copytree(ROOT / "policies", folder / "policies")
        yield folder


def surroundings(home: Path) -> dict[str, str]:
    return os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(home / "state"),
    }


def provide_snapshots(text: str, home: Path) -> None:
    """What an example before this one has written."""
    if "snapshots.jsonl" in text and not (home / "snapshots.jsonl").exists():
        collect = [sys.executable, "-m", "fleetaudit", "collect", "-i", "inventory.yaml"]
        collect += ["--output", "snapshots.jsonl"]
        subprocess.run(collect, cwd=home, env=surroundings(home), check=False, timeout=120)


@pytest.mark.parametrize("page", COMMANDS)
def test_commands_run(page: str, home: Path) -> None:
    for command in COMMANDS[page]:
        check_command(command, home)


def check_command(command: str, home: Path) -> None:
    if command.startswith("make "):
        # The targets themselves are what CI runs; here only that they exist.
        done = subprocess.run(
            ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return
    programs = home / "bin"
    programs.mkdir(exist_ok=True)
    wrapper = programs / "fleetaudit"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m fleetaudit "$@"\n')
    wrapper.chmod(0o755)
    environment = surroundings(home) | {"PATH": f"{programs}:{os.environ['PATH']}"}
    provide_snapshots(command, home)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=home,
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in (0, 1, 3), f"{command}: {done.returncode}\n{done.stderr.decode()}"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_examples_run(block: Block, home: Path) -> None:
    """A test by pytest, anything else as a script; a warning, such as of a file left open, is a failure."""
    provide_snapshots(block.body, home)
    script = home / "test_example.py"
    script.write_text(block.body)
    how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if block.info == "python test" else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *how, str(script)],
        cwd=home,
        env=surroundings(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_screens_are_drawn_from_what_a_terminal_shows(home: Path) -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        screens = importlib.import_module("screens")
    finally:
        sys.path.remove(str(ROOT / "docs"))
    command = ("listeners", "-i", "inventory.yaml", "--limit", "web1")
    text = screens.on_terminal(command, home)
    assert "tcp 0.0.0.0:8080" in text
    for name, picture in {
        "new": screens.drawn(command, text, 30),
        **{path.name: path.read_text() for path in (ROOT / "docs/screens").glob("*.svg")},
    }.items():
        root = ElementTree.fromstring(picture)  # noqa: S314  (our own)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", picture), name  # nothing is loaded
        assert "0.0.0.0:8080" in picture or "fleetaudit" in picture
    assert {path.stem for path in (ROOT / "docs/screens").glob("*.svg")} == set(screens.SCREENS)
