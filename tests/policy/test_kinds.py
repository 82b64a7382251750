"""What is asked once for all of a kind is what each of them would have answered."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings

from fleetaudit.derive import derive
from fleetaudit.model import HostAudit, Listener, NetworkNamespace, Owner, Process, Snapshot
from fleetaudit.policy import evaluate as judging
from fleetaudit.policy.fields import (
    LISTENER_FIELDS,
    OF_KIND,
    OF_LISTENER_KIND,
    OWNER_FIELDS,
    kind_of,
    listener_kind_of,
)
from fleetaudit.policy.view import HostView, view_of
from fleetaudit.quick import changed
from fleetaudit.snapshot import decode_line
from tests.build import Wire, policy
from tests.policy.test_properties import snapshots

POLICY = policy("""
- id: deny
  deny_owners: [{shell: true}, {exe: '/usr/bin/python*', user: {not: www-data}}]
- id: kin
  deny_owners: [{ancestor: {shell: true}}]
- id: allow
  listeners: {port: [80, 8080, 9000-9100]}
  allow_owners: [{exe: /usr/sbin/nginx, exe_deleted: false}, {comm: 'python*', inherited: original}]
- id: named
  listeners: {port: [22, 80], scope: [any, private]}
  allow_owners: [{exe: /usr/sbin/nginx}]
- id: local
  listeners: {port: {not: 80}, state: LISTEN}
  scope: [loopback]
- id: every
  deny_owners: [{uid: 0}]
""")


@settings(max_examples=80, deadline=None)
@given(snapshots)
def test_asking_each_process_and_listener_itself_gives_the_same_audit(wire: Wire) -> None:
    outcome = derive(decode_line(json.dumps(wire).encode()))

    def one_by_one(snapshot: Snapshot) -> HostView:
        return replace(view_of(snapshot), kinds={}, by_port={})

    def judged() -> HostAudit:
        return judging.evaluate(outcome, [POLICY])

    by_kind = judged()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "view_of", one_by_one)
        assert judged() == by_kind


@pytest.mark.parametrize("name", [item.name for item in fields(Process)])
def test_processes_of_one_kind_have_every_field_of_the_kind_in_common(name: str) -> None:
    one = Process(1)
    other = changed(one, **{name: "something else"})
    if kind_of(one) == kind_of(other):
        for field in OF_KIND:
            read = OWNER_FIELDS[field].read
            assert tuple(read(Owner(one))) == tuple(read(Owner(other))), field
        assert name not in {"exe_verified", "exe_deleted", "usr_merged"}  # they weigh the executable's path


@pytest.mark.parametrize("name", [item.name for item in fields(Listener)])
def test_listeners_of_one_kind_have_every_field_of_the_kind_in_common(name: str) -> None:
    one = Listener("tcp", 1, NetworkNamespace(1))
    other = changed(one, **{name: "something else"})
    if listener_kind_of(one) == listener_kind_of(other):
        for field in OF_LISTENER_KIND:
            read = LISTENER_FIELDS[field].read
            assert tuple(read(one)) == tuple(read(other)), field
        assert name != "netns"
