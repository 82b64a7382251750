"""Ask many hosts at once; every one ends as exactly one outcome, whatever happens to it."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import msgspec

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import ConnectError, HostError, InventoryError, OutputError
from fleetaudit.events import Observer, Silent
from fleetaudit.model import Host, HostContext, HostStatus, Outcome
from fleetaudit.pacing import Gate, Pace
from fleetaudit.snapshot import check, decode_line
from fleetaudit.text import visible
from fleetaudit.transport import Transports
from fleetaudit.wire import OUTCOME_SCHEMA, WireOutcome, WireOutcomeHost, inventory_of

DETAIL_LENGTH = 500
# Before trying a lost connection again; doubled each time, and up to half of it more or less, so that
# hosts which were lost together do not come back together.
_PAUSE_SECONDS = 0.5
# How often a waiting consumer looks whether the workers are alive at all.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Clock:
    """Where times come from: seconds that only grow (the clock of deadlines), and seconds since 1970."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Agent:
    """How to ask one host: its command line and conversation under a nonce, and the document in the reply.

    `read` raises a HostError when the reply is not one whole answer to that nonce. `stale` says how the agent
    that wrote a document is another than expected, or None.
    """

    command: Callable[[Host, str], str]
    conversation: Callable[[Host, str], Conversation]
    read: Callable[[str, Reply], bytes]
    stale: Callable[[Host, Mapping[str, object]], str | None] = lambda host, document: None


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """`forks` hosts at a time; `deadline` seconds for one host, over all its attempts; see `Pace`."""

    forks: int = 50
    deadline: float = 60.0
    retries: int = 0
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Collected:
    """How one host ended, and its line in a snapshot file (no newline). OK is a valid snapshot."""

    host: str
    status: HostStatus
    detail: str
    line: bytes

    @property
    def outcome(self) -> Outcome:
        """What the line says, read anew each time: a run that keeps lines need not pay for it."""
        return decode_line(self.line)


class Collection:
    """One collection over a fleet: a context manager, and an iterator in completion order.

    After `stop` the iterator still yields one outcome for each remaining host, soon: what is under way
    is cut off, what has not begun is `not_attempted`. So an interrupted run can be written whole: let a
    signal handler call `stop` and go on iterating. (A KeyboardInterrupt instead may land between two
    hosts' outcomes and lose one.) Leaving the context stops, and ends every thread. The transports
    stay the caller's to close. `chance` gives numbers from 0 to 1 and spreads the pauses between attempts.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        transports: Transports,
        agent: Agent,
        *,
        new_nonce: Callable[[], str],
        options: CollectOptions = CollectOptions(),
        clock: Clock = Clock(),
        chance: Callable[[], float] = lambda: 0.5,
        observer: Observer | None = None,
    ) -> None:
        self._hosts = hosts
        self._transports = transports
        self._agent = agent
        self._new_nonce = new_nonce
        self._options = options
        self._clock = clock
        self._chance = chance
        self._observer = observer or Silent()
        self._stopping = threading.Event()
        self._taking = threading.Lock()
        self._upcoming = deque(hosts)
        self._gate = Gate(options.pace, clock.monotonic)
        self._pending = {host.name: host for host in hosts}
        if len(self._pending) != len(hosts):
            raise ValueError("two targets have one name")
        # Bounded, so that a slow reader slows the hosts down instead of filling memory.
        self._results: queue.Queue[tuple[Collected, float]] = queue.Queue(max(options.forks, 1))
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> Collection:
        """Begin. Raises ConfigError, before any host is asked, for options or variables that cannot work."""
        for host in self._hosts:
            _check_context(host)
        self._transports.prepare(self._hosts)
        self._observer.run_started(len(self._hosts))
        for number in range(min(max(self._options.forks, 1), len(self._hosts))):
            worker = threading.Thread(target=self._work, name=f"fleetaudit-host-{number}", daemon=True)
            try:
                worker.start()
            except RuntimeError:  # the machine gives no more threads: fewer at a time, unless none
                if not self._workers:
                    raise
                break
            self._workers.append(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending:
            self.stop()
        try:
            for _ in self:
                pass
            for worker in self._workers:
                worker.join()
        finally:
            self._observer.run_finished()

    def __iter__(self) -> Iterator[Collected]:
        return self

    def __next__(self) -> Collected:
        """The next host that is done. Tells the observer, in the caller's thread."""
        while self._pending:
            with contextlib.suppress(queue.Empty):
                collected, seconds = self._results.get(timeout=_LOOK_SECONDS)
                return self._delivered(collected, seconds)
            if self._results.empty() and not any(worker.is_alive() for worker in self._workers):
                host = next(iter(self._pending.values()))
                return self._delivered(self._failed(host, HostStatus.NOT_ATTEMPTED, "interrupted"), 0.0)
        raise StopIteration

    def stop(self) -> None:
        """End early: from any thread, or from a signal handler of the thread that iterates."""
        self._stopping.set()
        self._gate.close("interrupted before it was asked")
        self._transports.cancel()

    def _delivered(self, collected: Collected, seconds: float) -> Collected:
        del self._pending[collected.host]
        self._observer.host_finished(collected.host, collected.status, collected.detail, seconds)
        return collected

    # ------------------------------------------------------------ in the workers

    def _work(self) -> None:
        while True:
            with self._taking:  # one at a time waits at the gate, so that hosts begin in their order
                if not self._upcoming:
                    return
                refusal = self._gate.enter()
                host = self._upcoming.popleft()
            began = self._clock.monotonic()
            collected = (
                self._failed(host, HostStatus.NOT_ATTEMPTED, refusal) if refusal else self._visit(host)
            )
            self._results.put((collected, self._clock.monotonic() - began))

    def _visit(self, host: Host) -> Collected:
        failed = True
        try:
            self._observer.host_started(host.name)
            collected = self._with_retries(host)
            failed = False
        except HostError as error:
            if self._stopping.is_set():
                return self._failed(host, HostStatus.NOT_ATTEMPTED, "interrupted before it answered")
            return self._failed(host, HostStatus(error.status), str(error))
        except BaseException as error:  # the per-host border: one host's surprise must not end the run
            return self._failed(host, HostStatus.ERROR, f"{type(error).__name__}: {error}")
        else:
            return collected
        finally:
            self._gate.leave(failed=failed)

    def _with_retries(self, host: Host) -> Collected:
        deadline = self._clock.monotonic() + self._options.deadline
        for attempt in range(self._options.retries):
            try:
                return self._ask(host, deadline)
            except ConnectError:
                pause = _PAUSE_SECONDS * 2**attempt * (0.5 + self._chance())
                if not self._may_try_again(pause, deadline):
                    raise
        return self._ask(host, deadline)

    def _may_try_again(self, pause: float, deadline: float) -> bool:
        if self._clock.monotonic() + pause >= deadline or self._stopping.wait(pause):
            return False
        moment = self._gate.reserve(deadline)
        return moment is not None and not self._stopping.wait(max(moment - self._clock.monotonic(), 0))

    def _ask(self, host: Host, deadline: float) -> Collected:
        nonce = self._new_nonce()
        conversation = self._agent.conversation(host, nonce)
        transport = self._transports.get(host.transport)
        reply = transport.run(host, self._agent.command(host, nonce), conversation, deadline)
        line = snapshot_line(self._agent.read(nonce, reply), host, self._now(), self._agent.stale)
        check(line)
        return Collected(host.name, HostStatus.OK, "", line)

    def _failed(self, host: Host, status: HostStatus, detail: str) -> Collected:
        detail = _one_line(detail, host)
        outcome = Outcome(host.name, status, detail, host.context, received_at=self._now())
        return Collected(host.name, status, detail, outcome_line(outcome))

    def _now(self) -> str:
        moment = datetime.fromtimestamp(self._clock.wall(), timezone.utc)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


# ---------------------------------------------------------------- lines


def snapshot_line(
    data: bytes,
    host: Host,
    received_at: str,
    stale: Callable[[Host, Mapping[str, object]], str | None] = lambda host, document: None,
) -> bytes:
    """What a host sent as a line of a snapshot file: under the inventory's name, with its context.

    What `stale` says of the agent is noted in it; what the host itself says there is not believed.
    Raises OutputError when it is not a JSON object about a host. The rest is `snapshot.decode`'s to judge.
    """
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"not a JSON object: {visible(str(error))[:300]}") from error
    if not isinstance(document.get("host"), dict):
        raise OutputError("the answer says nothing about its host")
    agent = document.setdefault("agent", {})
    if isinstance(agent, dict):  # else the check of the snapshot refuses it
        agent["stale"] = stale(host, document)
        if agent["stale"] is None:
            del agent["stale"]
    document["host"]["name"] = host.name
    document["inventory"] = inventory_of(host.context)
    document["received_at"] = received_at
    return _encode(document)


def outcome_line(outcome: Outcome) -> bytes:
    """A host without a snapshot as a line of a snapshot file."""
    return _encode(
        WireOutcome(
            schema=OUTCOME_SCHEMA,
            host=WireOutcomeHost(outcome.host),
            status=outcome.status,
            detail=outcome.detail,
            inventory=inventory_of(outcome.context),
            received_at=outcome.received_at,
        )
    )


def context_digest(context: HostContext) -> str:
    """The same for two contexts exactly when policies see no difference between them."""
    inventory = msgspec.json.encode(inventory_of(context), enc_hook=_plain, order="deterministic")
    return hashlib.sha256(inventory).hexdigest()[:16]


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: object) -> object:
    """Frozen values of the model that msgspec does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _check_context(host: Host) -> None:
    try:
        outcome_line(Outcome(host.name, HostStatus.NOT_ATTEMPTED, context=host.context))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InventoryError(
            f"variables of host {visible(host.name)} cannot be written as JSON: {error}"
        ) from error


def _one_line(detail: str, host: Host) -> str:
    """Safe to print, short, and without the host's passwords, whoever quoted them."""
    passwords = [host.password, host.become.password if host.become else None]
    for password in passwords:
        if password is not None and password.reveal():
            detail = detail.replace(password.reveal(), "***")
    detail = visible(" ".join(detail.split()))
    return detail if len(detail) <= DETAIL_LENGTH else detail[: DETAIL_LENGTH - 1] + "…"
