from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import ReportError
from fleetaudit.journal import FILE, RECORD, Journal, RunRecord


def line(host: str, text: str = "") -> bytes:
    return json.dumps({"schema": "x", "host": {"name": host, "more": 1}, "text": text}).encode()


def test_lines_come_back_in_host_order(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    for host in ("web2", "db1", "web10"):
        journal.append(line(host), host)
    assert list(journal.lines_in_host_order()) == [line("db1"), line("web10"), line("web2")]
    journal.append(line("app"), "app")
    assert journal.hosts == {"app", "db1", "web10", "web2"}
    assert next(journal.lines_in_host_order()) == line("app")
    journal.close()
    journal.close()


def test_it_is_private(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        journal = Journal.create(tmp_path / "state" / "runs", "run1")
    finally:
        os.umask(previous)
    directories = [tmp_path / "state", tmp_path / "state" / "runs", tmp_path / "state" / "runs" / "run1"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in directories] == [0o700] * 3
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    journal.close()


def test_remove_leaves_nothing_but_what_others_put_there(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    journal.append(line("a"), "a")
    journal.remove()
    assert list(tmp_path.iterdir()) == []
    journal.close()


def test_a_later_line_of_a_host_replaces_the_earlier(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    for text in ("failed", "answered"):
        journal.append(line("a", text), "a")
    assert list(journal.lines_in_host_order()) == [line("a", "answered")]
    journal.close()
    again = Journal.open(tmp_path, "run1")
    assert list(again.lines_in_host_order()) == [line("a", "answered")]
    again.close()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=60), max_size=6),
    st.integers(0, 2**16),
)
def test_a_torn_file_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str], cut: int
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    journal = Journal.create(directory, "run1")
    lines = {host: line(host, text) for host, text in texts.items()}
    for host, data in lines.items():
        journal.append(data, host)
    journal.close()
    whole = journal.path.read_bytes()
    cut %= len(whole) + 1
    journal.path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")

    again = Journal.open(directory, "run1")
    expected = dict(list(lines.items())[:kept])
    assert again.hosts == set(expected)
    again.append(line("\U0010ffff new"), "\U0010ffff new")
    assert list(again.lines_in_host_order()) == [
        *(expected[host] for host in sorted(expected)),
        line("\U0010ffff new"),
    ]
    again.close()
    assert again.path.read_bytes().count(b"\n") == kept + 1


def test_a_damaged_line_is_located(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    journal.append(line("a"), "a")
    journal.append(b'{"host": 1}', "b")
    journal.append(line("c"), "c")
    journal.close()
    with pytest.raises(ReportError, match=rf"{journal.path}:2: not a line of a journal"):
        Journal.open(tmp_path, "run1")


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "/etc", ".hidden", "a\n", "x" * 200])
def test_a_run_id_is_a_plain_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ReportError, match="not a run id"):
        Journal.create(tmp_path, run_id)
    with pytest.raises(ReportError, match="not a run id"):
        Journal.open(tmp_path, run_id)


def test_a_run_is_not_begun_twice_nor_opened_unbegun(tmp_path: Path) -> None:
    Journal.create(tmp_path, "run1").close()
    with pytest.raises(ReportError, match=r"run1.*File exists"):
        Journal.create(tmp_path, "run1")
    with pytest.raises(ReportError, match=rf"{tmp_path}/run2/{FILE}.*No such file"):
        Journal.open(tmp_path, "run2")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="journal of the run"):
        Journal.create(tmp_path / "file" / "runs", "run1")


def test_a_line_with_a_newline_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    with pytest.raises(ValueError, match="newline"):
        journal.append(b"{}\n{}", "a")
    journal.close()


def test_it_knows_who_answered_also_when_it_is_opened_again(tmp_path: Path) -> None:
    def written(host: str, schema: str) -> bytes:
        return json.dumps({"schema": schema, "host": {"name": host}}).encode()

    journal = Journal.create(tmp_path, "run1")
    first = [("a", "outcome"), ("b", "snapshot"), ("c", "snapshot")]
    for host, kind in [*first, ("a", "snapshot"), ("c", "outcome")]:
        journal.append(written(host, f"fleetaudit.{kind}/1"), host, answered=kind == "snapshot")
    journal.append(written("d", "fleetaudit.snapshot/9"), "d", answered=False)
    assert journal.answered == {"a", "b"}
    journal.close()
    again = Journal.open(tmp_path, "run1")
    assert again.answered == {"a", "b"}
    assert again.hosts == {"a", "b", "c", "d"}
    again.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    opening = "Journal.open(pathlib.Path(sys.argv[1]), 'run1')"
    program = f"import pathlib, sys\nfrom fleetaudit.journal import Journal\n{opening}"
    command = [sys.executable, "-c", program, str(tmp_path)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert f"ReportError: the run is in use by another process: {journal.path}" in refused.stderr
    journal.close()
    subprocess.run(command, check=True)


def test_a_run_that_ends_while_another_waits_to_open_it_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(tmp_path, "run1")
    real = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        journal.remove()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ReportError, match="has ended meanwhile"):
        Journal.open(tmp_path, "run1")


RECORD_ONE = RunRecord("run1", "2026-11-22T10:00:00.000Z", "0.1.0", {"a": "x", "b\u2028": "y"})


def test_the_record_comes_back_and_goes_with_the_run(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run1")
    journal.write_record(RECORD_ONE)
    assert journal.read_record() == RECORD_ONE
    assert sorted(path.name for path in (tmp_path / "run1").iterdir()) == [FILE, RECORD]
    assert stat.S_IMODE((tmp_path / "run1" / RECORD).stat().st_mode) == 0o600
    journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"[]", b'{"id": 1}', b"\xff", b"[" * 100_000])
def test_a_record_that_is_none_is_located(tmp_path: Path, data: bytes) -> None:
    journal = Journal.create(tmp_path, "run1")
    path = tmp_path / "run1" / RECORD
    with pytest.raises(ReportError, match=rf"{path}: No such file"):
        journal.read_record()
    path.write_bytes(data)
    with pytest.raises(ReportError, match=rf"{path}: not the record of a run"):
        journal.read_record()
    journal.close()


# Runs in a process of its own: the limit on file size is the process's, and stands in for a full disk.
FULL_DISK = """
import pathlib, resource, signal, sys
from fleetaudit.errors import ReportError
from fleetaudit.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.create(pathlib.Path(sys.argv[1]), "run1")
journal.append(b'{"host": {"name": "a"}}', "a")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    journal.append(b'{"host": {"name": "b"}, "x": "' + b"x" * 1000 + b'"}', "b")
except ReportError as error:
    print(error)
journal.append(b'{"host": {"name": "c"}}', "c")
print(*journal.lines_in_host_order())
journal.close()
"""


def test_a_full_disk_is_said_and_spoils_nothing(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True, capture_output=True, text=True
    )
    said, lines = ran.stdout.splitlines()
    assert said == f"journal of the run {tmp_path}/run1/{FILE}: {os.strerror(errno.EFBIG)}"
    assert lines == str(b'{"host": {"name": "a"}}') + " " + str(b'{"host": {"name": "c"}}')
    kept = (tmp_path / "run1" / FILE).read_bytes()
    assert kept == b'{"host": {"name": "a"}}\n{"host": {"name": "c"}}\n'


def test_it_is_on_the_disk_in_batches_and_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real: Callable[[int], None] = os.fsync

    def counting(descriptor: int) -> None:
        calls.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    journal = Journal.create(tmp_path, "run1")
    for number in range(200):
        journal.append(line(f"h{number}"), f"h{number}")
    assert len(calls) == 200 // 64
    journal.sync()
    journal.close()
    assert len(calls) == 200 // 64 + 2
