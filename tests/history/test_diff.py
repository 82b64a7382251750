"""Drift in words: what is a change, what is none, and what was only not seen."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.derive import derive
from fleetaudit.history.diff import KINDS, Change, changes, fold
from fleetaudit.history.normal import (
    Normal,
    endpoint_words,
    lasting_part,
    listener_words,
    normal_and_volatile,
)
from fleetaudit.model import Snapshot
from tests.build import NGINX, PYTHON, SHELL, Wire, process, snapshot, socket
from tests.history.keep import host

OPENRESTY = "/usr/local/openresty/nginx/sbin/openresty"


def seen(sockets: list[Wire], processes: dict[int, Wire], **fields: Any) -> Snapshot:
    found = derive(host("h", sockets, processes, **fields)).snapshot
    assert found is not None
    return found


def normal(sockets: list[Wire], processes: dict[int, Wire], **fields: Any) -> Normal:
    return normal_and_volatile(seen(sockets, processes, **fields))[0]


def words(before: Normal, after: Normal, **options: bool) -> list[str]:
    return [str(change) for change in changes(before, after, **options)]


WEB = normal([socket(80, (9,))], {9: process(NGINX, user="root")})
EMPTY = normal([], {})


def test_opened_and_closed() -> None:
    assert words(EMPTY, WEB) == ["opened: tcp 0.0.0.0:80  nginx (root)"]
    assert words(WEB, EMPTY) == ["closed: tcp 0.0.0.0:80  nginx"]
    assert words(WEB, WEB) == []


def test_a_restart_and_a_larger_pool_of_workers_are_no_change() -> None:
    def pool(first: int, workers: int) -> Normal:
        pids = range(first + 1, first + 1 + workers)
        found = {pid: process(NGINX, ppid=first, start_time=pid) for pid in pids}
        found[first] = process(NGINX, user="root", start_time=first, argv=["nginx", str(first)])
        return normal([socket(80, (first, *pids), inode=first)], found)

    assert pool(100, 2) == pool(4000, 9)


def test_a_container_made_anew_is_no_change() -> None:
    def contained(identity: str, netns: int) -> Normal:
        group = f"/system.slice/docker-{identity * 64}.scope"
        space = [{"id": 1, "host": True, "name": None}, {"id": netns, "host": False, "name": None}]
        held = {9: process(NGINX, cgroup=group)}
        return normal([socket(80, (9,), netns=netns)], held, network_namespaces=space)

    one = contained("a", 77)
    assert one == contained("b", 99)
    assert one.holders[0].container == "docker"
    assert words(EMPTY, one) == ["opened: tcp 0.0.0.0:80 in network namespace (unnamed)  nginx (www-data)"]


def test_a_port_that_the_kernel_chose_is_no_change() -> None:
    def resolver(port: int) -> Snapshot:
        return seen([socket(port, (9,), protocol="udp", state="UNCONN")], {9: process(NGINX)})

    before, volatile = normal_and_volatile(resolver(40000))
    assert before == normal_and_volatile(resolver(50000))[0]
    assert volatile.endpoints[0].sockets[0][1] == 40000
    assert normal_and_volatile(resolver(53))[0] != before


def test_owner_changed() -> None:
    other = normal([socket(80, (9,))], {9: process(OPENRESTY, user="root")})
    assert words(WEB, other) == ["owner changed: tcp 0.0.0.0:80  nginx → openresty"]
    moved = normal([socket(80, (9,))], {9: process("/opt/nginx", user="root")})
    assert words(WEB, moved) == ["owner changed: tcp 0.0.0.0:80  /usr/sbin/nginx → /opt/nginx"]


def test_user_changed() -> None:
    other = normal([socket(80, (9,))], {9: process(NGINX, user="www-data")})
    assert words(WEB, other) == ["user changed: tcp 0.0.0.0:80  nginx as root → www-data"]


def test_newly_leaked_is_told_as_that_and_not_as_another_owner() -> None:
    before = normal([socket(8080, (80,))], {80: process()})
    after = normal([socket(8080, (80, 81))], {80: process(), 81: process(SHELL, ppid=80)})
    assert words(before, after) == ["newly leaked: tcp 0.0.0.0:8080  to dash (www-data, leak)"]
    assert words(after, before) == ["owner changed: tcp 0.0.0.0:8080  dash (www-data, leak) → gone"]
    unseen = normal([socket(8080, (80,))], {80: process()}, gaps=["hidden_holders"])
    assert words(after, unseen) == [
        "owner changed: tcp 0.0.0.0:8080  dash (www-data, leak) → gone  (seen in part)"
    ]
    assert words(EMPTY, after)[0].startswith("newly leaked")


def test_newly_public_takes_the_place_of_opened_and_closed() -> None:
    def redis(address: str) -> Normal:
        return normal([socket(6379, (9,), address=address)], {9: process("/usr/bin/redis-server")})

    told = ["newly public: tcp 0.0.0.0:6379  127.0.0.1 → 0.0.0.0 (redis-server)"]
    assert words(redis("127.0.0.1"), redis("0.0.0.0")) == told
    assert words(redis("0.0.0.0"), redis("127.0.0.1")) == [
        "opened: tcp 127.0.0.1:6379  redis-server (www-data)",
        "closed: tcp 0.0.0.0:6379  redis-server",
    ]
    both = normal(
        [socket(6379, (9,), address="127.0.0.1"), socket(6379, (9,), address="8.8.8.8", inode=7)],
        {9: process("/usr/bin/redis-server")},
    )
    (only,) = words(redis("127.0.0.1"), both)
    assert only == "newly public: tcp 8.8.8.8:6379  127.0.0.1 → 8.8.8.8 (redis-server)"


def test_what_a_partial_look_does_not_show_may_be_there() -> None:
    partial = normal([], {}, gaps=["hidepid"])
    assert words(WEB, partial) == ["closed: tcp 0.0.0.0:80  nginx  (seen in part)"]
    assert words(partial, WEB) == ["opened: tcp 0.0.0.0:80  nginx (root)  (seen in part)"]
    hidden = normal([socket(80, ())], {}, gaps=["hidepid"])
    assert words(WEB, hidden) == ["owner changed: tcp 0.0.0.0:80  nginx → no owner seen  (seen in part)"]


def test_sockets_of_the_host_itself_are_told_when_asked_for() -> None:
    bus = socket(None, (9,), protocol="unix", family="unix", address=None, path="/run/x.sock")
    after = normal([bus], {9: process(NGINX)})
    assert words(EMPTY, after) == []
    assert words(EMPTY, after, everything=True) == ["opened: unix /run/x.sock  nginx (www-data)"]


def test_folded_over_the_fleet() -> None:
    other = normal([socket(80, (9,))], {9: process(OPENRESTY, user="root")})
    changed = [(f"web-{number:02}", changes(WEB, other)) for number in range(36)]
    leaked = Change("newly leaked", "tcp [::]:1", "", "to sh (root, leak)")
    first, second = fold([*changed, ("db", (leaked,))])
    assert str(first) == "newly leaked: tcp [::]:1  to sh (root, leak)  on db"
    assert str(second) == (
        "owner changed: tcp 0.0.0.0:80  nginx → openresty  on 36 hosts: "
        "web-00, web-01, web-02, web-03, web-04 and 31 more"
    )


_EXES = (NGINX, PYTHON, SHELL, OPENRESTY, None)
_sockets = st.lists(
    st.builds(
        lambda port, owners, address, inode: socket(port, owners, address=address, inode=inode),
        st.sampled_from([22, 80, 40000]),
        st.lists(st.sampled_from([2, 3, 4]), max_size=3, unique=True),
        st.sampled_from(["0.0.0.0", "127.0.0.1", "10.0.0.1"]),
        st.integers(1, 9),
    ),
    max_size=5,
)
_processes = st.fixed_dictionaries(
    {
        pid: st.builds(
            lambda exe, user: process(exe, user=user), st.sampled_from(_EXES), st.sampled_from("ab")
        )
        for pid in (2, 3, 4)
    }
)
_snapshots = st.builds(seen, _sockets, _processes)


@settings(max_examples=60, deadline=None)
@given(_snapshots, _snapshots)
def test_a_change_is_told_exactly_when_something_changed(one: Snapshot, other: Snapshot) -> None:
    before, after = normal_and_volatile(one)[0], normal_and_volatile(other)[0]
    assert changes(before, before) == ()
    found = changes(before, after)
    assert {change.kind for change in found} <= set(KINDS)
    there = {endpoint_words(it) for it in (*before.endpoints, *after.endpoints)}
    assert {change.endpoint for change in found} <= there
    old, new = {it.key for it in before.endpoints}, {it.key for it in after.endpoints}
    if old != new:
        assert found
    told = {it.endpoint for it in found if it.kind in ("opened", "newly public")}
    public = any(it.kind == "newly public" for it in found)
    assert public or told == {endpoint_words(it) for it in after.endpoints if it.key not in old}


@settings(max_examples=40, deadline=None)
@given(_sockets, _processes, st.integers(10, 1000), st.randoms(use_true_random=False))
def test_pids_inodes_and_order_do_not_last(
    sockets: list[Wire], processes: dict[int, Wire], shift: int, random: Any
) -> None:
    again = copy.deepcopy(sockets)
    random.shuffle(again)
    for it in again:
        it["inode"] += shift
        it["owners"] = [{"pid": owner["pid"] + shift, "fds": [shift]} for owner in it["owners"]]
    moved = {pid + shift: it | {"start_time": shift} for pid, it in processes.items()}
    assert lasting_part(seen(sockets, processes)) == lasting_part(seen(again, moved))


def test_words_of_a_finding_are_those_of_the_endpoint() -> None:
    found = seen([socket(80, (9,), address="::", family="inet6", device="eth0")], {9: process(NGINX)})
    (endpoint,) = normal_and_volatile(found)[0].endpoints
    assert listener_words(found.listeners[0]) == endpoint_words(endpoint) == "tcp [::]%eth0:80"
    assert snapshot()["sockets"] == []
