"""CSV as a spreadsheet and the csv module read it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from fleetaudit.model import UNKNOWN, Finding, HostStatus, Report, Verdict
from fleetaudit.report.csv_rows import COLUMNS
from tests.report.cases import (
    CASES,
    HOSTILE,
    LEAK,
    NO_SHELL,
    SERVER,
    SHELL,
    WEB,
    WEB_OWNERS,
    failed,
    leak,
    reached,
    render,
    report,
    result,
)

FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")  # the last four: full width
DESIGN = (
    "run_id,time,host,host_status,policy,rule,severity,verdict,protocol,address,port,owners,reason,controls,"
    "remediation,waiver,path,netns,device,container,policy_sha256,fingerprint,collected_at"
)


def rows(of: Report) -> list[dict[str, str]]:
    text = render("csv", of).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def owners_cell(*processes: object, state: str = "owned") -> str:
    owners = tuple(
        replace(SERVER, process=replace(SHELL, pid=n, **p))
        for n, p in enumerate(processes)
        if isinstance(p, dict)
    )
    listener = replace(WEB, owners=owners, owner_state=state)
    (row,) = rows(report(reached("h", result(NO_SHELL, "h", Finding(Verdict.FAIL, "r", listener)))))
    return row["owners"]


def test_columns_are_the_contract() -> None:
    assert ",".join(COLUMNS) == DESIGN
    assert render("csv", CASES["nothing"]()).decode() == DESIGN + "\n"


def test_every_owner_of_the_listener_is_named_not_only_the_one_that_breaks_the_rule() -> None:
    (row,) = rows(report(reached("web1", result(NO_SHELL, "web1", leak()))))
    assert row["owners"] == "python3[80](www-data); sh[81](www-data)"
    assert (row["verdict"], row["severity"], row["protocol"], row["port"]) == (
        "fail",
        "critical",
        "tcp",
        "8080",
    )
    assert row["time"] == "2026-11-22T10:00:00Z"


@pytest.mark.parametrize(
    "status", [item for item in HostStatus if item not in (HostStatus.OK, HostStatus.PARTIAL)]
)
def test_a_failed_host_is_one_row_that_is_no_pass(status: HostStatus) -> None:
    (row,) = rows(report(failed("db1", status, "why")))
    told = (row["host"], row["host_status"], row["policy"], row["rule"], row["verdict"], row["reason"])
    assert told == ("db1", status.value, "", "", "unknown", "why")


def test_a_failed_host_without_detail_still_has_a_reason() -> None:
    (row,) = rows(report(failed("db1", HostStatus.NOT_ATTEMPTED, "")))
    assert row["reason"] == "the host was not audited: not_attempted"


def test_a_host_that_no_policy_selects_is_a_row() -> None:
    (row,) = rows(report(reached("web6")))
    assert (row["rule"], row["verdict"], row["reason"]) == ("", "unknown", "no policy selects this host")


def test_a_finding_has_its_own_verdict_and_a_pass_its_row() -> None:
    accepted = replace(leak(), verdict=Verdict.WAIVED, waiver="OPS-7")
    both = result(NO_SHELL, "h", leak(), accepted)
    found = rows(report(reached("h", both, result(WEB_OWNERS, "h"))))
    assert [(row["rule"], row["verdict"], row["waiver"]) for row in found] == [
        ("no-shell", "fail", ""),
        ("no-shell", "waived", "OPS-7"),
        ("owners", "pass", ""),
    ]


def test_hostile_strings_neither_run_nor_break_a_row() -> None:
    found = rows(CASES["hostile"]())
    assert len(found) == 3 * len(HOSTILE)
    for row in found:
        assert None not in row
        for cell in row.values():
            assert not cell.lstrip().startswith(FORMULA)


def test_a_process_cannot_forge_an_entry_in_the_owners_cell() -> None:
    cell = owners_cell({"comm": "x[1](root); nginx", "user": "me;=1"})
    assert cell.split("; ") == [r"x[1](root)\u003b nginx[0](me\u003b=1)"]
    assert owners_cell({"comm": "a"}, {"comm": "=cmd"}) == "a[0](www-data); '=cmd[1](www-data)"


def test_what_is_unknown_of_an_owner_is_a_question_mark() -> None:
    nobody = {"comm": UNKNOWN, "exe": UNKNOWN, "user": UNKNOWN, "euid": UNKNOWN, "uid": UNKNOWN}
    assert owners_cell(nobody) == "?[0](?)"
    assert owners_cell({"comm": UNKNOWN, "user": None}) == "dash[0](33)"


def test_a_list_of_owners_that_is_not_whole_says_so() -> None:
    assert owners_cell(state="kernel") == "(kernel)"
    assert owners_cell(state="unknown") == "(unknown)"
    assert owners_cell({"comm": "a"}, state="unknown") == "a[0](www-data); (unknown)"
    assert owners_cell(state="owned") == "(unknown)"


def test_who_only_could_receive_a_socket_is_told_apart() -> None:
    listener = replace(WEB, owners=(LEAK,), held_by=(SERVER,))
    (row,) = rows(report(reached("h", result(NO_SHELL, "h", leak(listener)))))
    assert row["owners"] == "held_by:python3[80](www-data); sh[81](www-data)"


def test_a_cell_too_long_for_a_spreadsheet_says_what_was_cut() -> None:
    (row,) = rows(report(failed("h", HostStatus.ERROR, "x" * 40_000)))
    assert len(row["reason"]) < 32_767
    assert row["reason"].endswith("(8000 more characters: see the JSON report)")


def test_denominators_are_in_the_sidecar() -> None:
    meta = json.loads(render("csv", CASES["verdicts"](), part=1))
    assert meta["schema"] == "fleetaudit.csv-meta/1"
    assert meta["summary"]["hosts"]["targeted"] == 6
    assert meta["container_hosts"] == 1
    assert "packet-filter forwarding not examined" in meta["run"]["notice"]
