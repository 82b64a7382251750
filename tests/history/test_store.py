"""Runs in a store, on both engines: what is kept, how little an unchanged host costs, what breaks."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from fleetaudit.errors import ConfigError, StoreError
from fleetaudit.history.migrating import downgrade, upgrade
from fleetaudit.history.past import listening, looks
from fleetaudit.history.place import StorePlace, masked, store_place
from fleetaudit.history.pruning import prune
from fleetaudit.history.reading import find_run, findings_of, hosts_of, normals, runs
from fleetaudit.history.schema import CONTENTS, HOST_RUNS, JUDGEMENTS, METADATA, RUNS
from fleetaudit.history.store import HEAD, VERSION_TABLE, Store, open_store
from tests.build import NGINX, SHELL, process, socket
from tests.history.keep import database, failed, host, keep

LEAKY = host("web1", [socket(8080, (80, 81))], {80: process(), 81: process(SHELL, ppid=80)})
PLAIN = host("web2", [socket(80, (9,))], {9: process(NGINX, user="root")})


def test_a_run_is_kept_and_read_back(store: Store) -> None:
    assert keep(store, "r1", [LEAKY, PLAIN, failed("web3")]).failure is None
    with store.reading() as connection:
        (run,) = runs(connection)
        assert (run.run_id, run.finished, run.complete, run.exit_code) == ("r1", True, True, 1)
        assert run.summary["hosts"]["targeted"] == 3
        hosts = hosts_of(connection, run)
        assert [(it.name, it.status, it.lasting is None) for it in hosts] == [
            ("web1", "ok", False),
            ("web2", "ok", False),
            ("web3", "unreachable", True),
        ]
        (finding,) = findings_of(connection, run)
        assert (finding.host, finding.rule, finding.endpoint) == ("web1", "shells", "tcp 0.0.0.0:8080")
        assert "pid" not in finding.reason
        assert "dash" in finding.reason
        lasting = normals(connection, {hosts[0].lasting or 0})
        (normal,) = lasting.values()
        assert [it.exe for it in normal.holders] == ["/usr/bin/dash", "/usr/bin/python3.11"]
        (look,) = looks(connection, "web1")
        (found,) = listening(connection, look, 8080)
        assert sorted(held.pid for _, held in found.held) == [80, 81]


def test_an_unchanged_host_costs_one_row(store: Store) -> None:
    def count() -> list[int]:
        with store.reading() as connection:
            return [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (HOST_RUNS, CONTENTS, JUDGEMENTS)
            ]

    keep(store, "r1", [LEAKY, PLAIN])
    first = count()
    keep(store, "r2", [LEAKY, PLAIN])
    assert [after - before for before, after in zip(first, count(), strict=True)] == [2, 0, 0]


def test_a_restart_changes_only_what_does_not_last(store: Store) -> None:
    again = host("web2", [socket(80, (900,), inode=77)], {900: process(NGINX, user="root", start_time=9)})
    keep(store, "r1", [PLAIN])
    keep(store, "r2", [again])
    with store.reading() as connection:
        (before,) = hosts_of(connection, find_run(connection, "r1"))
        (after,) = hosts_of(connection, find_run(connection, "r2"))
    assert before.lasting == after.lasting
    assert before.judgement == after.judgement
    assert before.body != after.body


def test_runs_are_found_by_beginning_and_from_the_latest(store: Store) -> None:
    for number in (1, 2, 3):
        keep(store, f"run-{number}", [PLAIN], started=f"2026-11-2{number}T10:00:00.000Z")
    keep(store, "torn", [PLAIN], finish=False, started="2026-11-25T10:00:00.000Z")
    with store.reading() as connection:
        assert find_run(connection, "latest").run_id == "run-3"
        assert find_run(connection, "latest~2").run_id == "run-1"
        assert find_run(connection, "run-2").run_id == "run-2"
        assert not find_run(connection, "t").finished
        with pytest.raises(ConfigError, match="several runs begin with 'run-': run-3, run-2, run-1"):
            find_run(connection, "run-")
        with pytest.raises(ConfigError, match=r"no run 'run-2%' in the history .the latest: torn, run-3"):
            find_run(connection, "run-2%")
        with pytest.raises(ConfigError, match="no run 'latest~3'"):
            find_run(connection, "latest~3")


def test_a_run_that_was_cut_short_is_replaced_and_a_whole_one_is_not(store: Store) -> None:
    keep(store, "r1", [PLAIN, LEAKY], finish=False)
    assert keep(store, "r1", [PLAIN]).failure is None
    with store.reading() as connection:
        (run,) = runs(connection)
        assert [it.name for it in hosts_of(connection, run)] == ["web2"]
    assert "has a run r1 already" in str(keep(store, "r1", [LEAKY]).failure)


def test_runs_recorded_side_by_side_share_what_is_equal(place: StorePlace) -> None:
    recorded = []

    def record(name: str) -> None:
        with open_store(place, create=True) as store:
            recorded.append(keep(store, name, [LEAKY, PLAIN], batch=1).failure)

    threads = [threading.Thread(target=record, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert recorded == [None] * 4
    with open_store(place, create=False) as store, store.reading() as connection:
        assert {run.run_id for run in runs(connection)} == {"r0", "r1", "r2", "r3"}
        assert connection.execute(select(func.count()).select_from(CONTENTS)).scalar_one() == 4


def test_the_schema_goes_back_and_forth_and_is_what_the_code_says(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.writing() as connection:
        downgrade(connection, "base")
        tables = connection.dialect.get_table_names(connection)
        assert set(tables) == {VERSION_TABLE}
        upgrade(connection)
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, METADATA) == []
    assert keep(store, "r1", [PLAIN]).failure is None


def test_a_store_of_a_newer_version_is_left_alone(place: StorePlace) -> None:
    with open_store(place, create=True) as store, store.writing() as connection:
        connection.execute(text("UPDATE fleetaudit_schema SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"written by a newer fleetaudit .schema 9999"):
        open_store(place, create=True)


def test_a_database_of_something_else_is_left_alone(place: StorePlace) -> None:
    with open_store(place, create=True) as store, store.writing() as connection:
        downgrade(connection, "base")
        connection.execute(text("DROP TABLE fleetaudit_schema"))
        connection.execute(text("CREATE TABLE runs (id INTEGER)"))
    with pytest.raises(StoreError, match=r"that database is something else's"):
        open_store(place, create=True)


def test_a_failure_in_the_middle_ends_the_recording_and_not_the_run(store: Store) -> None:
    def spoil(number: int) -> None:
        if number == 2:
            with store.writing() as connection:
                connection.execute(text("DROP TABLE host_runs"))

    recorder = keep(store, "r1", [PLAIN, LEAKY, failed("web3")], batch=1, between=spoil)
    assert recorder.failure is not None
    assert "host_runs" in str(recorder.failure)


def test_names_that_no_database_likes(store: Store) -> None:
    odd = "a'; DROP TABLE hosts; --\t\\N\N{SNOWMAN}"
    assert keep(store, "r1", [host(odd, [], {}), failed("web3", "nul \0 and \u202e")]).failure is None
    with store.reading() as connection:
        found = hosts_of(connection, find_run(connection, "r1"))
    assert {it.name: it.detail for it in found} == {odd: "", "web3": "nul \\u0000 and \u202e"}


# ---------------------------------------------------------------- PostgreSQL alone


def test_a_server_that_goes_away_ends_the_recording_and_not_the_run(postgres: str) -> None:
    import psycopg

    place = database(postgres)
    name = place.url.partition("@/")[2].partition("?")[0]

    def drop(number: int) -> None:
        if number == 2:
            with psycopg.connect(host=postgres, user="fleet", dbname="postgres", autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    with open_store(place, create=True) as store:
        recorder = keep(store, "r1", [PLAIN, LEAKY, failed("web3")], batch=1, between=drop)
    assert f'database "{name}" does not exist' in str(recorder.failure)


def test_a_connection_cut_in_a_transaction_leaves_nothing_of_it(postgres: str) -> None:
    place = database(postgres)
    with open_store(place, create=True) as store:
        keep(store, "r1", [PLAIN])

        def torn() -> None:
            with store.writing() as connection:
                connection.execute(text("DELETE FROM host_runs"))
                (own,) = connection.execute(text("SELECT pg_backend_pid()")).one()
                with store.reading() as admin:
                    admin.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": own})
                connection.execute(text("DELETE FROM runs"))

        with pytest.raises(StoreError, match="terminating connection"):
            torn()
        with store.reading() as connection:
            assert [it.name for it in hosts_of(connection, find_run(connection, "r1"))] == ["web2"]


def test_a_server_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    place = store_place(f"postgresql://ann:s3cret@/x?host={tmp_path}", tmp_path)
    with pytest.raises(StoreError, match=r"^history postgresql://ann:\*\*\*@/x.*connection") as told:
        open_store(place, create=True)
    assert "s3cret" not in str(told.value)


# ---------------------------------------------------------------- SQLite alone


def file_at(path: Path) -> StorePlace:
    return StorePlace(path=path)


def test_only_its_user_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite3"
    with open_store(file_at(path), create=True) as store:
        keep(store, "r1", [PLAIN])
        assert {it.stat().st_mode & 0o777 for it in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_killed_writer_leaves_a_store_that_opens(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    path = tmp_path / "h.db"
    code = (
        "import sys, time; from pathlib import Path; from fleetaudit.history.place import StorePlace\n"
        "from fleetaudit.history.store import open_store\n"
        "from tests.history.keep import host, keep\n"
        "def between(n):\n"
        "    if n == 4:\n"
        "        with store.writing() as c:\n"
        "            c.exec_driver_sql('DELETE FROM host_runs'); print('in it', flush=True); time.sleep(60)\n"
        "store = open_store(StorePlace(path=Path(sys.argv[1])), create=True)\n"
        "keep(store, 'r1', [host(f'h{n}', [], {}) for n in range(9)], batch=1, between=between)\n"
    )
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=root, env=os.environ
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"in it\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    with open_store(file_at(path), create=False) as store:
        with store.reading() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
            (run,) = runs(connection)
            assert not run.finished
            assert [it.name for it in hosts_of(connection, run)] == ["h0", "h1", "h2", "h3"]
        assert keep(store, "r1", [PLAIN]).failure is None


@pytest.mark.parametrize("kept", [0, 30, 4096, 20_000])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "h.db"
    with open_store(file_at(path), create=True) as store:
        keep(store, "r1", [PLAIN, LEAKY])
    os.truncate(path, kept)
    if not kept:  # an empty file is a store that is not begun yet
        open_store(file_at(path), create=True).close()
        return

    def read() -> None:
        with open_store(file_at(path), create=False) as store, store.reading() as connection:
            for table in (HOST_RUNS, CONTENTS, RUNS):
                connection.execute(select(table)).all()

    with pytest.raises(StoreError, match=f"history {path}: .*(no history|damaged|failing)"):
        read()


def test_a_locked_store_is_said_to_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    open_store(file_at(path), create=True).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with open_store(file_at(path), create=True, patience=0.05) as store:
        failure = keep(store, "r1", [PLAIN]).failure
    holder.close()
    assert "another process has been writing to it for too long" in str(failure)


def test_a_full_disk_is_said_and_tears_nothing(tmp_path: Path) -> None:
    with open_store(file_at(tmp_path / "h.db"), create=True) as store:
        keep(store, "r1", [PLAIN])
    code = (
        "import sys; from pathlib import Path; from fleetaudit.history.place import StorePlace\n"
        "from fleetaudit.history.store import open_store\n"
        "from tests.history.keep import host, keep\n"
        "from tests.build import process, socket\n"
        "store = open_store(StorePlace(path=Path(sys.argv[1])), create=True)\n"
        "import random; r = random.Random(1)\n"
        "def one(n): return host(f'h{n}', [socket(p, (p,)) for p in range(1, 60)],"
        " {p: process('/' + r.randbytes(99).hex()) for p in range(1, 60)})\n"
        "print(keep(store, 'r2', map(one, range(200)), batch=20).failure)\n"
    )
    inner = f"mount -t tmpfs -o size=400k none {tmp_path}/full && cp {tmp_path}/h.db {tmp_path}/full/ && "
    inner += f'exec {sys.executable} -c "$0" {tmp_path}/full/h.db; '
    (tmp_path / "full").mkdir()
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inner, code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "the disk is full" in done.stdout, done.stderr


# ---------------------------------------------------------------- where


def test_places(tmp_path: Path) -> None:
    assert store_place("", tmp_path).path == tmp_path / "history.sqlite3"
    assert store_place("./x", tmp_path).path == Path("x")
    assert store_place("sqlite:////var/h.db", tmp_path).path == Path("/var/h.db")
    url = store_place("postgres://ann:s3cret@db/x?password=more", tmp_path)
    assert url.url == "postgresql+psycopg://ann:s3cret@db/x?password=more"
    assert url.shown == "postgresql://ann:***@db/x?password=***"
    assert masked("postgresql://a:p@ss@h/db") == "postgresql://a:***@h/db"
    with pytest.raises(ConfigError, match="--store web: is that a file"):
        store_place("web", tmp_path)
    with pytest.raises(ConfigError, match=r"--store mysql://u:\*\*\*@h/d: no such kind of store"):
        store_place("mysql://u:secret@h/d", tmp_path)
    with pytest.raises(ConfigError, match="is a directory"):
        store_place(str(tmp_path), tmp_path)


def test_a_run_before_that_is_deleted_meanwhile_takes_nothing_along(store: Store) -> None:
    """An unchanged host's content is looked for where the run before has it; it may be gone by then."""

    def delete_first(number: int) -> None:
        with store.reading() as connection:
            gone = [run.key for run in runs(connection) if run.run_id == "r1"]
        if number == 1:
            prune(store, gone)

    keep(store, "r1", [PLAIN, LEAKY])
    with store.reading() as connection:
        before = [it.lasting for it in hosts_of(connection, find_run(connection, "r1"))]
        found = normals(connection, {key for key in before if key})
    assert keep(store, "r2", [PLAIN, LEAKY], between=delete_first).failure is None
    with store.reading() as connection:
        after = [it.lasting for it in hosts_of(connection, find_run(connection, "r2"))]
        again = normals(connection, {key for key in after if key})
        assert sorted(again.values(), key=repr) == sorted(found.values(), key=repr)
        (look,) = looks(connection, "web2")
        assert [it.words for it in listening(connection, look, None)] == ["tcp 0.0.0.0:80"]


def test_stores_of_the_first_schema_are_brought_up_to_date_and_back(place: StorePlace) -> None:
    with open_store(place, create=True) as store:
        keep(store, "r1", [PLAIN, LEAKY, failed("web3")])
        with store.writing() as connection:
            downgrade(connection, "0001")
            connection.execute(text("UPDATE host_runs SET volatile = lasting"))  # whatever it was
    for name in ("r2", "r3"):
        with open_store(place, create=False) as store, store.reading() as connection:
            run = find_run(connection, "r1")
            assert [it.status for it in hosts_of(connection, run)] == ["ok", "ok", "unreachable"]
            assert [it.rule for it in findings_of(connection, run)] == ["shells"]
            (look,) = looks(connection, "web1") if name == "r2" else looks(connection, "web1")[:1]
            (found,) = listening(connection, look, 8080)
            assert (found.held, len(found.holders)) == ((), 2)  # who, but not as which process
        with open_store(place, create=False) as store:
            assert keep(store, name, [PLAIN, LEAKY]).failure is None
