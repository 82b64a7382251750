"""The two engines: a fresh SQLite file, and a fresh database of a PostgreSQL that this suite starts."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
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
        programs, environment = found[-1], os.environ | {"LC_ALL": "C.UTF-8"}
        initdb = [str(programs / "initdb"), "-D", f"{folder}/data", "-U", "fleet", "-A", "trust", "-N"]
        initdb += ["-E", "UTF8"]
        subprocess.run(
            initdb, user=user, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        # It ends with this process, however that ends.
        server = ["setpriv", "--pdeathsig", "INT", str(programs / "postgres"), "-D", f"{folder}/data"]
        server += ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
        with (
            (Path(folder) / "log").open("wb") as log,
            subprocess.Popen(server, user=user, cwd=folder, env=environment, stderr=log) as process,
        ):
            try:
                _wait_for(programs / "pg_isready", folder, process)
                yield folder
            finally:
                process.send_signal(signal.SIGINT)


def _wait_for(pg_isready: Path, folder: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while subprocess.run([pg_isready, "-q", "-h", folder], check=False, timeout=10).returncode:
        if server.poll() is not None or time.monotonic() > end:
            pytest.fail((Path(folder) / "log").read_text())
        time.sleep(0.05)


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
