from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.agent import launch
from fleetaudit.agent.launch import AgentConversation
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.collection import Agent, Clock, Collected, Collection, CollectOptions, snapshot_line
from fleetaudit.conversation import Conversation, Reply, Say, Stream
from fleetaudit.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    DeadlineError,
    HostError,
    InventoryError,
    OutputError,
)
from fleetaudit.events import Observer
from fleetaudit.model import Become, Boundary, Host, HostContext, HostStatus, Secret
from fleetaudit.pacing import Pace
from fleetaudit.snapshot import decode_line
from fleetaudit.transport import SshOptions, Transports
from fleetaudit.transport.memory import Handler, MemoryTransport
from tests import running
from tests.conftest import Sshd, free_port, make_key, processes

SNAPSHOT: Mapping[str, Any] = {
    "schema": "fleetaudit.snapshot/1",
    "host": {"name": "what the host calls itself", "hostname": "h"},
    "coverage": {"complete": True, "gaps": []},
    "network_namespaces": [],
    "sockets": [],
    "processes": {},
    "added in some later version": [1.5, {"x": None}],
}


class Payload:
    """Sends the nonce as if it were the agent."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce

    def start(self) -> Say:
        return Say(self._nonce.encode(), eof=True)

    def heard(self, stream: Stream, data: bytes) -> Say:
        return Say()


def read(nonce: str, reply: Reply) -> bytes:
    if reply.exit_status == -1:
        raise ConnectError("connection lost")
    if not reply.stdout.startswith(nonce.encode()):
        raise OutputError("no frame of this run")
    return reply.stdout[len(nonce) :]


OPTIONS = CollectOptions(forks=4, deadline=20)
# Goes on for ever, and ends once nobody listens.
ENDLESS = "while sleep 0.05; do echo {}; done"
AGENT = Agent(lambda host, nonce: f"ask {host.name}", lambda host, nonce: Payload(nonce), read)
REMOTE = Agent(
    lambda host, nonce: f"cat; echo '{json.dumps(SNAPSHOT)}'", lambda host, nonce: Payload(nonce), read
)


class Notes(Observer):
    """Writes everything down."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: dict[str, HostStatus] = {}
        self.run: list[str | int] = []

    def run_started(self, targets: int) -> None:
        self.run.append(targets)

    def host_started(self, host: str) -> None:
        self.started.append(host)

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        assert host not in self.finished
        assert seconds >= 0
        self.finished[host] = status

    def run_finished(self) -> None:
        self.run.append("finished")


def good(host: Host, command: str, conversation: Conversation) -> Reply:
    assert command == f"ask {host.name}"
    return Reply(0, conversation.start().data + json.dumps(SNAPSHOT).encode(), b"")


def hosts(count: int, **fields: Any) -> list[Host]:
    return [Host(f"h{number:04}", f"h{number:04}", transport="memory", **fields) for number in range(count)]


@contextmanager
def collection(
    targets: Sequence[Host],
    handler: Handler = good,
    agent: Agent = AGENT,
    options: CollectOptions = OPTIONS,
    **more: Any,
) -> Iterator[Collection]:
    numbers = itertools.count()
    ssh = more.pop("ssh", SshOptions(use_agent=False))
    more = {"new_nonce": lambda: f"nonce{next(numbers)};", "options": options, **more}
    with (
        Transports(ssh, {"memory": MemoryTransport(handler)}) as transports,
        Collection(targets, transports, agent, **more) as running,
    ):
        yield running


def collect(targets: Sequence[Host], *args: Any, **more: Any) -> dict[str, Collected]:
    with collection(targets, *args, **more) as running:
        found = list(running)
    assert sorted(item.outcome.host for item in found) == sorted(host.name for host in targets)
    return {item.outcome.host: item for item in found}


def only(targets: Sequence[Host], *args: Any, **more: Any) -> Collected:
    (found,) = collect(targets, *args, **more).values()
    return found


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = running.threads()
    yield
    assert running.threads() <= before


# ---------------------------------------------------------------- one host


def test_a_snapshot_becomes_a_line_under_the_inventory_name() -> None:
    context = HostContext(
        ("prod", "web"),
        MappingProxyType({"fleetaudit_ports": (80, 443), "nested": MappingProxyType({"a": ({"b": 1},)})}),
        Boundary.CONTAINER,
    )
    found = only(hosts(1, context=context), clock=Clock(wall=lambda: 1795341600.1239))
    line = json.loads(found.line)
    assert line["host"] == {"name": "h0000", "hostname": "h"}
    assert line["inventory"] == {
        "groups": ["prod", "web"],
        "variables": {"fleetaudit_ports": [80, 443], "nested": {"a": [{"b": 1}]}},
        "boundary": "container",
    }
    assert line["received_at"] == "2026-11-22T10:00:00.123Z"
    assert line["added in some later version"] == [1.5, {"x": None}]
    assert b"\n" not in found.line
    assert decode_line(found.line) == found.outcome
    assert found.outcome.status is HostStatus.OK
    assert found.outcome.snapshot is not None


def test_a_failed_host_becomes_a_line_that_reads_back() -> None:
    def refuse(*_: object) -> Reply:
        raise AuthError("no\x1b[2J key\nfits")

    context = HostContext(("db",), {"fleetaudit_x": 1})
    found = only(hosts(1, context=context), refuse)
    assert json.loads(found.line) == {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": "h0000"},
        "status": "auth_failed",
        "detail": "no\\u001b[2J key fits",
        "inventory": {"groups": ["db"], "variables": {"fleetaudit_x": 1}, "boundary": "host"},
        "received_at": found.outcome.received_at,
    }
    assert decode_line(found.line) == found.outcome


HOST_ERRORS: list[type[HostError]] = [HostError, *HostError.__subclasses__()]


@pytest.mark.parametrize(
    ("error", "status"),
    [(kind("why"), HostStatus(kind.status)) for kind in HOST_ERRORS],
)
def test_every_host_error_is_a_status(error: HostError, status: HostStatus) -> None:
    def fail(*_: object) -> Reply:
        raise error

    outcome = only(hosts(1), fail).outcome
    assert (outcome.status, outcome.detail) == (status, "why")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"host": 1}',
        b'{"host": null, "schema": "fleetaudit.snapshot/1"}',
        b'{"schema": "fleetaudit.snapshot/2", "host": {}}',
        b'{"schema": "fleetaudit.snapshot/1", "host": {}}',
        b'{"schema": "fleetaudit.outcome/1", "host": {}, "status": "ok", "detail": ""}',
        b"[" * 100_000,
        b'{"host":' * 50_000,
        json.dumps(SNAPSHOT).encode() + b"{}",
    ],
    ids=repr,
)
def test_whatever_is_not_one_valid_snapshot_is_bad_output(answer: bytes) -> None:
    def nonsense(host: Host, command: str, conversation: Conversation) -> Reply:
        return Reply(0, conversation.start().data + answer, b"")

    outcome = only(hosts(1), nonsense).outcome
    assert outcome.status is HostStatus.BAD_OUTPUT
    assert outcome.snapshot is None
    assert outcome.detail
    assert len(outcome.detail) <= 500


def test_a_host_cannot_choose_its_name_context_or_time() -> None:
    forged = {
        **SNAPSHOT,
        "received_at": "1999",
        "inventory": {"groups": ["trusted"], "boundary": "container"},
    }

    def forge(host: Host, command: str, conversation: Conversation) -> Reply:
        return Reply(0, conversation.start().data + json.dumps(forged, indent=1).encode(), b"")

    found = only(hosts(1), forge, clock=Clock(wall=lambda: 0.0))
    assert found.outcome.context == HostContext()
    assert found.outcome.received_at == "1970-01-01T00:00:00.000Z"
    assert decode_line(found.line) == found.outcome
    assert b"\n" not in found.line
    assert b"trusted" not in found.line


def test_a_surprise_is_an_error_with_its_text_and_without_secrets() -> None:
    secrets = {"password": Secret("hunter2"), "become": Become(password=Secret("letmein"))}

    def surprise(*_: object) -> Reply:
        raise ZeroDivisionError("hunter2 by\nletmein " + "x" * 1000)

    outcome = only(hosts(1, **secrets), surprise).outcome
    assert outcome.status is HostStatus.ERROR
    assert outcome.detail.startswith("ZeroDivisionError: *** by *** xxx")
    assert len(outcome.detail) == 500


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps({"host": {}, "x": value}).encode())
    | st.binary()
)
def test_a_line_is_one_line_of_json_or_bad_output(data: bytes) -> None:
    try:
        line = snapshot_line(data, Host("h", "h"), "now")
    except OutputError:
        return
    assert b"\n" not in line
    assert json.loads(line)["host"]["name"] == "h"


# ---------------------------------------------------------------- many hosts


def test_outcomes_come_in_the_order_of_completion() -> None:
    fast = threading.Event()

    def slow_first(host: Host, command: str, conversation: Conversation) -> Reply:
        if host.name == "h0000":
            assert fast.wait(10)
        return good(host, command, conversation)

    with collection(hosts(3), slow_first) as running:
        assert {next(running).outcome.host, next(running).outcome.host} == {"h0001", "h0002"}
        fast.set()
        assert next(running).outcome.host == "h0000"
        assert list(running) == []


def test_never_more_than_forks_at_a_time_and_every_nonce_once() -> None:
    lock = threading.Lock()
    now, most, nonces = 0, 0, set()

    def count(host: Host, command: str, conversation: Conversation) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            nonces.add(conversation.start().data)
        time.sleep(0.005)
        with lock:
            now -= 1
        return good(host, command, conversation)

    assert len(collect(hosts(40), count)) == 40
    assert 2 <= most <= 4
    assert len(nonces) == 40


def test_a_slow_reader_slows_the_hosts_down() -> None:
    asked: list[str] = []

    def note(host: Host, command: str, conversation: Conversation) -> Reply:
        asked.append(host.name)
        return good(host, command, conversation)

    with collection(hosts(200), note) as running:
        next(running)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert len(asked) <= 1 + 4 + 4 + 1
            time.sleep(0.02)
        assert len(list(running)) == 199


def test_one_host_s_failure_is_its_own() -> None:
    def some(host: Host, command: str, conversation: Conversation) -> Reply:
        if host.name.endswith("3"):
            raise MemoryError("no more")
        if host.name.endswith("4"):
            raise DeadlineError("late")
        return good(host, command, conversation)

    notes = Notes()
    found = collect(hosts(20), some, observer=notes)
    counts = [item.outcome.status for item in found.values()]
    assert (counts.count(HostStatus.OK), counts.count(HostStatus.ERROR)) == (16, 2)
    assert counts.count(HostStatus.TIMEOUT) == 2
    assert notes.finished == {name: item.outcome.status for name, item in found.items()}
    assert sorted(notes.started) == sorted(found)
    assert notes.run == [20, "finished"]


def test_no_hosts() -> None:
    notes = Notes()
    assert collect([], observer=notes) == {}
    assert notes.run == [0, "finished"]


def test_two_targets_of_one_name_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="one name"), collection(hosts(1) * 2):
        pass


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (Host("h", "h", transport="winrm"), InventoryError),
        (Host("h", "h", transport="memory", context=HostContext(variables={"x": object()})), InventoryError),
        (Host("h", "h", transport="memory", context=HostContext(variables={"x": "\udcff"})), InventoryError),
        (Host("h", "h", transport="ssh"), ConfigError),
    ],
)
def test_what_cannot_work_is_said_before_any_host_is_asked(
    tmp_path: Path, target: Host, kind: type[ConfigError]
) -> None:
    asked: list[str] = []

    def note(host: Host, command: str, conversation: Conversation) -> Reply:
        asked.append(host.name)
        return good(host, command, conversation)

    ssh = SshOptions(known_hosts=(str(tmp_path),))  # a directory
    with pytest.raises(kind), collection([*hosts(3), target], note, ssh=ssh):
        pass
    assert asked == []


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize(("retries", "status"), [(0, HostStatus.UNREACHABLE), (1, HostStatus.OK)])
def test_connection_errors_are_tried_again_under_a_new_nonce(retries: int, status: HostStatus) -> None:
    nonces: list[bytes] = []

    def flaky(host: Host, command: str, conversation: Conversation) -> Reply:
        nonces.append(conversation.start().data)
        return Reply(-1, b"", b"") if len(nonces) == 1 else good(host, command, conversation)

    assert only(hosts(1), flaky, options=CollectOptions(retries=retries)).outcome.status is status
    assert len(nonces) == len(set(nonces)) == 1 + retries


def test_other_errors_are_not_tried_again() -> None:
    attempts: list[str] = []

    def refuse(host: Host, *_: object) -> Reply:
        attempts.append(host.name)
        raise AuthError("no")

    only(hosts(1), refuse, options=CollectOptions(retries=5))
    assert attempts == ["h0000"]


def test_the_deadline_is_over_all_attempts() -> None:
    deadlines: list[float] = []

    class Noting(MemoryTransport):
        def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
            deadlines.append(deadline)
            raise ConnectError("refused")

    began = time.monotonic()
    with (
        Transports(SshOptions(), {"memory": Noting(good)}) as transports,
        Collection(
            hosts(1),
            transports,
            AGENT,
            new_nonce=lambda: "n",
            options=CollectOptions(retries=50, deadline=1.2),
        ) as running,
    ):
        assert next(running).outcome.status is HostStatus.UNREACHABLE
    assert len(deadlines) == 2  # 0.5 s pause; the next, of 1 s, would end too late
    assert len(set(deadlines)) == 1
    assert time.monotonic() - began < 1.2


@pytest.mark.parametrize(("chance", "attempts"), [(0.0, 4), (0.5, 3), (1.0, 2)])
def test_pauses_double_and_spread_by_chance(chance: float, attempts: int) -> None:
    """Within 2 s there is room for pauses of 0.25, 0.5, 1 s; of 0.5, 1 s; or of 0.75 s (the next: 1.5 s)."""
    asked: list[float] = []

    def refuse(*_: object) -> Reply:
        asked.append(time.monotonic())
        raise ConnectError("refused")

    options = CollectOptions(retries=10, deadline=2.0)
    with collection(hosts(1), refuse, options=options, chance=lambda: chance) as running:
        assert next(running).outcome.status is HostStatus.UNREACHABLE
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    wanted = [0.5 * 2**number * (0.5 + chance) for number in range(attempts - 1)]
    assert len(pauses) == len(wanted)
    assert all(pause >= least for pause, least in zip(pauses, wanted, strict=True))


# ---------------------------------------------------------------- pace


def test_the_stop_switch_finishes_what_is_under_way_and_begins_nothing_new() -> None:
    inside, released = threading.Barrier(5), threading.Event()

    def fail_first(host: Host, command: str, conversation: Conversation) -> Reply:
        inside.wait(10)
        if host.name == "h0000":
            raise AuthError("no")
        assert released.wait(10)
        return good(host, command, conversation)

    options = replace(OPTIONS, pace=Pace(max_failed=0))
    notes = Notes()
    with collection(hosts(20), fail_first, options=options, observer=notes) as running:
        inside.wait(10)
        found = [next(running).outcome for _ in range(17)]
        released.set()
        found += [item.outcome for item in running]
    assert [outcome.status for outcome in found] == [
        HostStatus.AUTH_FAILED,
        *[HostStatus.NOT_ATTEMPTED] * 16,
        *[HostStatus.OK] * 3,
    ]
    assert {outcome.detail for outcome in found[1:17]} == {"not asked: 1 failed, more than --max-fail allows"}
    assert notes.finished == {outcome.host: outcome.status for outcome in found}
    assert len(notes.started) == 4


@pytest.mark.parametrize(("allowed", "asked"), [(0, 1), (2, 3), (10, 11), (11, 12), (12, 12)])
def test_as_many_failures_as_allowed_do_not_stop_the_run(allowed: int, asked: int) -> None:
    def refuse(host: Host, *_: object) -> Reply:
        raise AuthError("no")

    options = CollectOptions(forks=1, pace=Pace(max_failed=allowed))
    notes = Notes()
    collect(hosts(12), refuse, options=options, observer=notes)
    assert len(notes.started) == asked


def test_batches_go_one_after_the_other_in_the_order_of_the_hosts() -> None:
    events: list[tuple[str, int]] = []

    def note(host: Host, command: str, conversation: Conversation) -> Reply:
        events.append(("begin", int(host.name[1:]) // 3))
        reply = good(host, command, conversation)
        events.append(("end", int(host.name[1:]) // 3))
        return reply

    assert len(collect(hosts(10), note, options=replace(OPTIONS, pace=Pace(batch=3)))) == 10
    for number in range(1, 4):
        assert events.index(("begin", number)) > len(events) - 1 - events[::-1].index(("end", number - 1))


def test_a_crash_of_a_host_does_not_hold_its_batch() -> None:
    def crash(host: Host, command: str, conversation: Conversation) -> Reply:
        raise MemoryError

    assert len(collect(hosts(9), crash, options=replace(OPTIONS, pace=Pace(batch=2)))) == 9


def test_connections_are_throttled_attempts_of_one_host_too() -> None:
    moments: list[float] = []

    def refuse(*_: object) -> Reply:
        moments.append(time.monotonic())
        raise ConnectError("refused")

    options = CollectOptions(forks=8, deadline=20, retries=1, pace=Pace(per_second=20))
    collect(hosts(8), refuse, options=options, chance=lambda: -0.5)  # no pause but the throttle's
    assert len(moments) == 16
    assert moments[-1] - moments[0] >= 15 / 20 - 0.02


def test_a_deadline_begins_when_the_host_is_asked_and_not_while_it_waits_for_its_turn() -> None:
    options = CollectOptions(forks=4, deadline=0.2, pace=Pace(per_second=10))
    found = collect(hosts(6), options=options)
    assert {item.outcome.status for item in found.values()} == {HostStatus.OK}


def test_an_interrupt_ends_waiting_for_a_turn() -> None:
    began = time.monotonic()
    with collection(hosts(50), options=replace(OPTIONS, pace=Pace(per_second=0.01))) as running:
        assert next(running).outcome.status is HostStatus.OK
        running.stop()
        assert {item.outcome.detail for item in running} == {"interrupted before it was asked"}
    assert time.monotonic() - began < 10


# ---------------------------------------------------------------- interrupts


def test_stop_accounts_for_every_host() -> None:
    started = threading.Barrier(5)
    released = threading.Event()

    def block(host: Host, command: str, conversation: Conversation) -> Reply:
        if host.name == "h0000":
            return good(host, command, conversation)
        started.wait(10)
        released.wait(10)
        if host.name == "h0001":
            return good(host, command, conversation)  # answered all the same
        raise ConnectError("cancelled")

    notes = Notes()
    with collection(hosts(30), block, observer=notes) as running:
        found = [next(running)]
        started.wait(10)
        running.stop()
        released.set()
        found += list(running)
    statuses = {item.outcome.host: item.outcome.status for item in found}
    assert len(statuses) == 30
    assert notes.finished == statuses
    assert [name for name, status in statuses.items() if status is HostStatus.OK] == ["h0000", "h0001"]
    assert set(statuses.values()) == {HostStatus.OK, HostStatus.NOT_ATTEMPTED}
    assert {item.outcome.detail for item in found} == {
        "",
        "interrupted before it was asked",
        "interrupted before it answered",
    }
    assert notes.run == [30, "finished"]


def test_leaving_early_finishes_the_run() -> None:
    notes = Notes()
    with collection(hosts(100), observer=notes) as running:
        next(running)
    assert len(notes.finished) == 100
    assert notes.run == [100, "finished"]


def test_a_signal_handler_may_stop_while_the_consumer_waits(sshd: Sshd) -> None:
    """Ctrl-C over real SSH: what has answered is kept, the rest is cut off, and soon."""
    hang = replace(
        REMOTE, command=lambda host, nonce: ENDLESS if "hang" in host.name else REMOTE.command(host, nonce)
    )
    targets = [sshd.host("quick"), *(sshd.host(f"hang{number}") for number in range(3))]
    ssh = SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False)
    found: list[Collected] = []
    with collection(targets, agent=hang, ssh=ssh) as running:
        previous = signal.signal(signal.SIGINT, lambda *_: running.stop())
        try:
            found.append(next(running))
            timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            began = time.monotonic()
            found += list(running)
            timer.join()
        finally:
            signal.signal(signal.SIGINT, previous)
    assert time.monotonic() - began < 3
    assert {item.outcome.host: item.outcome.status for item in found} == {
        "quick": HostStatus.OK,
        **{f"hang{number}": HostStatus.NOT_ATTEMPTED for number in range(3)},
    }


def test_a_keyboard_interrupt_leaves_nothing_behind(sshd: Sshd, wait_until: Callable[..., None]) -> None:
    marker = f"interrupted-{os.getpid()}"
    hang = replace(REMOTE, command=lambda host, nonce: ENDLESS.format(marker))
    targets = [sshd.host(f"hang{number}") for number in range(3)]
    ssh = SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False)
    notes = Notes()

    def consume() -> None:
        with collection(targets, agent=hang, ssh=ssh, observer=notes) as running:
            wait_until(lambda: len(processes(marker)) == 3, "not every host was started")
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            next(running)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            consume()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert set(notes.finished.values()) == {HostStatus.NOT_ATTEMPTED}
    assert notes.run == [3, "finished"]
    wait_until(lambda: not processes(marker), "remote commands go on")


# ---------------------------------------------------------------- over SSH


def test_a_mixed_fleet_over_real_ssh(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    fleet = [
        *(sshd.host(f"good{number}") for number in range(6)),
        replace(sshd.host("closed"), port=free_port()),
        replace(sshd.host("wrong-key"), private_key=str(tmp_path / "wrong")),
        replace(sshd.host("unknown"), address="localhost"),
        replace(sshd.host("here"), transport="local"),
    ]
    ssh = SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False)
    found = collect(fleet, agent=REMOTE, ssh=ssh)
    statuses = {name: item.outcome.status.value for name, item in found.items()}
    assert statuses == {
        **{f"good{number}": "ok" for number in range(6)},
        "closed": "unreachable",
        "wrong-key": "auth_failed",
        "unknown": "host_key_failed",
        "here": "ok",
    }


def test_the_real_agent_here_and_over_ssh(sshd: Sshd) -> None:
    agent = Agent(
        launch.command,
        lambda host, nonce: AgentConversation(host, nonce, build(AgentConfig(nonce=nonce, name=host.name))),
        launch.read_frame,
    )
    fleet = [sshd.host("remote"), replace(sshd.host("here"), transport="local")]
    ssh = SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False)
    found = collect(fleet, agent=agent, ssh=ssh, new_nonce=lambda: secrets.token_hex(16))
    for item in found.values():
        assert item.outcome.detail == ""
        assert item.outcome.snapshot is not None
        ports = {listener.port for listener in item.outcome.snapshot.listeners}
        assert sshd.port in ports
