"""Manifests, signatures and bundles: made by real runs, signed by a real ssh-keygen, and tampered with."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetaudit import schema
from fleetaudit.cli import main
from fleetaudit.cli.evidence import Evidence, proof_of
from fleetaudit.evidence.chain import Chained, check_chain, check_gap
from fleetaudit.evidence.checking import State, exit_code
from fleetaudit.evidence.manifest import Link, json_schema
from fleetaudit.judges import appoint
from tests.build import SHELL, Wire, process, snapshot, socket
from tests.report.cases import RUN

POLICY = "version: 1\nname: p\nrules:\n- {id: shells, severity: high, deny_owners: [{shell: true}]}\n"
GONE = {
    "schema": "fleetaudit.outcome/1",
    "host": {"name": "gone"},
    "status": "unreachable",
    "detail": "no route",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what a run needs, and a key that signs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    Path("p.yaml").write_text(POLICY)
    Path("out").mkdir()
    for name in ("key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name, "-C", ""], check=True)
    Path("allowed").write_text(f"ann@example {Path('key.pub').read_text()}")
    save("web1", "web2")
    return tmp_path


def save(*names: str) -> None:
    held = {80: process(), 81: process(SHELL, ppid=80)}
    hosts: list[Wire] = [
        snapshot([socket(8080, (80, 81))], held) | {"host": {"name": name, "boot_id": "b"}} for name in names
    ]
    Path("s.jsonl").write_text("".join(json.dumps(it) + "\n" for it in [*hosts, GONE]))


def judge(*options: str) -> int:
    arguments = ["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "--manifest", "out/m.json"]
    return main([*arguments, "-o", "json=out/r.json", "-o", "csv=out/r.csv", *options])


def verify(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """The exit code, and each state by what was checked and its name."""
    capsys.readouterr()
    code = main(["verify", "--format", "json", *arguments])
    rows = map(json.loads, capsys.readouterr().out.splitlines())
    return code, {f"{row['what']} {row['name']}": row["state"] for row in rows}


def test_a_run_is_proved_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--sign", "key") == 1
    manifest = json.loads(Path("out/m.json").read_text())
    jsonschema.Draft202012Validator(schema.load("manifest")).validate(manifest)
    assert manifest["run"]["id"] == json.loads(Path("out/r.json").read_text())["run"]["id"]
    assert [(it["host"], it["status"]) for it in manifest["hosts"]] == [
        ("gone", "unreachable"),
        ("web1", "ok"),
        ("web2", "ok"),
    ]
    code, found = verify(
        capsys, "out/m.json", "--allowed-signers", "allowed", "--snapshots", "s.jsonl", "--inputs"
    )
    found.pop(f"chain {manifest['run']['id']}")
    assert code == 0
    assert found == {
        "signature manifest": "intact",
        "report r.json": "intact",
        "report r.csv": "intact",
        "report r.csv.meta.json": "intact",
        "policy file p.yaml": "intact",
        "snapshots 3 of 3 hosts": "intact",
    }


def test_the_published_schema_is_the_one_that_validates() -> None:
    assert schema.load("manifest") == json_schema()


@pytest.mark.parametrize(
    ("options", "state", "code"),
    [
        ((), "unchecked", 0),
        (("--allowed-signers", "allowed"), "intact", 0),
        (("--allowed-signers", "allowed", "--signer", "ann@example"), "intact", 0),
        (("--allowed-signers", "allowed", "--signer", "bob@example"), "changed", 1),
        (("--allowed-signers", "nobody"), "changed", 1),
    ],
)
def test_whose_signature_it_is(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], state: str, code: int
) -> None:
    Path("nobody").write_text(f"eve@example {Path('other.pub').read_text()}")
    assert judge("--sign", "key") == 1
    assert verify(capsys, "out/m.json", *options)[0] == code
    assert verify(capsys, "out/m.json", *options)[1]["signature manifest"] == state


def test_signatures_that_are_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def signature(*options: str) -> tuple[int, str]:
        code, found = verify(capsys, "out/m.json", *options)
        return code, found["signature manifest"]

    allowed = ("--allowed-signers", "allowed")
    assert judge() == 1
    assert signature() == (0, "unchecked")
    assert signature(*allowed) == (1, "missing")
    assert judge("--sign", "other") == 1
    assert signature(*allowed) == (1, "changed")
    # Signed by the right key, for something else.
    Path("out/m.json.sig").unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", "key", "out/m.json"], check=True)
    assert signature(*allowed) == (1, "changed")
    assert signature() == (1, "changed")
    # A manifest without a signature never keeps that of the one before.
    assert judge("--sign", "key") == 1
    assert judge() == 1
    assert not Path("out/m.json.sig").exists()


def test_a_key_that_only_the_agent_holds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(here / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not Path(path).exists() and agent.poll() is None:
            os.sched_yield()
        os.environ["SSH_AUTH_SOCK"] = path
        subprocess.run(["ssh-add", "-q", "key"], check=True)
        Path("key").unlink()
        assert judge("--sign", "key.pub") == 1
    finally:
        os.environ.pop("SSH_AUTH_SOCK", None)
        agent.kill()
        agent.wait()
    code, found = verify(capsys, "out/m.json", "--allowed-signers", "allowed")
    assert (code, found["signature manifest"]) == (0, "intact")


def test_a_key_that_does_not_sign_costs_no_report_and_no_pass(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("s.jsonl").write_text(json.dumps(snapshot()) + "\n")
    Path("junk").write_text("no key")
    assert judge("--sign", "junk") == 3
    assert "error: --sign junk: " in capsys.readouterr().err
    assert Path("out/r.json").exists()
    assert Path("out/m.json").exists()
    assert not Path("out/m.json.sig").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sign", "nowhere"), "--sign nowhere: no such file"),
        (("--manifest", "p.yaml"), "p.yaml: not a manifest"),
        (("--manifest", "out/r.json"), "two outputs go to"),
        (("-o", "jsonl=out/m.json.sig"), "two outputs go to"),
        (("--manifest", "nowhere/m.json"), "is no directory"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert judge(*options) == 2
    assert message in capsys.readouterr().err
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("refusal", ["unknown option -- Y", "invalid option -- 'Y'", None])
def test_a_signature_that_cannot_be_checked_is_called_neither_good_nor_bad(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    """An ssh-keygen that is too old, or none at all: the rest is checked, and the exit code is no 0."""
    assert judge("--sign", "key") == 1
    Path("bin").mkdir()
    if refusal is not None:
        Path("bin/ssh-keygen").write_text(f'#!/bin/sh\necho "{refusal}" >&2\necho "usage: x" >&2\nexit 1\n')
        Path("bin/ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(here / "bin"))
    for options in ((), ("--allowed-signers", "allowed"), ("--allowed-signers", "allowed", "--signer", "x")):
        code, found = verify(capsys, "out/m.json", *options)
        assert (code, found["signature manifest"], found["report r.json"]) == (3, "unchecked", "intact")
    capsys.readouterr()
    assert judge("--sign", "key") == 1
    assert "need ssh-keygen of OpenSSH 8.2 or later" in capsys.readouterr().err


def test_a_file_of_signers_that_is_not_there_is_no_fault_of_a_signature(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge("--sign", "key") == 1
    for path in ("nowhere", "out"):
        assert main(["verify", "out/m.json", "--allowed-signers", path]) == 2
        assert f"--allowed-signers {path}: no such file" in capsys.readouterr().err


def test_a_pipe_in_place_of_a_signature_is_not_waited_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge() == 1
    os.mkfifo("out/m.json.sig")
    assert main(["verify", "out/m.json"]) == 2
    assert "out/m.json.sig: no plain file" in capsys.readouterr().err


def test_what_nobody_asked_for_is_said_to_be_unchecked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge() == 1
    code, found = verify(capsys, "out/m.json")
    assert (code, found["snapshots 3 hosts"]) == (0, "unchecked")


def test_sign_alone_signs_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "--sign", "key"]) == 2
    assert "sign what?" in capsys.readouterr().err


def test_runs_are_a_chain(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each follows the manifest whose place it takes, or the history's last run."""
    for number, options in enumerate([(), (), ("--store",), ("--store",)]):
        assert judge(*options) == 1
        shutil.copy("out/m.json", f"out/{number}.json")
    manifests = [json.loads(Path(f"out/{number}.json").read_text()) for number in range(4)]
    assert [it["previous"] and it["previous"]["run"] for it in manifests] == [
        None,
        *(it["run"]["id"] for it in manifests[:3]),
    ]
    chains = {f"chain {it['run']['id']}": "intact" for it in manifests[1:]}
    found = verify(capsys, *(f"out/{number}.json" for number in (2, 0, 3, 1)))[1]
    assert {what: state for what, state in found.items() if what in chains} == chains
    text = Path("out/2.json").read_text()
    Path("out/2.json").write_text(text.replace('"exit_code": 1', '"exit_code": 0'))
    code, found = verify(capsys, "out/2.json", "out/3.json")
    assert (code, found[f"chain {manifests[3]['run']['id']}"]) == (1, "changed")
    code, found = verify(capsys, "out/3.json")
    assert code == 0
    assert found[f"chain {manifests[3]['run']['id']}"] == "unchecked"


def judge_alone(copy: str, *options: str) -> str:
    """A run that writes a manifest and nothing else. Returns its id."""
    assert main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "--manifest", "out/m.json", *options]) == 1
    shutil.copy("out/m.json", copy)
    return str(json.loads(Path(copy).read_text())["run"]["id"])


def test_a_run_that_was_left_out_or_made_twice_shows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [judge_alone(f"out/{number}.json") for number in range(3)]
    assert verify(capsys, "out/2.json", "out/0.json", "out/1.json")[0] == 0
    code, found = verify(capsys, "out/0.json", "out/2.json")
    assert (code, found[f"order {ids[0]}"], found[f"order {ids[2]}"]) == (3, "unchecked", "unchecked")
    shutil.copy("out/1.json", "out/m.json")
    twin = judge_alone("out/twin.json")
    code, found = verify(capsys, *(f"out/{name}.json" for name in ("0", "1", "2", "twin")))
    assert (code, found[f"chain {ids[2]}"], found[f"chain {twin}"]) == (1, "changed", "changed")
    assert found[f"chain {ids[1]}"] == "intact"


def test_a_history_knows_its_chain(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run that is in the middle, of runs that were deleted, of one made anew and of a stranger."""
    ids = [judge_alone(f"out/{number}.json", "--store") for number in range(4)]
    assert main(["history", "prune", "--keep", "1"]) == 0
    for paths in (("2",), ("0", "3"), ("0", "1", "2", "3")):
        code, found = verify(capsys, *(f"out/{number}.json" for number in paths), "--store")
        assert code == 0
        assert {found[f"history {ids[int(number)]}"] for number in paths} == {"intact"}
    assert verify(capsys, "out/0.json", "out/3.json")[0] == 3
    text = Path("out/2.json").read_text()
    Path("out/2.json").write_text(text.replace('"exit_code": 1', '"exit_code": 0'))
    code, found = verify(capsys, "out/2.json", "--store")
    assert (code, found[f"history {ids[2]}"]) == (1, "changed")
    Path("out/m.json").unlink()
    stranger = judge_alone("out/stranger.json")
    code, found = verify(capsys, "out/stranger.json", "--store")
    assert (code, found[f"history {stranger}"]) == (3, "unchecked")
    assert main(["verify", "out/3.json", "--store", "nowhere.db"]) == 3


@given(st.integers(1, 6), st.data())
def test_only_a_chain_without_gap_is_whole(length: int, data: st.DataObject) -> None:
    runs = [Chained("r0", "0", None)]
    for number in range(1, length):
        runs.append(Chained(f"r{number}", str(number), Link(runs[-1].run, runs[-1].sha256)))
    some = data.draw(st.lists(st.sampled_from(runs), min_size=1, unique=True))
    known = {it.sha256: it for it in some}
    numbers = sorted(int(it.sha256) for it in some)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    checks = [check_chain(it, known) for it in some]
    checks += [gap for it in some if (gap := check_gap(it, some, known))]
    assert exit_code(checks) == (0 if whole else 3)
    follows = {it.name for it in checks if it.state is State.INTACT}
    assert follows == {f"r{number}" for number in numbers if number - 1 in numbers}


def test_a_run_that_was_gone_on_with_follows_its_own_first_part() -> None:
    first = Chained("r", "1", None)
    whole = Chained("r", "2", Link("r", "1"))
    assert check_chain(whole, {"2": whole}).state is State.UNCHECKED
    assert check_chain(whole, {"1": first, "2": whole}).state is State.INTACT
    assert check_chain(whole, {"1": Chained("x", "1", None), "2": whole}).state is State.CHANGED


def test_a_run_that_ended_meanwhile_is_followed(here: Path) -> None:
    assert judge() == 1
    proof = proof_of("out/m.json", None, kept=False)
    assert judge() == 1
    run = json.loads(Path("out/m.json").read_text())["run"]["id"]
    judges = appoint(["p.yaml"], datetime(2026, 11, 22, tzinfo=timezone.utc))
    evidence = Evidence(replace(RUN, id="later"), judges, proof)
    made = json.loads(evidence.make(judges.tally().summary(), None))
    assert made["previous"]["run"] == run


def test_a_run_that_is_killed_before_its_manifest_leaves_nothing_torn(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reports of one run beside the manifest of another are not taken for its own."""
    assert judge("--sign", "key") == 1
    before = {name: Path("out", name).read_bytes() for name in ("m.json", "m.json.sig")}
    Path("bin").mkdir()
    Path("bin/ssh-keygen").write_text("#!/bin/sh\n: > signing\nexec sleep 60\n")
    Path("bin/ssh-keygen").chmod(0o755)
    words = ["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "--manifest", "out/m.json", "--sign", "key"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fleetaudit", *words, "-o", "json=out/r.json"],
        env={**os.environ, "PATH": f"{here}/bin:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        while not Path("signing").exists() and process.poll() is None:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert {name: Path("out", name).read_bytes() for name in before} == before
    code, found = verify(capsys, "out/m.json", "--allowed-signers", "allowed")
    assert (code, found["signature manifest"], found["report r.json"]) == (1, "intact", "changed")
    assert judge("--sign", "key") == 1
    assert verify(capsys, "out/m.json", "--allowed-signers", "allowed")[0] == 0
    assert (
        json.loads(Path("out/m.json").read_text())["previous"]["run"]
        == (json.loads(before["m.json"])["run"]["id"])
    )


def test_every_report_that_is_changed_or_gone_is_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge() == 1
    good = Path("out/r.json").read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        Path("out/r.json").write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        code, found = verify(capsys, "out/m.json")
        assert (code, found["report r.json"], found["report r.csv"]) == (1, "changed", "intact")
    for wrong in (good[:-1], good + b"\n", b""):
        Path("out/r.json").write_bytes(wrong)
        assert verify(capsys, "out/m.json")[1]["report r.json"] == "changed"
    Path("out/r.json").unlink()
    assert verify(capsys, "out/m.json")[1]["report r.json"] == "missing"
    os.mkfifo("out/r.json")  # never waited for
    assert verify(capsys, "out/m.json")[1]["report r.json"] == "missing"


def test_a_manifest_leads_nowhere_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge() == 1
    manifest = json.loads(Path("out/m.json").read_text())
    Path("secret").write_bytes(Path("out/r.json").read_bytes())
    Path("out/link").symlink_to(here / "secret")
    Path("out/folder").symlink_to(here)
    for path, state in (
        (str(here / "secret"), "unchecked"),
        ("../secret", "unchecked"),
        ("link", "missing"),
        ("folder/secret", "missing"),
        ("", "unchecked"),
    ):
        manifest["reports"][0]["path"] = path
        Path("out/m.json").write_text(json.dumps(manifest))
        code, found = verify(capsys, "out/m.json")
        assert found[f"report {path}"] == state, path
        assert code in (1, 3)


def test_a_report_elsewhere_is_not_said_to_be_intact(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("-o", f"jsonl={here}/far.jsonl") == 1
    code, found = verify(capsys, "out/m.json")
    assert (code, found[f"report {here}/far.jsonl"]) == (3, "unchecked")


@pytest.mark.parametrize("change", ["edited", "swapped", "dropped", "added", "empty"])
def test_snapshots_that_are_not_those_of_the_run(
    here: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    assert judge() == 1
    lines = Path("s.jsonl").read_bytes().splitlines(keepends=True)
    changed = {
        "edited": [lines[0].replace(b"dash", b"bash"), *lines[1:]],
        "swapped": [lines[0].replace(b"web1", b"web2"), lines[1], lines[2]],
        "dropped": lines[1:],
        "added": [*lines, lines[0]],
        "empty": [],
    }[change]
    Path("s.jsonl").write_bytes(b"".join(changed))
    assert verify(capsys, "out/m.json", "--snapshots", "s.jsonl")[0] == 1


def test_inputs_that_changed_since(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge() == 1
    Path("p.yaml").write_text(POLICY + "# later\n")
    assert verify(capsys, "out/m.json") == (0, verify(capsys, "out/m.json")[1])
    code, found = verify(capsys, "out/m.json", "--inputs")
    assert (code, found["policy file p.yaml"]) == (1, "changed")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"schema": "x"}', b"\x1f\x8b", b"\x1f\x8bjunk"]
)
def test_what_is_no_manifest(here: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    Path("odd").write_bytes(data)
    assert main(["verify", "odd"]) == 2
    assert "odd" in capsys.readouterr().err


# ---------------------------------------------------------------- bundles


@pytest.fixture
def packed(here: Path) -> Path:
    """A signed run's bundle."""
    assert judge("--store", "--sign", "key") == 1
    assert main(["history", "export", "latest", "b.tar.gz"]) == 0
    return here / "b.tar.gz"


def test_a_bundle_is_the_same_each_time_and_verifies_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("w.yaml").write_text(
        "version: 1\nwaivers:\n- {policy: p, rule: shells, hosts: web2, reason: known, approved_by: ann,"
        " expires: 2031-12-24}\n"
    )
    assert judge("--store", "--sign", "key", "--waivers", "w.yaml", "--include-pass") == 1
    assert main(["history", "export", "latest", "b.tar.gz"]) == 0
    assert main(["history", "export", "latest", "again.tar.gz"]) == 0
    assert Path("b.tar.gz").read_bytes() == Path("again.tar.gz").read_bytes()
    with tarfile.open("b.tar.gz") as tar:
        assert tar.getnames() == [
            "manifest.json",
            "manifest.json.sig",
            "inputs/001-p.yaml",
            "inputs/002-w.yaml",
            "reports/001-r.json",
            "reports/002-r.csv",
            "reports/003-r.csv.meta.json",
            "snapshots.jsonl",
        ]
        assert {(it.mtime, it.uid, it.gid, it.uname, it.mode) for it in tar} == {(0, 0, 0, "", 0o644)}
        lines = tar.extractfile("snapshots.jsonl")
        assert lines is not None
        assert sorted(lines.read().splitlines()) == sorted(Path("s.jsonl").read_bytes().splitlines())
    for name in ("p.yaml", "w.yaml", "s.jsonl", "out", "state"):
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink(missing_ok=True)
    code, found = verify(capsys, "b.tar.gz", "--allowed-signers", "allowed")
    assert code == 0
    assert set(found.values()) == {"intact", "unchecked"}  # the chain begins here
    assert found["waivers file w.yaml"] == found["signature manifest"] == "intact"


def test_a_bundle_holds_the_chain_before_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = []
    for _ in range(4):
        assert judge("--store") == 1
        ids.append(json.loads(Path("out/m.json").read_text())["run"]["id"])
    for name, options in {"b": (), "short": ("--chain", "2"), "alone": ("--chain", "0")}.items():
        assert main(["history", "export", "latest", f"{name}.tar.gz", *options]) == 0
    assert [it.name for it, _ in members(here / "b.tar.gz")][:5] == [
        "manifest.json",
        "chain/0001.json",
        "chain/0002.json",
        "chain/0003.json",
        "inputs/001-p.yaml",
    ]
    assert verify(capsys, "b.tar.gz")[1][f"chain {ids[3]}"] == "intact"
    assert verify(capsys, "alone.tar.gz")[1][f"chain {ids[3]}"] == "unchecked"
    # The bundle says what was between two runs.
    assert main(["history", "export", ids[1], "early.tar.gz", "--chain", "0"]) == 0
    for bundle, code in (("b", 0), ("short", 0), ("alone", 3)):
        assert verify(capsys, "early.tar.gz", f"{bundle}.tar.gz")[0] == code, bundle


@pytest.mark.parametrize("change", ["edited", "another", "dropped", "swapped", "junk"])
def test_a_chain_in_a_bundle_that_was_tampered_with(
    here: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    for _ in range(3):
        assert judge("--store") == 1
    assert main(["history", "export", "latest", "b.tar.gz"]) == 0
    held = members(here / "b.tar.gz")
    (_, first), (_, second) = held[1:3]
    if change == "dropped":
        del held[1]
    else:
        run = json.loads(first)["run"]["id"].encode()
        new = {
            "edited": first.replace(b"web1", b"web3"),
            "another": first.replace(run, b"another"),
            "swapped": second,
            "junk": b"{}",
        }
        held[1] = (held[1][0], new[change])
    pack(here / "b.tar.gz", held)
    code, found = verify(capsys, "b.tar.gz")
    assert code == 1
    assert "intact" not in {state for what, state in found.items() if what.startswith("chain")}


def test_a_bundle_needs_a_manifest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--store") == 1
    assert main(["history", "prune", "--snapshots-older-than", "0"]) == 0
    assert main(["history", "export", "latest", "b.tar.gz"]) == 2
    assert "are not kept any more" in capsys.readouterr().err
    assert not Path("b.tar.gz").exists()


Members = list[tuple[tarfile.TarInfo, bytes]]


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        found = []
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            found.append((member, stream.read()))
        return found


def pack(path: Path, held: Members, form: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w:gz", format=form) as tar:
        for member, data in held:
            if member.isreg():
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], Members]:
    return lambda held: [(it, change(data) if it.name == name else data) for it, data in held]


def odd(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


TAMPERED: dict[str, Callable[[Members], Members]] = {
    "a snapshot": edited("snapshots.jsonl", lambda data: data.replace(b"dash", b"bash")),
    "fewer snapshots": edited("snapshots.jsonl", lambda data: data.partition(b"\n")[2]),
    "a policy": edited("inputs/001-p.yaml", lambda data: data.replace(b"high", b"info")),
    "a report": edited("reports/001-r.json", lambda data: data + b" "),
    "the manifest": edited("manifest.json", lambda data: data.replace(b'"exit_code": 1', b'"exit_code": 0')),
    "the signature": edited("manifest.json.sig", lambda data: data.replace(b"A", b"B")),
    "no signature": lambda held: [it for it in held if it[0].name != "manifest.json.sig"],
    "no snapshots": lambda held: held[:-1],
    "a file more": lambda held: [*held, (tarfile.TarInfo("reports/more"), b"x")],
    "a file twice": lambda held: [*held, held[-1]],
    "a link": lambda held: [*held[:-1], odd("snapshots.jsonl", tarfile.SYMTYPE, "/etc/passwd")],
    "a device": lambda held: [*held[:-1], odd("snapshots.jsonl", tarfile.CHRTYPE)],
    "a folder": lambda held: [*held, odd("inputs", tarfile.DIRTYPE)],
}


@pytest.mark.parametrize("what", sorted(TAMPERED))
def test_a_bundle_that_was_tampered_with(packed: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    pack(packed, TAMPERED[what](members(packed)))
    assert verify(capsys, str(packed), "--allowed-signers", "allowed")[0] == 1


def test_headers_of_any_size_are_not_read(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = members(packed)
    held[-1][0].pax_headers = {"comment": "x" * 100_000}
    pack(packed, held, tarfile.PAX_FORMAT)
    code, found = verify(capsys, str(packed))
    assert code == 1
    assert found[f"bundle {packed}"] == "changed"
    held = members_of_first(held)
    pack(packed, held, tarfile.PAX_FORMAT)
    assert main(["verify", str(packed)]) == 2


def members_of_first(held: Members) -> Members:
    held[0][0].pax_headers = {"comment": "x"}
    return held


def test_a_bundle_without_end_is_left(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading stops behind what the manifest says there is."""
    held = members(packed)
    held[-1] = (held[-1][0], held[-1][1] + b"\n".join([b"{}"] * 100_000))
    pack(packed, held)
    code, found = verify(capsys, str(packed))
    assert code == 1
    assert found["snapshots line 8"] == "unexpected"


def bomb(path: Path, held: Members, name: str, size: int, filling: bytes) -> None:
    """The bundle with a member more, of a size that is few bytes when packed."""
    member, raw = tarfile.TarInfo(name), io.BytesIO()
    member.size = size
    tar = tarfile.TarFile(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT)
    for it, data in held:
        tar.addfile(it, io.BytesIO(data))
    with gzip.open(path, "wb", 1) as packed:
        packed.write(raw.getvalue() + member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            packed.write(filling * (1 << 20))


@pytest.mark.parametrize(("name", "filling"), [("snapshots.jsonl", b"\n"), ("more", b"\0")])
def test_a_bomb_is_not_unpacked(
    packed: Path, capsys: pytest.CaptureFixture[str], name: str, filling: bytes
) -> None:
    """200 MB in 1 MB: unpacking and passing over its lines would take a minute."""
    bomb(packed, members(packed)[:-1], name, 200 << 20, filling)
    before = time.process_time()
    code, found = verify(capsys, str(packed))
    assert (code, found[f"bundle {packed}"]) == (1, "unexpected")
    assert time.process_time() - before < 1


def test_files_without_end_are_left(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = members(packed)
    pack(packed, held + [(tarfile.TarInfo(f"x{number}"), b"") for number in range(1000)])
    code, found = verify(capsys, str(packed))
    assert (code, found[f"bundle {packed}"]) == (1, "unexpected")
    assert sum(what.startswith("file x") for what in found) == 100


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_of_a_bundle_can_be_changed_unseen(packed: Path, data: st.DataObject) -> None:
    good = gzip.decompress(packed.read_bytes())
    with_change = bytearray(good)
    place = data.draw(st.integers(0, len(good) - 1))
    with_change[place] ^= data.draw(st.integers(1, 255))
    damaged = packed.with_name("damaged.tar.gz")
    damaged.write_bytes(gzip.compress(bytes(with_change), 1))
    held = {it.name: content for it, content in members(packed)}
    try:
        after = {it.name: content for it, content in members(damaged)}
    except (tarfile.TarError, AssertionError, OSError):
        after = {}
    code = main(["verify", str(damaged), "--allowed-signers", "allowed"])
    assert code in (1, 2) or after == held  # a time, an owner, what pads a file
