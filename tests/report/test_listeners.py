"""The port register: every endpoint and owner, and what approves it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given

from fleetaudit.model import HostAudit, HostStatus, Report, Verdict
from fleetaudit.report.listener_rows import COLUMNS
from fleetaudit.report.wording import identity
from tests.build import NGINX, SHELL, Wire, judge, process, snapshot, socket, without
from tests.report.cases import (
    CASES,
    HOSTILE,
    LEAK,
    NO_SHELL,
    SERVER,
    WEB,
    failed,
    leak,
    reached,
    render,
    result,
)
from tests.report.cases import report as reporting_of
from tests.report.fleets import few, fleets, hidden, reporting

POLICY = """
version: 1
name: web
rules:
  - id: owners
    listeners: {port: 80}
    reason: the site
    owner_team: web
    allow_owners:
      - {exe: /usr/sbin/nginx, user: www-data, reason: "=the server; it", reviewed: "2026-10-01"}
      - {exe: /usr/sbin/nginx, unit: web.service}
      - {kernel: true, reason: kernel NFS}
  - id: ssh-is-up
    listeners: {port: 22}
    expect: some
    reason: administration
"""
Row = dict[str, str]


def rows(of: Report) -> list[Row]:
    text = render("csv-listeners", of).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def register(*sockets: Wire) -> list[Row]:
    processes = {80: process(NGINX), 81: process(SHELL, ppid=80)}
    audit = judge(POLICY, snapshot(sockets, processes))
    return [row for row in rows(reporting_of(audit)) if row["protocol"]]


def approval(row: Row) -> tuple[str, ...]:
    return tuple(
        row[name] for name in ("endpoint_approved", "approved_by", "reason", "owner_team", "reviewed")
    )


def test_each_owner_is_a_row_with_the_entries_that_approve_it_and_why() -> None:
    nginx, shell = register(socket(80, [80, 81]))
    assert (nginx["program"], nginx["pid"], nginx["protocol"], nginx["port"]) == ("nginx", "80", "tcp", "80")
    said = ("yes", "web/owners#1; web/owners#2", "'=the server\\u003b it; the site", "web", "2026-10-01")
    assert approval(nginx) == said
    assert (shell["program"], shell["shell"], shell["findings"]) == ("dash", "yes", "fail web/owners")
    assert approval(shell) == ("yes", "", "", "", "")


def test_a_required_listener_is_approved_by_its_rule_whoever_owns_it() -> None:
    (row,) = register(socket(22, [81]))
    assert approval(row) == ("yes", "web/ssh-is-up", "administration", "", "")


def test_what_no_rule_selects_is_not_approved() -> None:
    (row,) = register(socket(8080, [80]))
    assert approval(row) == ("no", "", "", "", "")


def test_only_what_is_proved_to_be_the_kernels_is_approved_as_such() -> None:
    (kernel,) = register(socket(80, [], owner_state="kernel"))
    assert approval(kernel) == ("yes", "web/owners#3", "kernel NFS", "web", "")
    assert (kernel["owner_state"], kernel["pid"]) == ("kernel", "")
    (nobody,) = register(socket(80, []))
    assert approval(nobody)[1:] == ("", "", "", "")
    assert (nobody["owner_state"], nobody["findings"]) == ("unknown", "unknown web/owners")


def test_sockets_of_one_endpoint_are_one_endpoint_and_the_worst_of_them_counts() -> None:
    made = register(socket(80, [80]), socket(80, [80, 81], inode=9, owner_state="unknown"))
    assert [(row["program"], row["sockets"], row["owner_state"]) for row in made] == [
        ("nginx", "2", "unknown"),
        ("dash", "2", "unknown"),
    ]
    assert [row["approved_by"] for row in made] == ["web/owners#1; web/owners#2", ""]


def test_an_entry_that_may_match_approves_nobody() -> None:
    processes = {80: process(NGINX, exe_verified=False)}
    _, row = rows(reporting_of(judge(POLICY, snapshot([socket(80, [80])], processes))))
    assert (row["approved_by"], row["exe_verified"]) == ("", "no")
    processes = {80: without(process(NGINX), "exe", "cgroup")}
    _, row = rows(reporting_of(judge(POLICY, snapshot([socket(80, [80])], processes))))
    assert (row["approved_by"], row["exe"], row["endpoint_approved"]) == ("", "?", "yes")


def test_an_owner_is_approved_only_if_it_is_on_each_socket_it_holds() -> None:
    policy = """
version: 1
name: web
rules:
  - id: beside-a-shell
    listeners: {port: 80, owner: {shell: true}}
    allow_owners: [{exe: /usr/sbin/nginx}]
"""
    processes = {80: process(NGINX), 81: process(SHELL, ppid=80)}
    sockets = [socket(80, [80]), socket(80, [80, 81], inode=9)]
    nginx, _ = rows(reporting_of(judge(policy, snapshot(sockets, processes))))
    assert (nginx["program"], nginx["endpoint_approved"], nginx["approved_by"]) == ("nginx", "no", "")


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_one_row(status: HostStatus) -> None:
    (row,) = rows(reporting_of(failed("db1", status, "")))
    assert (row["host"], row["host_status"], row["findings"]) == ("db1", status.value, "unknown")
    assert row["detail"] == f"the host was not audited: {status.value}"


def test_a_host_without_listeners_is_a_row_and_so_is_what_is_about_none() -> None:
    made = rows(CASES["verdicts"]())
    assert [row["host"] for row in made if not row["protocol"]] == ["web4", "web5", "web6"]
    assert {row["host"]: row["findings"] for row in made} == {
        "web1": "fail shells/no-shell",
        "web2": "fail web/owners",
        "web3": "unknown shells/no-shell",
        "web4": "waived shells/no-shell (OPS-7: until the new server is live, by Ann)",
        "web5": "",
        "web6": "",
    }
    assert next(row["findings"] for row in made if row["host"] == "web4") == "error web/owners"
    assert {row["detail"] for row in made if row["host"] == "web3"} == {"hidepid: 3 processes"}


def test_who_only_could_receive_a_socket_is_told_apart() -> None:
    held = replace(WEB, owners=(LEAK,), held_by=(SERVER,))
    made = rows(reporting_of(reached("h", result(NO_SHELL, "h", leak(held)))))
    assert [(row["program"], row["held_by"]) for row in made] == [("python3", "yes"), ("sh", "no")]


def test_columns_are_the_documented_ones_and_argv_is_none_of_them() -> None:
    assert render("csv-listeners", CASES["nothing"]()).decode() == ",".join(COLUMNS) + "\n"
    assert b"app.py" not in render("csv-listeners", CASES["verdicts"]())


def test_hostile_strings_neither_run_nor_break_a_row() -> None:
    made = rows(CASES["hostile"]())
    assert len({row["host"] for row in made}) == 2 * len(HOSTILE)
    for row in made:
        assert None not in row
        assert not any(
            value.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) for value in row.values()
        )


@few
@given(fleets)
def test_no_owner_and_no_host_is_lost(fleet: list[HostAudit]) -> None:
    shown = render("csv-listeners", reporting(fleet)).decode()
    assert hidden(shown) <= {"\n"}
    made = list(csv.reader(io.StringIO(shown, newline=""), strict=True))
    assert {len(row) for row in made} == {len(COLUMNS)}
    pids = [row[COLUMNS.index("pid")] for row in made[1:]]
    for audit in fleet:
        snapshot_ = audit.outcome.snapshot
        for listener in snapshot_.listeners if snapshot_ else ():
            for owner in (*listener.owners, *listener.held_by):
                assert str(identity(owner)[0]) in pids
    assert len(made) > len(fleet)
    problems = {Verdict.FAIL, Verdict.UNKNOWN, Verdict.ERROR, Verdict.WAIVED}
    seen = {finding.verdict for audit in fleet for item in audit.results for finding in item.findings}
    cells = " ".join(row[COLUMNS.index("findings")] for row in made)
    assert all(verdict.value in cells for verdict in seen & problems)
