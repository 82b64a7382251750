"""The two engines: a fresh SQLite file, and a fresh database of a PostgreSQL that this suite starts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetaudit.history.place import StorePlace
from fleetaudit.history.store import Store, open_store
from tests.history.keep import database


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The directory of a running server's socket. The server refuses to run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = None
    if os.geteuid() == 0:
        user = next((it.pw_name for it in pwd.getpwall() if it.pw_name == "postgres"), "nobody")
    with tempfile.TemporaryDirectory(prefix="fleetaudit-pg-", dir="/tmp") as folder:
        if user:
            shutil.chown(folder, user)
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off -c shared_buffers=16MB"
        (quiet := Path(folder) / "pg_ctl.log").touch()
        if user:
            shutil.chown(quiet, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(found[-1] / program), *arguments]
            subprocess.run(
                command,
                user=user,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=60,
                cwd=folder,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )

        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "fleet", "-A", "trust", "-N", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-l", str(quiet), "-w", "-o", settings, "start")
        try:
            yield folder
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    """Where a new store may be made."""
    if request.param == "sqlite":
        return StorePlace(path=tmp_path / "history.sqlite3")
    return database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(place: StorePlace) -> Iterator[Store]:
    """A new store."""
    with open_store(place, create=True) as opened:
        yield opened
