"""The agent's parsers on what kernels write, and on damage: a value or a ValueError, nothing else."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleetaudit.agent import agent
from fleetaudit.text import visible
from tests.agent.looking import Start

LONG_STAT = b"7 (a) S 1) R 5 6 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0\n"


def test_comm_ends_at_the_last_bracket() -> None:
    comm, fields = agent.parse_stat(LONG_STAT)
    assert (comm, fields[0], fields[1], fields[19]) == (b"a) S 1", b"R", b"5", b"4242")


@given(st.binary(max_size=200))
@example(b"\xc2\x85\xe2\x80\xa8\xed\xa0\x80\xff\x00\x7f\x9b")
def test_text_has_no_controls_and_is_json(raw: bytes) -> None:
    shown = agent.text(raw)
    assert not any(
        ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in shown
    )
    assert json.loads(agent.encode(shown)) == shown
    assert visible(shown) or not shown


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=80))
def test_plain_text_is_unchanged(text: str) -> None:
    assert agent.text(text.encode()) == text


def test_long_text_is_cut_with_a_note() -> None:
    assert agent.text(b"x" * 5000) == "x" * 4096 + " [cut, 5000 bytes in all]"
    assert agent.text(b"x" * 4096) == "x" * 4096


def test_proc_net_tcp() -> None:
    table = (
        b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
        b"   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 33 0 31337 1\n"
        b"   1: 0100007F:1F90 0100007F:D431 01 0:0 0:0 0 0 0 31338 1\n"
        b"garbage\n"
    )
    (row,) = agent.proc_inet_rows("tcp", "inet", agent.LISTEN, table)
    assert (row.inode, row.cookie, row.fields["address"], row.fields["port"]) == (
        31337,
        "",
        "127.0.0.1",
        8080,
    )
    assert (row.fields["uid"], row.fields["state"]) == (33, "LISTEN")


def test_proc_net_tcp6_and_raw() -> None:
    local = b"0000000000000000FFFF00000100007F:00FD"
    line = b"\n 0: " + local + b" 00000000000000000000000000000000:0000 07 0:0 0:0 0 5 0 9 2 0\n"
    (row,) = agent.proc_inet_rows("raw", "inet6", agent.CLOSE, line)
    assert (row.fields["address"], row.fields["port"], row.fields["ip_protocol"]) == (
        "::ffff:127.0.0.1",
        None,
        253,
    )
    assert "v6only" not in row.fields, "unknown here"


def test_proc_net_unix_and_packet_match_the_running_kernel() -> None:
    rows = agent.proc_unix_rows(
        b"Num       RefCount Protocol Flags    Type St Inode Path\n"
        b"0: 00000002 00000000 00010000 0001 01 11 /run/a b\n"
        b"0: 00000002 00000000 00000000 0002 01 12 @dgram\n"
        b"0: 00000003 00000000 00000000 0001 03 13\n"
        b"0: 00000003 00000000 00000000 0002 03 14\n"
    )
    assert [(row.inode, row.fields["path"], row.fields["state"]) for row in rows] == [
        (11, "/run/a b", "LISTEN"),
        (12, "@dgram", "UNCONN"),
    ]
    (packet,) = agent.proc_packet_rows(b"head\n0 3 3 0003 2 1 0 0 77\n")
    assert (packet.inode, packet.ifindex, packet.fields["uid"]) == (77, 2, 0)


def test_fallback_tables_agree_with_netlink() -> None:
    import socket

    with (
        socket.socket(socket.AF_INET) as listener,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagram,
    ):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        datagram.bind(("::1", 0))
        for name, family, state, sock in (
            ("tcp", "inet", agent.LISTEN, listener),
            ("udp", "inet6", agent.CLOSE, datagram),
        ):
            table = agent.read_table(name + family[4:])
            rows = {row.inode: row.fields for row in agent.proc_inet_rows(name, family, state, table)}
            with agent.Dump(1, agent.Coverage()) as dump:
                dumped = {row.inode: row.fields for row in dump.run()}
            inode = int(Path(f"/proc/self/fd/{sock.fileno()}").readlink().name[8:-1])
            assert rows[inode].items() <= dumped[inode].items()


LOST = ["cookie", "device", "backlog", "v6only"]


class Deaf(agent.Dump):
    """A kernel without sock_diag."""

    def _ask(self, name: str, request: bytes, many: object = None) -> list[bytes]:
        raise OSError(2, "no such handler")


def test_without_sock_diag_proc_net_serves() -> None:
    def endpoints(rows: list[agent.Row]) -> set[tuple[str, int]]:
        return {(row.protocol, row.inode) for row in rows if row.protocol in ("tcp", "udp")}

    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        coverage = agent.Coverage()
        with Deaf(1, coverage) as dump:
            deaf = endpoints(dump.run())
        assert int(Path(f"/proc/self/fd/{listener.fileno()}").readlink().name[8:-1]) in {
            inode for _, inode in deaf
        }
    assert "tcp" in {entry["protocol"] for entry in coverage.reduced}
    assert next(entry["lost"] for entry in coverage.reduced if entry["protocol"] == "tcp") == LOST
    assert not [gap for gap in coverage.gaps if gap.get("protocol") in ("tcp", "udp", "unix")]
    assert "hidden_holders" in {gap["code"] for gap in coverage.gaps}, "nobody can tell what is in flight"


class Forgetful(agent.Kernel):
    """A kernel whose first list in pieces jumps over one socket."""

    jumped_over = 0
    lists = 0

    def ask(self, request: bytes, *rest: object, **more: object) -> tuple[list[bytes], bool]:
        answers, interrupted = super().ask(request, *rest, **more)  # type: ignore[arg-type]  # passed on
        if request[1:2] == b"\x06":
            self.pieces, self.lists = 2, self.lists + 1
            if self.lists % 2:
                answers = [
                    data for data in answers if struct.unpack_from("=I", data, 68)[0] != self.jumped_over
                ]
        return answers, interrupted


def test_a_list_in_pieces_is_asked_for_twice() -> None:
    import socket

    with socket.socket() as listener, agent.Dump(1, agent.Coverage()) as dump:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        kernel = Forgetful()
        kernel.jumped_over = int(Path(f"/proc/self/fd/{listener.fileno()}").readlink().name[8:-1])
        dump.kernel.close()
        dump.kernel = kernel
        found = [row.inode for row in dump.run() if row.protocol == "tcp"]
    assert found.count(kernel.jumped_over) == 1
    assert len(found) == len(set(found)), "no socket has two rows"
    assert kernel.lists == 4


def test_a_protocol_in_use_that_nothing_lists_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> bytes:
        raise OSError(2, "not there")

    monkeypatch.setattr(agent, "read_table", nothing)
    coverage = agent.Coverage()
    with Deaf(7, coverage) as dump:
        dump.loaded = {"TCP": 4, "UDP": 0, "UNIX": 0, "SCTP": 2, "DCCP": 0}
        assert dump.run() == []
    assert {(gap["code"], gap["netns"], gap["protocol"]) for gap in coverage.gaps} == {
        ("protocol_not_dumped", 7, name) for name in ("tcp", "udp", "unix", "sctp")
    }


def test_mountinfo_and_hidepid() -> None:
    data = (
        b"21 1 0:20 / /proc rw,nosuid - proc proc rw,gid=7,hidepid=invisible\n"
        b"99 1 0:4 net:[4026532000] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\nbroken\n"
    )
    mounts = agent.parse_mountinfo(data)
    assert mounts[1][:4] == (b"99", b"net:[4026532000]", b"/run/netns/a b", b"nsfs")
    assert agent.hides_processes(mounts[0][4]) == (True, 7)
    assert agent.hides_processes(b"rw,hidepid=0") == (False, None)


def test_ring_files() -> None:
    head = b"pos:\t0\nSqMask:\t0x3\n"
    assert agent.ring_files(head + b"UserFiles:\t0\nUserBufs:\t0\n") == ([], True)
    listed = b"UserFiles:\t2\n    0: socket:[9]\n    3: /tmp/x\nUserBufs:\t0\n"
    assert agent.ring_files(head + listed) == (["socket:[9]"], True)
    sparse = b"UserFiles:\t9\n    0: <none>\n    3: socket:[9]\nUserBufs:\t0\n"
    assert agent.ring_files(head + sparse) == (["socket:[9]"], True), "empty places hold nothing"
    busy = b"UserFiles:\t2\nUserBufs:\t0\n"
    assert agent.ring_files(head + busy) == ([], False), "the kernel could not lock it, or all are empty"
    assert agent.ring_files(head + b"UserFiles:\t2\n    0: \n    1: \nUserBufs:\t0\n") == ([], False)
    older = b"UserFiles:\t2\n    0: TCP\n    1: UNIX-STREAM\nUserBufs:\t0\n"
    assert agent.ring_files(head + older) == ([], False), "protocols in place of paths tell nothing"
    assert agent.ring_files(head) == ([], False), "another kernel's format: unknown, not empty"


def test_listen_fds() -> None:
    environ = b"LISTEN_PID=7\0LISTEN_FDS=2\0"
    assert agent.listen_fds(environ, [b"70", b"7"])
    assert not agent.listen_fds(environ, [b"8"])
    assert not agent.listen_fds(b"LISTEN_PID=7\0LISTEN_FDS=0\0", [b"7"])
    assert not agent.listen_fds(b"LISTEN_FDS=2\0", [b"7"])


def test_cgroup_and_ids() -> None:
    assert agent.parse_cgroup(b"0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert agent.parse_cgroup(b"2:cpu:/x\n1:name=systemd:/y:z\n0::/\n") == "/y:z"
    assert agent.parse_cgroup(b"") is None
    # Without systemd the controllers of version 1 tell, beside a unified hierarchy that nobody uses.
    assert agent.parse_cgroup(b"4:memory:/docker/ab\n3:cpu:/\n") == "/docker/ab"
    assert agent.parse_cgroup(b"5:cpu:/\n4:memory:/docker/ab\n0::/\n") == "/docker/ab"
    assert agent.parse_cgroup(b"4:memory:/\n0::/\n") == "/"
    assert agent.parse_cgroup(b"4:memory:/docker/ab\n0::/web\n") == "/web"
    assert agent.parse_cgroup(b"4:memory:/docker/ab\n1:name=systemd:/\n0::/\n") == "/"
    assert agent.parse_ids(b"root:x:0:0\ntoor:x:0:0\n#:x\n+::\n\xff:x:5:5\n") == {0: "root", 5: r"\xff"}
    assert agent.parse_release(b'ID=debian\nVERSION_ID="12"\n# c\n') == {"ID": "debian", "VERSION_ID": "12"}


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        ([b"ld", b"/bin/sh"], b"/bin/sh"),
        ([b"ld", b"--library-path", b"/x", b"--inhibit-cache", b"/bin/sh", b"-c"], b"/bin/sh"),
        ([b"ld", b"--list"], b""),
        ([], b""),
    ],
)
def test_loaded_program(argv: list[bytes], program: bytes) -> None:
    assert agent.loaded_program(argv) == program


# ---------------------------------------------------------------- damage


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 2, 1, 0) + payload.ljust(
        (len(payload) + 3) & ~3, b"\0"
    )


INET = struct.pack("!BBBBHH16s16s", 10, 10, 0, 0, 80, 0, b"\0" * 16, b"\0" * 16) + struct.pack(
    "=IIIIIIII", 0, 5, 0, 0, 0, 128, 33, 99
)
UNIX = struct.pack("=BBBxIII", 1, 1, 10, 9, 1, 0) + struct.pack("=HH", 8, 0) + b"\0abc"
damaged = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda whole, cut, place, byte: (whole[:place] + bytes([byte]) + whole[place + 1 :])[:cut],
        st.sampled_from([INET, UNIX, message(20, INET), message(20, UNIX) + message(3, b"\0\0\0\0")]),
        st.integers(0, 140),
        st.integers(0, 100),
        st.integers(0, 255),
    ),
)
PARSERS: list[Callable[[bytes], Any]] = [
    agent.split_messages,
    agent.attributes,
    lambda data: agent.inet_row("tcp", data),
    agent.unix_row,
    agent.packet_row,
    agent.vsock_row,
    lambda data: agent.proc_inet_rows("tcp", "inet", 10, data),
    agent.proc_unix_rows,
    agent.proc_packet_rows,
    agent.parse_stat,
    lambda data: agent.parse_status(data, (b"Uid", b"CapEff")),
    agent.parse_mountinfo,
    agent.parse_ids,
    agent.parse_release,
    agent.parse_protocols,
    agent.parse_cgroup,
    agent.hides_processes,
    agent.ring_files,
    lambda data: agent.listen_fds(data, [b"1"]),
    agent.split_argv,
    lambda data: agent.alike(data, agent.CONNECTIONS),
    lambda data: agent.alike(data, agent.IDLE_STREAMS),
    agent.may_queue,
    agent.tunnel_ports,
    agent.queued_descriptors,
]


@pytest.mark.parametrize("place", range(len(PARSERS)))
@settings(max_examples=60)
@given(data=damaged)
def test_damage_gives_a_value_or_a_value_error(place: int, data: bytes) -> None:
    try:
        PARSERS[place](data)
    except (ValueError, OSError) as error:
        assert str(error)  # noqa: PT017  (both outcomes are right; any other exception is not)


def test_a_socket_with_a_peer_is_no_listener() -> None:
    assert agent.inet_row("udp", INET[:6] + b"\0\x35" + INET[8:]) is None


def test_whole_answers_are_read() -> None:
    assert agent.inet_row("tcp", INET) is not None
    row = agent.unix_row(UNIX)
    assert row is not None
    assert row.fields["path"] == "@abc"
    assert [kind for kind, _, _ in agent.split_messages(message(20, INET) + message(3, b"\0" * 4))] == [20, 3]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.dictionaries(
        st.sampled_from(["stat", "status", "cmdline", "cgroup", "environ"]), st.binary(max_size=150)
    )
)
def test_a_damaged_proc_tree_gives_a_description_or_says_it_is_gone(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    for name in ("stat", "status", "cmdline", "cgroup", "environ"):
        (tmp_path / name).unlink(missing_ok=True)
    for name, data in {"stat": LONG_STAT, **files}.items():
        (tmp_path / name).write_bytes(data)
    found = DESCRIBER.describe(f"{tmp_path}/")
    assert json.loads(agent.encode(found)) == found
    assert "shell" not in found, "no executable could be read, so nothing is known of it"


DESCRIBER = agent.Describer(agent.our_mounts(), "redacted")


def test_a_process_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DESCRIBER.describe(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("switch", "whole"),
    [
        (b"", True),
        (b"passwd: files\n", True),
        (b"passwd:\tcompat # old\n", True),
        (b"passwd: files systemd\n", False),
        (b"group: files\npasswd: files sss\n", False),
        (b"#passwd: sss\npasswd: files", True),
    ],
)
def test_names_are_complete_where_the_files_are_all_there_is(switch: bytes, whole: bool) -> None:
    assert agent.only_files(switch, b"passwd") is whole


def test_a_loaded_program_is_judged_by_what_it_is() -> None:
    known = agent.Executables(agent.our_mounts())
    shell = os.path.realpath("/bin/sh").encode()
    assert known.is_shell("loader", [b"/lib64/ld.so", shell], b"x") is True
    assert known.is_shell("loader", [b"/lib64/ld.so", b"./renamed"], b"x") is None
    assert known.is_shell("loader", [b"/lib64/ld.so", b"/no/such/file"], b"x") is None
    assert (
        known.is_shell("loader", [b"/lib64/ld.so", os.fsencode(os.path.realpath("/usr/bin/env"))], b"x")
        is False
    )


# ---------------------------------------------------------------- many sockets at once


@settings(max_examples=60)
@given(
    numbers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    tail=st.sampled_from([b"", b"\0" * 8]),
)
def test_answers_of_one_length_are_read_at_once(numbers: list[int], tail: bytes) -> None:
    bodies = [INET[:68] + struct.pack("=I", number) + tail for number in numbers]
    whole = b"".join(message(20, body) for body in bodies)
    assert agent.alike(whole, agent.CONNECTIONS) == numbers
    longer = INET[:68] + struct.pack("=I", 7) + b"\0" * 12
    assert agent.alike(whole + message(20, longer), agent.CONNECTIONS) is None
    end = message(3, bodies[0])
    assert agent.alike(whole + end, agent.CONNECTIONS) is None, "an end that looks like an answer"


def test_connections_are_listed_like_proc_net_tells(start: Start) -> None:
    facts = start("""
s = listener()
made = [socket.create_connection(s.getsockname()) for _ in range(3)]
made += [s.accept()[0] for _ in range(3)]
ready(inodes=[inode(one) for one in made], listener=inode(s))
""")
    with agent.Dump(1, agent.Coverage()) as dump:
        dump.list_connections(1)
    assert set(facts["inodes"]) <= set(dump.listed)
    assert facts["listener"] not in dump.listed


def unix_answer(kind: int, state: int, queue: int) -> bytes:
    body = struct.pack("=BBBxIII", 1, kind, state, 9, 1, 0)
    body += struct.pack("=HHI", 8, agent.UNIX_DIAG_PEER, 5) if state == agent.ESTABLISHED else b""
    return body + struct.pack("=HHII", 12, agent.UNIX_DIAG_RQLEN, queue, 0) + struct.pack("=HHB3x", 5, 6, 0)


@pytest.mark.parametrize(
    ("kind", "state", "queue", "possible", "waiting"),
    [
        (1, agent.ESTABLISHED, 0, False, False),
        (1, agent.ESTABLISHED, 1, True, True),
        (1, agent.LISTEN, 1, True, True),
        (1, agent.LISTEN, 0, False, False),
        (2, agent.ESTABLISHED, 0, True, False),
        (2, agent.CLOSE, 0, True, False),
        (5, agent.ESTABLISHED, 0, True, False),
    ],
)
def test_where_descriptors_may_be_in_flight(
    kind: int, state: int, queue: int, possible: bool, waiting: bool
) -> None:
    answer = unix_answer(kind, state, queue)
    assert agent.may_queue(answer) == (possible, waiting)
    idle = agent.alike(message(20, answer), agent.IDLE_STREAMS)
    assert idle == ([9] if (kind, state, queue) == (1, agent.ESTABLISHED, 0) else None)


def test_the_running_kernel_writes_idle_streams_as_expected() -> None:
    pairs = [socket.socketpair() for _ in range(300)]
    numbers = {os.fstat(end.fileno()).st_ino for pair in pairs for end in pair}
    told, rest = established()
    assert len(numbers & told) > 500, "nearly all: a datagram with a stranger among them is read one by one"
    assert numbers <= told | rest
    pairs[0][0].send(b"x")
    told, rest = established()
    assert os.fstat(pairs[0][1].fileno()).st_ino in rest - told
    for pair in pairs:
        for end in pair:
            end.close()


def established() -> tuple[set[int], set[int]]:
    """Connected unix sockets: those that were read at once, and the others."""
    kernel = agent.Kernel()
    request = agent.unix_request(1 << agent.ESTABLISHED, agent.UNIX_QUEUES)
    rest, _ = kernel.ask(request, agent.IDLE_STREAMS)
    kernel.close()
    return set(kernel.alike), {struct.unpack_from("=I", data, 4)[0] for data in rest}
