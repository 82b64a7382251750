"""The hosts of a fleet answer at once, and the first answers must not find a half-made decoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Decoding begins in many threads of a fresh process, which change places as often as they can.
PROGRAM = """
import sys, threading
from fleetaudit.snapshot import decode_line

lines = [b'{"schema":"fleetaudit.snapshot/1","host":{"name":"h"},"coverage":{"complete":true,"gaps":[]},'
         b'"sockets":[],"processes":{"1":{"ppid":0,"comm":"init"}}}',
         b'{"schema":"fleetaudit.outcome/1","host":{"name":"h"},"status":"timeout","detail":""}']
sys.setswitchinterval(1e-6)
together = threading.Barrier(6)

def work(number):
    together.wait()
    for _ in range(30):
        assert decode_line(lines[number % 2]).host == "h"

threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_answers_may_come_at_once() -> None:
    root = Path(__file__).parents[2]
    for _ in range(8):  # before decoders were made on import, one in two of these crashed
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=root, check=False, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b"")
