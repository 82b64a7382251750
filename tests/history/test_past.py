"""What the history answers, on both engines: since when, who listened then, what changed, what may go."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select

from fleetaudit.errors import ConfigError
from fleetaudit.history.comparing import compare
from fleetaudit.history.diff import fold
from fleetaudit.history.past import judged, listening, looks, verdict_counts
from fleetaudit.history.pruning import doomed, prune
from fleetaudit.history.reading import find_run, findings_of, hosts_of, runs
from fleetaudit.history.schema import CONTENTS, FINDINGS, HOST_RUNS, HOSTS, JUDGEMENTS, VERDICTS
from fleetaudit.history.standing import standing
from fleetaudit.history.store import Store
from fleetaudit.history.times import span, told
from fleetaudit.model import Outcome
from tests.build import NGINX, SHELL, process, socket
from tests.history.keep import failed, host, keep

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def at(day: int) -> str:
    return f"2026-11-{day:02}T10:00:00.000Z"


def clean(name: str, day: int = 1) -> Outcome:
    return host(name, [socket(8080, (80,))], {80: process()}, collected_at=at(day))


def leaky(name: str, day: int = 1) -> Outcome:
    held = {80: process(), 81: process(SHELL, ppid=80)}
    return host(name, [socket(8080, (80, 81))], held, collected_at=at(day))


def other(name: str, day: int = 1) -> Outcome:
    return host(name, [socket(8080, (80,))], {80: process(NGINX)}, collected_at=at(day))


def story(store: Store) -> None:
    """web: clean, clean, leaky, not reached, leaky; each a day, from the first of November on."""
    for day, outcome in enumerate([clean, clean, leaky, None, leaky], 1):
        keep(store, f"r{day}", [outcome("web", day) if outcome else failed("web")], started=at(day))
    keep(store, "torn", [clean("web", 6)], started=at(6), finish=False)


def test_since(store: Store) -> None:
    story(store)
    with store.reading() as connection:
        found = standing(judged(connection, "shells", "web"))
        assert standing(judged(connection, "p/shells", "web")) == found
        with pytest.raises(ConfigError, match="judged a rule 'shell'"):
            judged(connection, "shell", "web")
        with pytest.raises(ConfigError, match="asked a host 'db'"):
            judged(connection, "shells", "db")
    assert (found.now.run_id, found.now.verdict, found.first.run_id) == ("r5", "fail", "r3")
    assert (found.runs, found.silent) == (2, 1)
    assert found.last_good is not None
    assert found.last_good.run_id == "r2"
    (finding,) = found.findings
    assert (finding.endpoint, finding.first.run_id) == ("tcp 0.0.0.0:8080", "r3")


def test_since_of_what_is_good_and_of_what_never_was(store: Store) -> None:
    keep(store, "r1", [leaky("a"), clean("b")], started=at(1))
    with store.reading() as connection:
        bad = standing(judged(connection, "shells", "a"))
        good = standing(judged(connection, "shells", "b"))
    assert (bad.now.verdict, bad.last_good, bad.before) == ("fail", None, None)
    assert (good.now.verdict, good.findings) == ("pass", ())


def test_who_listened_then(store: Store) -> None:
    story(store)
    with store.reading() as connection:
        past = looks(connection, "web")
        assert [(it.run_id, it.status) for it in past][:4] == [
            ("r1", "ok"),
            ("r2", "ok"),
            ("r3", "ok"),
            ("r4", "unreachable"),
        ]
        (found,) = listening(connection, past[2], 8080)
        assert found.words == "tcp 0.0.0.0:8080"
        assert sorted((held.pid, it.exe) for it, held in found.held) == [
            (80, "/usr/bin/python3.11"),
            (81, SHELL),
        ]
        assert listening(connection, past[2], 80) == ()
        assert listening(connection, past[3], None) == ()


def test_a_port_that_the_kernel_chose_is_found_by_its_number(store: Store) -> None:
    resolver = host("dns", [socket(40000, (9,), protocol="udp", state="UNCONN")], {9: process(NGINX)})
    keep(store, "r1", [resolver])
    with store.reading() as connection:
        (look,) = looks(connection, "dns")
        assert len(listening(connection, look, 40000)) == 1
        assert listening(connection, look, 40001) == ()


def test_two_runs_compared(store: Store) -> None:
    names = [f"web-{number}" for number in range(4)]
    keep(store, "old", [*map(clean, names), clean("gone"), clean("same"), clean("lost")])
    keep(store, "new", [*map(other, names), clean("same"), failed("lost"), clean("fresh")])
    with store.reading() as connection:
        old, new = find_run(connection, "old"), find_run(connection, "new")
        found = compare(connection, old, new)
        alone = compare(connection, old, new, host="web-2")
        assert compare(connection, old, old).changed == {}
    (drift,) = fold(found.changed.items())
    assert str(drift).endswith("python3.11 → nginx  on 4 hosts: web-0, web-1, web-2, web-3")
    assert found.compared == 5
    assert found.missing == {
        "fresh": "not in run old",
        "gone": "not in run new",
        "lost": "unreachable in run new: no route",
    }
    assert list(alone.changed) == ["web-2"]


def test_trend_of_a_rule(store: Store) -> None:
    keep(store, "r1", [clean("a"), clean("b")], started=at(1))
    keep(store, "r2", [leaky("a"), clean("b"), failed("c")], started=at(2))
    keep(store, "torn", [leaky("a")], started=at(3), finish=False)
    with store.reading() as connection:
        found = [(run.run_id, counts) for run, counts in verdict_counts(connection, "shells", 10)]
        assert found == [("r1", {"pass": 2}), ("r2", {"fail": 1, "pass": 1, "unknown": 1})]
        assert [run.run_id for run, _ in verdict_counts(connection, "shells", 1)] == ["r2"]


@pytest.mark.parametrize(
    ("keep_runs", "days", "gone"),
    [
        (2, None, ["r3", "r2", "r1", "torn"]),
        (None, 27.0, ["r2", "r1", "torn"]),
        (4, 27.0, ["r1", "torn"]),
        (10, 1.0, ["torn"]),
        (0, 0.0, ["r5", "r4", "r3", "r2", "r1", "torn"]),
    ],
)
def test_what_prune_takes(store: Store, keep_runs: int | None, days: float | None, gone: list[str]) -> None:
    story(store)
    age = None if days is None else timedelta(days=days)
    with store.reading() as connection:
        found = doomed(connection, NOW, keep=keep_runs, older_than=age)
    assert [run.run_id for run in found] == gone


def test_a_run_under_way_is_not_pruned(store: Store) -> None:
    keep(store, "under-way", [clean("web")], started="2026-11-29T23:00:00.000Z", finish=False)
    with store.reading() as connection:
        assert doomed(connection, NOW, keep=0, older_than=None) == []


def test_prune_leaves_the_rest_as_it_was(store: Store) -> None:
    keep(store, "r1", [leaky("a"), clean("b"), clean("only-here")], started=at(1))
    keep(store, "r2", [leaky("a"), other("b")], started=at(2))

    def all_of(name: str) -> object:
        with store.reading() as connection:
            run = find_run(connection, name)
            return hosts_of(connection, run), list(findings_of(connection, run))

    before = all_of("r2")
    with store.reading() as connection:
        doomed_keys = [find_run(connection, "r1").key]
    prune(store, doomed_keys)
    assert all_of("r2") == before
    with store.reading() as connection:
        assert [run.run_id for run in runs(connection)] == ["r2"]
        tables = (HOSTS, HOST_RUNS, JUDGEMENTS, VERDICTS, FINDINGS)
        counts = [connection.execute(select(func.count()).select_from(it)).scalar_one() for it in tables]
        assert counts == [2, 2, 2, 2, 1]
        used = {it.lasting for it in hosts_of(connection, find_run(connection, "r2"))}
        used |= {it.body for it in hosts_of(connection, find_run(connection, "r2"))}
        assert set(connection.execute(select(CONTENTS.c.id)).scalars()) == used
    with store.reading() as connection:
        prune_all = [run.key for run in runs(connection)]
    prune(store, prune_all)
    with store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(CONTENTS)).scalar_one() == 0


def test_times() -> None:
    assert span("2026-11-17") == ("2026-11-17T00:00:00.000Z", "2026-11-17T23:59:59.999Z")
    assert span("2026-11-17T14:30:00+02:00") == ("2026-11-17T12:30:00.000Z",) * 2
    assert told("2026-11-17T14:30:00.1234567890Z") in (None, "2026-11-17T14:30:00.123Z")
    assert told("yesterday") is None
    assert told("9999-12-31T23:59:59-14:00") is None
    for wrong in ("", "last tuesday", "2026-11-17T14:30:00", "2026-13-01", "9999-12-31"):
        with pytest.raises(ConfigError, match="write a day, 2026-11-17, or a moment"):
            span(wrong)
