"""Every format over every case, byte for byte. FLEETAUDIT_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.report import RenderOptions, formats, parts
from tests.report.cases import CASES, WIDE, render

GOLDEN = Path(__file__).parent / "golden"
# `many` is for those that fold; its JSON would be megabytes.
FOLDING = ("text", "markdown", "github", "prometheus")
# Bytes that are those of one version of a library are read back instead.
BINARY = ("xlsx", "parquet", "parquet-listeners")
FORMATS = [
    (case, name)
    for case in CASES
    for name in formats()
    if name not in BINARY and (case != "many" or name in FOLDING)
]


def agrees(path: Path, data: bytes) -> None:
    if os.environ.get("FLEETAUDIT_UPDATE_GOLDEN"):
        path.write_bytes(data)
    assert data == path.read_bytes(), f"{path.name} differs; FLEETAUDIT_UPDATE_GOLDEN=1 accepts what there is"


@pytest.mark.parametrize(("case", "name"), FORMATS)
def test_bytes(case: str, name: str) -> None:
    for part, made in enumerate(parts(name, RenderOptions())):
        agrees(GOLDEN / f"{case}.{name}{made.suffix}", render(name, CASES[case](), part=part))


@pytest.mark.parametrize("case", ["verdicts", "many"])
def test_wide_coloured_text_with_passes(case: str) -> None:
    agrees(GOLDEN / f"{case}.wide.text", render("text", CASES[case](), WIDE))


def test_no_golden_file_is_left_over() -> None:
    expected = {
        f"{case}.{name}{made.suffix}" for case, name in FORMATS for made in parts(name, RenderOptions())
    }
    assert {path.name for path in GOLDEN.iterdir()} == expected | {"verdicts.wide.text", "many.wide.text"}


def test_same_bytes_under_any_hash_seed() -> None:
    script = (
        "import hashlib; from tests.report.cases import CASES, render\n"
        "from fleetaudit.report import formats\n"
        "for case in CASES:\n"
        "    for name in formats():\n"
        "        if case == 'many' and name not in ('text', 'markdown', 'github'):\n"
        "            continue\n"
        "        print(hashlib.sha256(render(name, CASES[case]())).hexdigest())\n"
    )
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("0", "4242")
    }
    assert len(seen) == 1
