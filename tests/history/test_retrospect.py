"""The HTML report of a run with a history says what changed, and says the same when it is made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetaudit.cli import main
from fleetaudit.history.place import StorePlace
from tests.build import SHELL, Wire, process, snapshot, socket

POLICY = "version: 1\nname: p\nrules:\n- {id: shells, severity: high, deny_owners: [{shell: true}]}\n"


def line(name: str, *ports: int) -> str:
    held = {80: process(), 81: process(SHELL, ppid=80)}
    wire: Wire = snapshot([socket(port, (80, 81), inode=port) for port in ports], held)
    return json.dumps(wire | {"host": {"name": name, "boot_id": name}}) + "\n"


@pytest.fixture
def store(place: StorePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("p.yaml").write_text(POLICY)
    return place.url.replace("+psycopg", "") or str(place.path)


def audit(number: int, lines: str, *options: str) -> str:
    Path("s.jsonl").write_text(lines)
    page = f"{number}.html"
    assert main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "-o", f"html={page}", *options]) in (0, 1)
    return Path(page).read_text()


def test_what_is_new_and_what_is_gone_and_how_it_went(store: str) -> None:
    kept = ("--store", store)
    first = audit(1, line("web1", 8080, 8081) + line("web2", 8080) + line("web4", 22), *kept)
    second = audit(2, line("web1", 8080, 9090) + line("web2") + line("web3", 8080), *kept)
    assert "Since the last run" not in first
    assert "<b>1 new</b> and <b>2 gone</b> violations since run " in second
    assert (
        "; 1 still there, 1 that this run could not judge again; 1 on hosts that it did not reach." in second
    )
    new = second[second.index("<h3>New</h3>") : second.index("<h3>Gone</h3>")]
    assert ("9090" in new, "8081" in new, "web3" in new) == (True, False, False)
    assert "Compliance, run by run, this one last: 0.0 %, 0.0 %." in second
    assert "Since the last run" not in audit(3, line("web1", 22))

    for number, name in ((1, "latest~1"), (2, "latest")):
        assert main(["report", name, *kept, "-q", "-o", "html=again.html"]) == 0
        assert Path("again.html").read_bytes() == Path(f"{number}.html").read_bytes()


def test_a_history_that_does_not_answer_costs_the_changes_and_not_the_report(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.db").write_bytes(b"this is no database" * 100)
    Path("s.jsonl").write_text(line("web1", 8080))
    arguments = ["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "-o", "html=r.html", "--store", "broken.db"]
    assert main(arguments) == 1
    assert "the reports do not say what changed" in capsys.readouterr().err
    assert "Since the last run" not in Path("r.html").read_text()
    assert store
