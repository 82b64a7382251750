"""Rules and hosts made up so that they have something to do with each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.build import Wire, process, snapshot, socket

PATHS = ["/a", "/b"]


def matcher() -> st.SearchStrategy[dict[str, Any]]:
    exe = st.sampled_from(["/a", "/b", "/*", ["/a", "/b"], {"not": "/a"}])
    optional = {
        "user": st.sampled_from(["root", "www-data", "0", ["root", "0"], {"not": "root"}, {"not": "0"}]),
        "exe_deleted": st.booleans(),
        "shell": st.booleans(),
    }
    return st.fixed_dictionaries({"exe": exe}, optional=optional) | st.fixed_dictionaries(
        {"user": optional["user"]}
    )


def selector() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "protocol": st.sampled_from(["tcp", ["tcp", "udp"], "unix"]),
            "port": st.sampled_from([80, "80-90", [80, 85], {"not": 80}]),
            "netns": st.sampled_from(["host", "container", "any"]),
            "scope": st.sampled_from(["any", "loopback", {"not": "loopback"}, ["any", "loopback"]]),
            "family": st.sampled_from(["inet", "inet6", {"not": "inet"}]),
        },
    )


def rule(name: str) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.lists(matcher(), min_size=1, max_size=2)
    assertion = st.one_of(
        st.fixed_dictionaries({"allow_owners": lists}),
        st.fixed_dictionaries({"deny_owners": lists}),
        st.fixed_dictionaries({"require_owners": lists}),
        st.fixed_dictionaries({"expect": st.sampled_from(["none", "some"])}),
        st.fixed_dictionaries({"scope": st.sampled_from([["loopback"], ["any", "loopback"]])}),
        st.fixed_dictionaries({"owners": st.sampled_from([{"min": 2}, {"max": 1}, {"min": 1, "max": 2}])}),
        st.fixed_dictionaries({"same": st.just(["exe"])}),
    )
    where = st.fixed_dictionaries(
        {}, optional={"listeners": selector(), "hosts": st.sampled_from(["web", "db"])}
    )
    return st.builds(lambda one, two: {"id": name, **one, **two}, where, assertion)


@st.composite
def hosts(draw: st.DrawFn) -> Wire:
    people = {
        80 + place: process(
            draw(st.sampled_from(PATHS)),
            exe_deleted=draw(st.booleans()),
            user=(user := draw(st.sampled_from(["root", "www-data"]))),
            euid=0 if user == "root" else 33,
            shell=draw(st.booleans()),
        )
        for place in range(3)
    }
    sockets = []
    for place in range(draw(st.integers(0, 3))):
        address = draw(st.sampled_from(["0.0.0.0", "127.0.0.1", "::"]))
        sockets.append(
            socket(
                draw(st.sampled_from([80, 85, 99])),
                draw(st.lists(st.sampled_from(list(people)), min_size=1, max_size=2, unique=True)),
                address=address,
                family="inet6" if ":" in address else "inet",
                v6only=False if ":" in address else None,
                netns=draw(st.sampled_from([1, 2])),
                inode=place + 1,
            )
        )
    return snapshot(sockets, people, gaps=draw(st.sampled_from([[], [], ["hidepid"]])))
