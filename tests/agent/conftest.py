from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.agent.looking import PRELUDE, Start


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(code: str, *args: str, prefix: Sequence[str] = ()) -> Any:
        program = [*prefix, sys.executable, "-I", "-c", PRELUDE + code, *args]
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the program ended before it was ready"
        return json.loads(line)

    yield begin
    for process in running:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait(timeout=20)
