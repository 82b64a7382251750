from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.pacing import Gate, Pace, Share, Throttle, parse_share


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [
        ("0", 10, 0),
        ("7", 3, 7),
        ("20%", 10, 2),
        ("20%", 9, 1),
        ("0%", 9, 0),
        ("100%", 9, 9),
        ("29%", 100, 29),  # not 28: no binary fractions
        (" 0.5% ", 1000, 5),
    ],
)
def test_a_share(text: str, total: int, count: int) -> None:
    assert parse_share(text).of(total) == count


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "nan%", "101%", "1e3", "5 %", "٣", "1%%", "1" * 30])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_share(text)


@given(st.integers(0, 100), st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_than_a_share_is_exact(percent: int, total: int, count: int) -> None:
    share = Share(Fraction(percent), percent=True)
    assert (count > share.of(total)) == (count * 100 > percent * total)


@given(
    st.floats(0.01, 1000),
    st.lists(st.floats(0, 5), min_size=2, max_size=40),
)
def test_connections_are_apart_and_never_before_they_are_asked_for(rate: float, steps: list[float]) -> None:
    throttle = Throttle(rate)
    now, given_out = 100.0, []
    for step in steps:
        now += step
        moment = throttle.reserve(now)
        assert moment is not None
        assert moment >= now
        given_out.append(moment)
    gaps = [later - earlier for earlier, later in itertools.pairwise(given_out)]
    assert min(gaps) >= 1 / rate - 1e-6
    assert given_out[0] == 100.0 + steps[0]  # the first one waits for nobody


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    throttle = Throttle(2)
    assert [throttle.reserve(now) for now in (0, 0, 100, 100)] == [0, 0.5, 100, 100.5]


def test_a_moment_that_comes_too_late_is_not_taken() -> None:
    throttle = Throttle(1)
    assert throttle.reserve(0) == 0
    assert throttle.reserve(0, latest=1.0) is None
    assert throttle.reserve(0, latest=1.1) == 1.0


def test_without_a_limit_nobody_waits() -> None:
    throttle = Throttle(None)
    assert [throttle.reserve(5) for _ in range(3)] == [5, 5, 5]


class Later:
    """A call in a thread of its own: has it come back, and with what."""

    def __init__(self, call: Callable[[], str]) -> None:
        self.result: str | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.result = self._call()

    def waits(self) -> bool:
        self._thread.join(0.05)
        return self._thread.is_alive()

    def comes_back(self) -> str | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.result


def test_a_batch_begins_when_the_one_before_is_done() -> None:
    gate = Gate(Pace(batch=2), time.monotonic)
    assert [gate.enter(), gate.enter()] == ["", ""]
    third = Later(gate.enter)
    assert third.waits()
    gate.leave(failed=False)
    assert third.waits()
    gate.leave(failed=True)
    assert third.comes_back() == ""
    assert gate.enter() == ""
    fifth = Later(gate.enter)
    assert fifth.waits()
    gate.close("over")
    assert fifth.comes_back() == "over"


def test_more_failures_than_allowed_close_the_gate_and_free_who_waits() -> None:
    gate = Gate(Pace(max_failed=1, batch=3), time.monotonic)
    assert [gate.enter() for _ in range(3)] == [""] * 3
    waiting = Later(gate.enter)
    gate.leave(failed=True)
    gate.leave(failed=False)
    assert waiting.waits()  # one failure is still allowed, and the batch is not done
    gate.leave(failed=True)
    reason = "not asked: 2 failed, more than --max-fail allows"
    assert waiting.comes_back() == reason
    gate.close("interrupted")
    assert gate.enter() == reason  # the first reason stays


def test_what_waits_for_its_moment_is_freed_by_closing() -> None:
    now = 0.0
    gate = Gate(Pace(per_second=0.001), lambda: now)
    assert gate.enter() == ""
    second = Later(gate.enter)
    assert second.waits()
    gate.close("over")
    assert second.comes_back() == "over"


def test_a_host_that_is_inside_may_connect_again_only_before_its_deadline() -> None:
    gate = Gate(Pace(per_second=1, max_failed=0), lambda: 10.0)
    assert gate.enter() == ""
    assert gate.reserve(latest=11.0) is None
    assert gate.reserve(latest=math.inf) == 11.0
    assert gate.reserve(latest=math.inf) == 12.0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 6), st.none() | st.integers(0, 10))
def test_whatever_the_pace_every_host_gets_an_answer(
    hosts: int, workers: int, batch: int, max_failed: int | None
) -> None:
    gate = Gate(Pace(max_failed, batch, per_second=5000), time.monotonic)
    taking, counting = threading.Lock(), threading.Lock()
    left = list(range(hosts))
    inside, refused, batches = 0, 0, []

    def work() -> None:
        nonlocal inside, refused
        while True:
            with taking:
                if not left:
                    return
                refusal = gate.enter()
                host = left.pop(0)
                with counting:
                    refused += bool(refusal)
                    inside += not refusal
                    if not refusal:
                        batches.append((host // batch, inside))
            if not refusal:
                with counting:
                    inside -= 1
                gate.leave(failed=host % 2 == 0)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert refused + len(batches) == hosts
    assert [number for number, _ in batches] == sorted(number for number, _ in batches)
    assert max(count for _, count in batches) <= min(batch, workers)
    if max_failed is None:
        assert refused == 0
