"""Reading snapshots: tolerant where that is safe, and nowhere else."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import OutputError
from fleetaudit.model import UNKNOWN, HostStatus
from fleetaudit.snapshot import check, decode, decode_line
from fleetaudit.wire import json_schema
from tests.build import Wire, process, snapshot, socket, without

GOOD = snapshot([socket()], {80: process()})


def encode(wire: object) -> bytes:
    return json.dumps(wire).encode()


def test_absent_is_unknown_null_is_none() -> None:
    wire = snapshot([socket()], {80: without(process(unit=None), "shell")})
    (listener,) = decode(encode(wire)).listeners
    owner = listener.owners[0].process
    assert owner.unit is None
    assert owner.shell is UNKNOWN
    assert owner.container is UNKNOWN
    assert owner.self_audit is False


def test_owners_of_one_pid_are_merged_and_sorted() -> None:
    wire = snapshot([socket(owners=())], {80: process()})
    wire["sockets"][0]["owners"] = [
        {"pid": 90, "fds": [1]},
        {"pid": 80, "fds": [5]},
        {"pid": 80, "fds": [3, 5]},
    ]
    (listener,) = decode(encode(wire)).listeners
    assert [(owner.process.pid, owner.fds) for owner in listener.owners] == [(80, (3, 5)), (90, (1,))]


def test_unknown_fields_are_ignored() -> None:
    assert decode(encode(GOOD | {"new": 1, "host": {"name": "x", "more": []}})).host == "x"


@pytest.mark.parametrize("section", ["schema", "host", "coverage", "sockets", "processes"])
def test_what_describes_the_host_is_required(section: str) -> None:
    for read in (decode, check):
        with pytest.raises(OutputError, match=section):
            read(encode(without(GOOD, section)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"schema": "fleetaudit.snapshot/2"}',
        encode(GOOD)[:-1],
        encode(GOOD) + b"{}",
        encode(GOOD).replace(b'"web1"', b'"\x00"'),
        encode(GOOD).replace(b'"web1"', b'"\xff"'),
        encode(GOOD).replace(b'"web1"', b'"\\ud800"'),
        encode(GOOD).replace(b"8080", b"65536"),
        encode(GOOD).replace(b"8080", b'"8080"'),
        encode(GOOD).replace(b'"pid": 80', b'"pid": -1'),
        encode(GOOD).replace(b'"complete": true', b'"complete": "yes"'),
        b'{"schema": "fleetaudit.snapshot/1", "x": ' + b"[" * 200_000,
    ],
)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(OutputError):
        decode(data)


def test_control_and_bidi_characters_inside_strings_are_kept() -> None:
    wire = snapshot([socket()], {80: process(comm="a\u202eb\x1b[2J\n")})
    assert decode(encode(wire)).processes[80].comm == "a\u202eb\x1b[2J\n"


def test_an_outcome_line() -> None:
    wire: Wire = {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": "down"},
        "status": "unreachable",
        "detail": "refused",
        "inventory": {"groups": ["web", "all"], "variables": {"a": [1]}, "boundary": "container"},
    }
    found = decode_line(encode(wire))
    assert (found.host, found.status, found.detail, found.snapshot) == (
        "down",
        HostStatus.UNREACHABLE,
        "refused",
        None,
    )
    assert found.context.groups == ("web",)
    assert found.context.variables["a"] == (1,)
    for status in ("ok", "partial", "splendid"):
        with pytest.raises(OutputError):
            decode_line(encode(wire | {"status": status}))


def test_the_published_schema_is_the_structs_own() -> None:
    shipped = resources.files("fleetaudit").joinpath("schemas/snapshot.schema.json").read_text()
    assert json.loads(shipped) == json.loads(json.dumps(json_schema()))


_VALUES = st.sampled_from([None, -1, 0, 70000, "x", True, [], {}, [1], {"a": 1}, 1.5])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_schema_and_structs_agree_on_damaged_snapshots(data: st.DataObject) -> None:
    wire = json.loads(encode(GOOD))
    node = wire
    for _ in range(data.draw(st.integers(0, 3))):
        children = list(node.values()) if isinstance(node, dict) else list(node)
        nested = [child for child in children if isinstance(child, dict | list) and child]
        if not nested:
            break
        node = data.draw(st.sampled_from(nested))
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = data.draw(st.sampled_from(keys))
    if isinstance(node, dict) and data.draw(st.booleans()):
        del node[key]
    else:
        node[key] = data.draw(_VALUES)
    valid = jsonschema.Draft202012Validator(json_schema()).is_valid(wire)
    for read in (decode, check):
        try:
            read(encode(wire))
            accepted = True
        except OutputError:
            accepted = False
        assert accepted == valid, read.__name__
