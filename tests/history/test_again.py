"""`fleetaudit report`: a run of the past reported again, byte for byte, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from fleetaudit.cli import main
from fleetaudit.history.lines import cut, joined
from fleetaudit.history.place import StorePlace
from fleetaudit.history.schema import CONTENTS, HOST_RUNS, JUDGEMENTS, RUNS
from fleetaudit.history.store import open_store
from fleetaudit.report import formats
from tests.build import NGINX, SHELL, Wire, process, snapshot, socket

FILES = {
    "policies/p.yaml": """
version: 1
name: p
extends: ../base/base.yaml
include: [../base/more]
rules:
- id: ports
  severity: medium
  title: Only what is meant
  controls: {"cis-debian12@1.1": ["2.1.22"]}
  tags: [web]
  listeners: {port: ["{{ app_port }}", 80]}
  allow_owners: [{exe: /usr/sbin/nginx, reason: the proxy, owner_team: web}]
""",
    "base/base.yaml": "version: 1\nname: base\nrules:\n"
    "- {id: shells, severity: high, deny_owners: [{shell: true}]}\n",
    "base/more/more.yaml": "version: 1\nname: more\nrules:\n"
    "- {id: off, tags: [slow], listeners: {port: 23}, expect: none}\n"
    "- {id: up, listeners: {port: 22}, expect: some}\n",
    "w.yaml": "version: 1\nwaivers:\n"
    "- {policy: p, rule: shells, hosts: web2, reason: known, approved_by: ann, expires: 2026-12-24}\n",
    "i.yaml": "all:\n  vars: {fleetaudit_fact: 1}\n  children:\n    web:\n      hosts:\n"
    "        web1: {}\n        web2: {}\n        old: {}\n        gone: {}\n        part: {}\n"
    "      vars: {app_port: 8080, policy_vars: [app_port]}\n",
}
NOW = "2026-11-22T12:00:00Z"


def hosts() -> list[Wire]:
    held = {80: process(), 81: process(SHELL, ppid=80), 90: process(NGINX, user="root", start_time=7)}
    leaky = snapshot([socket(8080, (80, 81), inode=5), socket(80, (90,), inode=6)], held)
    plain = snapshot([socket(80, (90,), inode=6)], {90: held[90]})
    part = snapshot([socket(80, (90,), inode=6)], {90: held[90]}, gaps=["not_root"])
    gone = {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": "gone"},
        "status": "unreachable",
        "detail": "no route \u202eto\0 it",
    }
    moments = {
        "received_at": "2026-11-22T11:00:00.000Z",
        "agent": {"version": "0.1.0", "mode": "walk", "wall_seconds": 0.125, "cpu_seconds": 1e-2},
    }
    named = {"web1": leaky, "web2": leaky, "part": part, "old": plain}
    found = [it | moments | {"host": {"name": name, "boot_id": name}} for name, it in named.items()]
    found[-1]["received_at"] = "2026-11-01T10:00:00Z"
    return [*found, gone]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with everything that a run can be judged by, and two runs' hosts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    Path("s.jsonl").write_text("".join(json.dumps(it) + "\n" for it in hosts()))
    Path("before.jsonl").write_text(json.dumps(hosts()[1]) + "\n")
    return tmp_path


def judge(folder: str, *options: str) -> int:
    arguments = ["evaluate", "s.jsonl", "-p", "policies", "-i", "i.yaml", "-q", "--store"]
    arguments += ["--waivers", "w.yaml", "--baseline", "before.jsonl", "--now", NOW, "--max-age", "48"]
    arguments += ["--skip-tags", "slow", "--require-coverage", "50", *options]
    return main([*arguments, *written(folder)])


def written(folder: str) -> list[str]:
    Path(folder).mkdir()
    return [word for name in sorted(formats()) for word in ("-o", f"{name}={folder}/{name}")]


def test_every_format_comes_back_byte_for_byte_though_all_that_it_was_made_of_is_gone(
    here: Path, place: StorePlace
) -> None:
    store = place.url.replace("+psycopg", "") or str(place.path)
    assert judge("then", "--include-pass", "--store", store) == 1
    for name in [*FILES, "s.jsonl", "before.jsonl"]:
        Path(name).unlink()
    assert main(["report", "latest", "--store", store, "-q", "--include-pass", *written("again")]) == 0
    before = {path.name: path.read_bytes() for path in Path("then").iterdir()}
    after = {path.name: path.read_bytes() for path in Path("again").iterdir()}
    assert set(before) >= set(formats())
    assert b"pid 81" in before["text"]
    assert b"waived" in before["text"]
    for name, data in before.items():
        assert after[name] == data, name
    assert main(["history", "export", "latest", "b.tar.gz", "--store", store]) == 0
    assert main(["verify", "b.tar.gz"]) == 0


def test_the_text_report_is_on_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("then") == 1
    assert main(["report", "latest"]) == 0
    assert capsys.readouterr().out == Path("then/text").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "latest", "-q"], "write what?"),
        (["report", "nosuch"], "no run 'nosuch' in the history"),
        (["report", "latest", "-o", "jsom=x"], "is not an output"),
        (["history", "export", "latest", "-"], "a bundle goes into a file"),
        (["history", "export", "latest", "policies"], "is a directory"),
        (["history", "export", "latest", "nowhere/b.tar.gz"], "is no directory"),
    ],
)
def test_what_cannot_be_meant(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert judge("then") == 1
    before = sorted(here.rglob("*"))
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert sorted(here.rglob("*")) == before


def test_hosts_that_where_left_out_are_counted_again(here: Path) -> None:
    assert judge("then", "--where", "kernel=6.*") in (1, 3)
    assert main(["report", "latest", "-q", *written("again")]) == 0
    assert Path("again/json").read_bytes() == Path("then/json").read_bytes()


def spoil(here: Path, kind: str) -> None:
    place = StorePlace(path=here / "state" / "fleetaudit" / "history.sqlite3")
    with open_store(place, create=False) as store, store.writing() as connection:
        changes = {
            "verdict": lambda: update(JUDGEMENTS).values(digest=JUDGEMENTS.c.id),
            "body": lambda: update(CONTENTS).values(body=b"no zlib"),
            "moments": lambda: update(HOST_RUNS).values(told='{"moments":[]}'),
            "told": lambda: update(HOST_RUNS).values(told="{"),
            "sha256": lambda: update(HOST_RUNS).values(snapshot_sha256=b"x" * 32),
            "inputs": lambda: update(RUNS).values(inputs=HOST_RUNS_BODY),
            "torn": lambda: update(RUNS).values(finished=False),
        }
        connection.execute(changes[kind]())


HOST_RUNS_BODY = HOST_RUNS.select().with_only_columns(HOST_RUNS.c.body).limit(1).scalar_subquery()


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("verdict", 3, "this one judges gone otherwise: report it with that version"),
        ("body", 3, "the history is damaged"),
        ("moments", 3, "the history is damaged"),
        ("told", 3, "the history is damaged"),
        ("sha256", 3, "the history is damaged"),
        ("inputs", 3, "the history is damaged: what a run was judged by"),
        ("torn", 2, "was cut short while it was stored"),
    ],
)
def test_what_is_not_as_it_was_is_not_written(
    here: Path, capsys: pytest.CaptureFixture[str], kind: str, code: int, message: str
) -> None:
    assert judge("then") == 1
    spoil(here, kind)
    name = json.loads(Path("then/json").read_text())["run"]["id"]
    assert main(["report", name, *written("again")]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(Path("again").iterdir()) == []


def test_snapshots_can_be_forgotten_and_findings_stay(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("then") == 1
    assert main(["history", "prune", "--snapshots-older-than", "0", "--dry-run"]) == 0
    assert main(["report", "latest", "-q", "-o", "json=kept.json"]) == 0
    assert main(["history", "prune", "--snapshots-older-than", "1"]) == 0
    assert main(["report", "latest", "-q", "-o", "json=kept.json"]) == 0
    assert main(["history", "prune", "--snapshots-older-than", "0"]) == 0
    capsys.readouterr()
    assert main(["report", "latest", "-q", "-o", "json=gone.json"]) == 2
    assert "are not kept any more" in capsys.readouterr().err
    assert not Path("gone.json").exists()
    assert main(["history", "show", "latest"]) == 0
    assert "shells" in capsys.readouterr().out
    assert main(["history", "listeners", "web1", "--at", "2026-11-22T12:00:00Z"]) == 0
    out = capsys.readouterr().out
    assert "dash" in out
    assert "pid" not in out


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["collected_at", "seen", "wall_seconds", 'x"seen":"~', "received_at", "~", "name"]
            ),
            some,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(values, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :\t")]), st.booleans())
def test_a_line_without_its_moments_and_with_them_again_is_the_line(
    value: object, separators: tuple[str, str], escaped: bool
) -> None:
    line = json.dumps(value, separators=separators, ensure_ascii=escaped).encode("utf-8", "backslashreplace")
    body, moments = cut(line)
    assert joined(body, moments) == line
    if moments:
        with pytest.raises(ValueError, match="missing"):
            joined(body, moments[1:])
    with pytest.raises(ValueError, match="left over"):
        joined(body, [*moments, "1"])
