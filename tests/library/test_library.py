"""`audit`, `collect` and `evaluate` as a Python user calls them."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import fleetaudit
from fleetaudit import library
from fleetaudit.conversation import Conversation, Reply
from fleetaudit.derive import derive
from fleetaudit.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    HostError,
    InventoryError,
    PolicyError,
    ReportError,
    SnapshotError,
)
from fleetaudit.events import Observer
from fleetaudit.model import Boundary, Host, HostContext, HostStatus, Outcome, Secret, Severity, Verdict
from fleetaudit.transport.memory import MemoryTransport, telling
from tests.build import PYTHON, SHELL, Wire, process, snapshot, socket

POLICY = """\
version: 1
name: p
hosts: {hosts}
rules:
  - {{id: no-shell, severity: high, deny_owners: [{{shell: true}}]}}
"""
CLEAN = snapshot([socket(443)], {80: process(PYTHON)})
SHELLED = snapshot([socket(8080, (80, 81))], {80: process(PYTHON), 81: process(SHELL, ppid=80)})
ANSWERS: Mapping[str, Wire | HostError] = {
    "web1": CLEAN,
    "web2": SHELLED,
    "db1": ConnectError("no route to host"),
}


def hosts(*names: str, groups: tuple[str, ...] = ()) -> list[Host]:
    context = HostContext(groups)
    return [Host(name, "", transport="memory", context=context) for name in names]


def memory(answers: Mapping[str, Wire | HostError] = ANSWERS) -> dict[str, MemoryTransport]:
    return {"memory": MemoryTransport(telling(answers))}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(POLICY.format(hosts="all"))
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A snapshot file of two hosts."""
    path = tmp_path / "s.jsonl"
    told = [CLEAN | {"host": {"name": "web1"}}, SHELLED | {"host": {"name": "web2"}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    return path


def verdicts(report: fleetaudit.AuditReport) -> dict[str, list[str]]:
    return {audit.outcome.host: [result.verdict.value for result in audit.results] for audit in report}


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fleetaudit-host")]


def open_files() -> list[str]:
    """What this process has open that is a run's."""
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  (names of descriptors that are open now)
    return [str(os.readlink(link)) for link in links if link.is_symlink() and "journal" in os.readlink(link)]  # noqa: PTH115  (a deleted file's name)


# ---------------------------------------------------------------- audit


def test_every_host_is_in_the_report_whether_it_was_reached_or_not(policy: Path) -> None:
    with fleetaudit.audit(hosts("web2", "db1", "web1"), policy, transports=memory()) as report:
        assert verdicts(report) == {"db1": ["unknown"], "web1": ["pass"], "web2": ["fail"]}
        assert verdicts(report) == {"db1": ["unknown"], "web1": ["pass"], "web2": ["fail"]}
        assert (report.summary.targeted, report.summary.failed, report.summary.exit_code) == (3, 1, 1)
        assert report.run.complete
        assert [(source.name, source.targets) for source in report.run.policies] == [("p", 3)]


def test_the_summary_is_of_all_hosts_however_far_one_has_looked(policy: Path) -> None:
    with fleetaudit.audit(hosts("web1", "web2"), policy, transports=memory()) as report:
        assert next(iter(report)).outcome.host == "web1"
        assert report.summary.results["fail"] == 1
        assert report.summary.exit_code == 1


def test_a_host_that_was_not_reached_is_no_pass(policy: Path) -> None:
    with fleetaudit.audit(hosts("web1", "db1"), policy, transports=memory()) as report:
        assert report.summary.exit_code == 3
    with fleetaudit.audit(hosts("web1", "db1"), policy, transports=memory(), require_coverage=50) as report:
        assert report.summary.exit_code == 0


def test_a_run_that_stopped_by_itself_is_not_compliant(policy: Path) -> None:
    options = fleetaudit.Options(forks=1, max_fail=0)
    answers: dict[str, Wire | HostError] = {"a": CLEAN, "b": AuthError("no"), "c": CLEAN}
    with fleetaudit.audit(
        hosts("a", "b", "c"), policy, options=options, transports=memory(answers), require_coverage=0
    ) as report:
        assert [audit.outcome.status.value for audit in report] == ["ok", "auth_failed", "not_attempted"]
        assert not report.run.complete
        assert report.summary.exit_code == 3


def test_a_run_that_was_cut_short_is_no_more_compliant_when_it_is_judged_later(policy: Path) -> None:
    options = fleetaudit.Options(forks=1, max_fail=0)
    answers: dict[str, Wire | HostError] = {"a": CLEAN, "b": AuthError("no"), "c": CLEAN}
    told = list(fleetaudit.collect(hosts("a", "b", "c"), options=options, transports=memory(answers)))
    with fleetaudit.evaluate(told, policy, require_coverage=0) as report:
        assert not report.run.complete
        assert report.summary.exit_code == 3
    with fleetaudit.evaluate(told[:2], policy, require_coverage=0) as report:
        assert report.run.complete
        assert report.summary.exit_code == 0


def test_a_report_that_nobody_holds_is_read_to_its_end(policy: Path, saved: Path) -> None:
    targets = hosts("web1", "web2")
    reports: tuple[Callable[[], fleetaudit.AuditReport], ...] = (
        lambda: fleetaudit.audit(targets, policy, transports=memory()),
        lambda: fleetaudit.evaluate(saved, policy),
    )
    for report in reports:
        assert [audit.results[0].verdict.value for audit in report()] == ["pass", "fail"]
        assert len([audit.results[0] for audit in report().report().audits]) == 2
        assert json.loads(b"".join(report().render("json")))["summary"]["exit_code"] == 1
        assert report().summary.exit_code == 1


def test_a_report_closed_while_it_is_read_says_so(policy: Path, saved: Path) -> None:
    for report in (
        fleetaudit.audit(hosts("web1", "web2"), policy, transports=memory()),
        fleetaudit.evaluate(saved, policy),
    ):
        audits = iter(report)
        pieces = report.render("json")
        next(audits)
        report.close()
        with pytest.raises(ReportError, match="closed"):
            next(audits)
        with pytest.raises(ReportError, match="closed"):
            b"".join(pieces)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "", id="emptied"),
        pytest.param(lambda text: text[: len(text) // 2 + 20], id="cut"),
        pytest.param(lambda text: text.replace("web2", "web3"), id="another host"),
        pytest.param(lambda text: "x" * len(text), id="noise"),
    ],
)
def test_a_file_that_changes_under_a_report_is_no_result(
    policy: Path, saved: Path, change: Callable[[str], str]
) -> None:
    with fleetaudit.evaluate(saved, policy) as report:
        saved.write_text(change(saved.read_text()))
        with pytest.raises(ReportError, match=r"s\.jsonl:\d: the file was changed"):
            list(report)
        with pytest.raises(ReportError, match="changed"):
            _ = report.summary


def test_severity_and_selection_are_those_of_the_command_line(policy: Path) -> None:
    targets = hosts("web1", "web2", groups=("web",))
    with fleetaudit.audit(
        targets, [policy], pattern="web", limit="web2", fail_on="critical", transports=memory()
    ) as report:
        assert verdicts(report) == {"web2": ["fail"]}
        assert report.summary.exit_code == 0
        assert report.run.options["limit"] == "web2"


def test_where_leaves_out_hosts_that_say_otherwise(policy: Path) -> None:
    with fleetaudit.collect(hosts("web1"), transports=memory()) as found:
        (outcome,) = found
    assert outcome.snapshot is not None
    other = replace(outcome, host="other", snapshot=replace(outcome.snapshot, os_id="rhel"))
    mute = replace(outcome, host="mute", snapshot=replace(outcome.snapshot, os_id=None))
    with fleetaudit.evaluate([outcome, other, mute], policy, where=["os.id!=rhel"]) as report:
        assert set(verdicts(report)) == {"web1", "mute"}
        assert report.summary.left_out == 1
    with pytest.raises(ConfigError, match=r"where 'os.id': this is no condition"):
        fleetaudit.audit(hosts("web1"), policy, where="os.id", transports=memory())


def test_nothing_stays_behind(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = tmp_path / "temporary"
    spare.mkdir()
    monkeypatch.setenv("TMPDIR", str(spare))
    monkeypatch.setattr("tempfile.tempdir", None)
    report = fleetaudit.audit(hosts("web1"), policy, transports=memory())
    assert list(spare.iterdir()) == []
    assert [name for name in open_files() if str(spare) in name]
    assert verdicts(report) == {"web1": ["pass"]}
    del report
    gc.collect()
    assert [name for name in open_files() if str(spare) in name] == []
    assert own_threads() == []


def test_a_closed_report_says_so(policy: Path) -> None:
    report = fleetaudit.audit(hosts("web1"), policy, transports=memory())
    assert report.summary.exit_code == 0
    report.close()
    report.close()
    assert report.summary.exit_code == 0
    with pytest.raises(ReportError, match="closed"):
        iter(report)


def test_an_exception_meanwhile_ends_everything(policy: Path) -> None:
    class Impatient(Observer):
        def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleetaudit.audit(hosts("web1", "web2"), policy, observer=Impatient(), transports=memory())
    assert own_threads() == []


def test_documents_are_those_of_the_command_line(policy: Path) -> None:
    with fleetaudit.audit(hosts("web1", "db1"), policy, transports=memory()) as report:
        document = json.loads(b"".join(report.render("json")))
        assert [host["name"] for host in document["hosts"]] == ["db1", "web1"]
        assert document["summary"]["exit_code"] == 3
        with pytest.raises(ConfigError, match="did you mean json"):
            report.render("jsn")


def test_an_inventory_file_and_the_local_machine(policy: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "i.yaml"
    inventory.write_text(
        "all: {hosts: {here: {ansible_connection: local, fleetaudit_boundary: container}}}\n"
    )
    with fleetaudit.audit(inventory, policy) as report:
        (audit,) = report
        assert audit.outcome.snapshot is not None
        assert audit.outcome.snapshot.agent.sha256 == report.run.agent_sha256
        assert [source.path for source in report.run.inventory] == [str(inventory)]


# ---------------------------------------------------------------- collect


def test_outcomes_stream_in_the_order_in_which_hosts_end(policy: Path) -> None:
    released = threading.Event()
    answer = telling(ANSWERS)

    def late(host: Host, command: str, conversation: Conversation) -> Reply:
        if host.name == "db1":
            released.wait(20)
        return answer(host, command, conversation)

    with fleetaudit.collect(
        hosts("db1", "web1", "web2"), transports={"memory": MemoryTransport(late)}
    ) as outcomes:
        first = {next(outcomes).host, next(outcomes).host}
        released.set()
        (last,) = outcomes
    assert first == {"web1", "web2"}
    assert (last.host, last.status, last.detail) == ("db1", HostStatus.UNREACHABLE, "no route to host")
    assert [host.name for host in outcomes.targets] == ["db1", "web1", "web2"]


def test_outcomes_are_derived_and_partial_ones_say_so() -> None:
    answers = {"web1": snapshot([socket(443)], {80: process()}, gaps=["hidepid"])}
    (outcome,) = fleetaudit.collect(hosts("web1"), transports=memory(answers))
    assert outcome.status is HostStatus.PARTIAL
    assert outcome.snapshot is not None
    assert outcome.snapshot.listeners[0].scope == "any"
    assert derive(outcome) == outcome


def test_a_collection_left_in_the_middle_ends_its_threads() -> None:
    names = [f"h{number}" for number in range(30)]
    for outcome in fleetaudit.collect(
        hosts(*names), options=fleetaudit.Options(forks=2), transports=memory(dict.fromkeys(names, CLEAN))
    ):
        assert outcome.status is HostStatus.OK
        break
    gc.collect()
    assert own_threads() == []


def test_transports_are_closed_whichever_way_it_ends(policy: Path) -> None:
    class Noting(MemoryTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    exhausted, left, never = (Noting(telling(ANSWERS)) for _ in range(3))
    kept = fleetaudit.collect(hosts("web1"), transports={"memory": exhausted})
    assert len(list(kept)) == 1
    assert exhausted.closed == 1
    with fleetaudit.collect(hosts("web1", "web2"), transports={"memory": left}) as outcomes:
        next(outcomes)
    with fleetaudit.collect(hosts("web1"), transports={"memory": never}):
        pass
    assert (left.closed, never.closed) == (1, 1)


def test_one_that_never_began_closes() -> None:
    with fleetaudit.collect(hosts("web1"), transports=memory()) as outcomes:
        pass
    outcomes.close()
    assert list(outcomes) == []


def test_after_stop_every_host_still_has_its_outcome() -> None:
    names = [f"h{number:02}" for number in range(20)]
    with fleetaudit.collect(
        hosts(*names), options=fleetaudit.Options(forks=1), transports=memory(dict.fromkeys(names, CLEAN))
    ) as outcomes:
        seen = [next(outcomes)]
        outcomes.stop()
        seen += outcomes
    assert sorted(outcome.host for outcome in seen) == names
    assert seen[-1].status is HostStatus.NOT_ATTEMPTED


@pytest.mark.parametrize("surprise", [KeyboardInterrupt(), SystemExit(0), GeneratorExit(), RuntimeError("x")])
def test_whatever_a_transport_raises_is_the_failure_of_its_host_alone(surprise: BaseException) -> None:
    answer = telling(ANSWERS)

    def surprising(host: Host, command: str, conversation: Conversation) -> Reply:
        if host.name == "web2":
            raise surprise
        return answer(host, command, conversation)

    told = fleetaudit.collect(
        hosts("web1", "web2"),
        options=fleetaudit.Options(forks=1),
        transports={"memory": MemoryTransport(surprising)},
    )
    outcomes = {outcome.host: outcome for outcome in told}
    assert outcomes["web1"].status is HostStatus.OK
    assert outcomes["web2"].status is HostStatus.ERROR
    assert outcomes["web2"].detail.startswith(type(surprise).__name__)


def test_observers_are_told_and_nothing_is_printed(
    policy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    class Notes(Observer):
        def run_started(self, targets: int) -> None:
            told.append(targets)

        def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
            told.append((host, status.value))

        def run_finished(self) -> None:
            told.append("finished")

    with fleetaudit.audit(hosts("db1"), policy, observer=Notes(), transports=memory()) as report:
        assert report.summary.failed == 1
    assert told == [1, ("db1", "unreachable"), "finished"]
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


# ---------------------------------------------------------------- evaluate


def test_evaluate_of_what_was_collected_equals_the_audit(policy: Path, tmp_path: Path) -> None:
    targets = hosts("web2", "db1", "web1", groups=("web",))
    with fleetaudit.audit(targets, policy, transports=memory()) as audited:
        expected = {audit.outcome.host: audit.results for audit in audited}
    with fleetaudit.evaluate(fleetaudit.collect(targets, transports=memory()), policy) as report:
        assert {audit.outcome.host: audit.results for audit in report} == expected
        assert report.summary.exit_code == 1


def test_files_are_evaluated_as_often_as_one_looks(policy: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    down = {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": "db1"},
        "status": "timeout",
        "detail": "late",
    }
    path.write_text(json.dumps(SHELLED | {"host": {"name": "web2"}}) + "\n" + json.dumps(down) + "\n")
    with fleetaudit.evaluate(path, str(policy)) as report:
        assert report.summary.exit_code == 1
        assert list(verdicts(report).items()) == [("db1", ["unknown"]), ("web2", ["fail"])]


def test_what_is_too_old_is_unknown(policy: Path) -> None:
    (fresh,) = fleetaudit.collect(hosts("web1"), transports=memory())
    hour = timedelta(hours=1)
    with fleetaudit.evaluate([fresh], policy, max_age=hour) as report:
        assert verdicts(report) == {"web1": ["pass"]}
    later = datetime.now(timezone.utc) + 2 * hour
    with fleetaudit.evaluate([fresh], policy, max_age=hour, now=later) as report:
        assert verdicts(report) == {"web1": ["unknown"]}
        assert report.summary.exit_code == 3


def test_an_inventory_given_now_overrides_groups(policy: Path, tmp_path: Path) -> None:
    policy.write_text(POLICY.format(hosts="web"))
    inventory = tmp_path / "i.yaml"
    inventory.write_text("web: {hosts: {web2: }}\n")
    (outcome,) = fleetaudit.collect(hosts("web2"), transports=memory())
    with pytest.raises(PolicyError, match="none of the 1 targets"):
        fleetaudit.evaluate([outcome], policy)
    with fleetaudit.evaluate([outcome], policy, inventory=inventory) as report:
        assert verdicts(report) == {"web2": ["fail"]}


def test_what_was_left_out_of_a_container_is_not_judged_as_a_host(policy: Path, tmp_path: Path) -> None:
    answers = {"c1": snapshot([], {}, gaps=["pid_namespace"])}
    context = HostContext(boundary=Boundary.CONTAINER)
    (outcome,) = fleetaudit.collect(
        [Host("c1", "", transport="memory", context=context)], transports=memory(answers)
    )
    with fleetaudit.evaluate([outcome], policy) as report:
        assert verdicts(report) == {"c1": ["not_applicable"]}
    with pytest.raises(SnapshotError, match="seen as a container"):
        fleetaudit.evaluate([outcome], policy, inventory="c1,")


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"forks": 0}, "forks: 0 is not from 1"),
        ({"deadline": float("nan")}, "deadline: nan"),
        ({"retries": -1, "timeout": 0}, "(?s)timeout.*retries"),
        ({"host_key_checking": "none"}, "host_key_checking: 'none'"),
        ({"boundary": "pod"}, "boundary: 'pod'"),
        ({"max_fail": "20 %"}, "max_fail: "),
        ({"forks": "5"}, "forks: '5' is not from 1"),
        ({"forks": None}, "forks: None is not from 1"),
        ({"forks": True}, "forks: True is not from 1"),
        ({"forks": 1.5}, r"forks: 1\.5 is not a whole number"),
        ({"deadline": float("inf")}, "deadline: inf"),
        ({"agent_seconds": "30"}, "agent_seconds"),
        ({"become_method": "pbrun"}, "become_method: one of sudo"),
        ({"password": "hunter2"}, r"password: pass it as fleetaudit\.model\.Secret"),
        ({"known_hosts": "/etc/known"}, "known_hosts: pass a list"),
        ({"argv": "some"}, "argv is one of"),
        ({"agent_mib": 1}, "memory budget"),
    ],
)
def test_options_that_cannot_be_used_are_told_at_once(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        fleetaudit.Options(**arguments)  # type: ignore[arg-type]  # what a type checker would refuse
    assert "hunter2" not in str(raised.value)


def test_no_password_is_on_record(policy: Path) -> None:
    options = fleetaudit.Options(password=Secret("hunter2"), become_password=Secret("hunter3"), forks=7)
    with fleetaudit.audit(hosts("web1"), policy, options=options, transports=memory()) as report:
        document = b"".join(report.render("json"))
        assert report.run.options["forks"] == 7
        assert not {"password", "become_password", "private_key"} & set(report.run.options)
    assert b"hunter" not in document
    assert "hunter" not in repr(options)


def test_mistakes_are_the_errors_of_fleetaudit(policy: Path, tmp_path: Path) -> None:
    twice = hosts("a", "a")
    for inventory, error, message in (
        ([], InventoryError, "no inventory"),
        (twice, InventoryError, "two hosts are called 'a'"),
        ([*hosts("a"), "b,"], ConfigError, "together"),
        ([7], ConfigError, "int is not a path"),
        (None, ConfigError, "inventory: NoneType is not a path"),
        (b"web1,", ConfigError, "inventory: bytes is not a path"),
        (tmp_path / "missing.yaml", InventoryError, "missing.yaml"),
    ):
        with pytest.raises(error, match=message):
            fleetaudit.audit(inventory, policy)  # type: ignore[arg-type]  # what a type checker would refuse
    with pytest.raises(InventoryError, match="no host or group is called 'wbe'"):
        fleetaudit.collect(hosts("web"), pattern="wbe")
    with pytest.raises(PolicyError):
        fleetaudit.audit(hosts("a"), [])
    with pytest.raises(ConfigError, match="fail_on: 'severe'"):
        fleetaudit.audit(hosts("a"), policy, fail_on="severe")
    for share in (101, float("nan"), "100", None):
        with pytest.raises(ConfigError, match=f"require_coverage: {share!r}"):
            fleetaudit.evaluate([], policy, require_coverage=share)  # type: ignore[arg-type]  # likewise
    with pytest.raises(SnapshotError):
        fleetaudit.evaluate([], policy)
    outcome = Outcome("a", HostStatus.TIMEOUT)
    with pytest.raises(SnapshotError, match="two outcomes are of host 'a'"):
        fleetaudit.evaluate([outcome, replace(outcome)], policy)
    with pytest.raises(ConfigError, match="no zone"):
        fleetaudit.evaluate([outcome], policy, now=datetime(2026, 1, 1))
    with pytest.raises(InventoryError, match="unknown connection 'memory'"):
        next(fleetaudit.collect(hosts("a")))


# ---------------------------------------------------------------- the package


def test_the_names_of_the_package_are_those_its_stub_tells() -> None:
    stub = Path(fleetaudit.__file__).with_suffix(".pyi").read_text()
    told = {line.rpartition(" ")[2] for line in stub.splitlines() if line.startswith("from")}
    assert told == set(library.__all__) == set(fleetaudit.__all__) - {"__version__"}
    assert set(fleetaudit.__all__) <= set(dir(fleetaudit))
    for name in library.__all__:
        assert getattr(fleetaudit, name) is getattr(library, name)
        assert getattr(fleetaudit, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        fleetaudit.audits  # type: ignore[attr-defined]  # noqa: B018  (asking is the test)


def test_importing_the_package_imports_nothing_and_stays_quiet() -> None:
    code = (
        "import sys; before = set(sys.modules); import fleetaudit;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before});"
        "import signal; handlers = [signal.getsignal(n) for n in (2, 15)]; import logging;"
        "print(fleetaudit.audit.__name__, 'paramiko' in sys.modules, 'click' in sys.modules,"
        "handlers == [signal.getsignal(n) for n in (2, 15)], logging.root.handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, facts = done.stdout.splitlines()
    assert set(modules.split()) <= {"fleetaudit", "importlib", "warnings"}
    assert facts == "audit False False True []"
    assert done.stderr == ""


def test_no_submodule_shadows_a_function() -> None:
    code = (
        "import fleetaudit, fleetaudit.cli.audit, fleetaudit.cli.collect, fleetaudit.cli.evaluate;"
        "print(*(callable(getattr(fleetaudit, name)) for name in ('audit', 'collect', 'evaluate')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"


def test_verdicts_are_values_of_the_model(policy: Path) -> None:
    with fleetaudit.audit(hosts("web2"), policy, transports=memory()) as report:
        (audit,) = report
    (result,) = audit.results
    assert (result.verdict, result.severity) == (Verdict.FAIL, Severity.HIGH)
    assert [owner.process.pid for owner in result.findings[0].owners] == [81]
