"""Notices: what is new, and how it gets to a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fleetaudit import schema
from fleetaudit.cli import main
from fleetaudit.errors import ConfigError, NoticeError
from fleetaudit.notify import Item, Kind, Notice, send, sender
from fleetaudit.notify.webhook import TRIES, Webhook
from tests.build import SHELL, Wire, process, snapshot, socket, without

POLICY = """
version: 1
name: p
rules:
- {id: shells, severity: high, deny_owners: [{shell: true}]}
- {id: web, severity: low, listeners: {port: 8080}, allow_owners: [{exe: '*/python*'}, {exe: '*/dash'}]}
"""
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's own
ITEM = Item(Kind.VIOLATION, "web1", "p", "shells", "high", "tcp 0.0.0.0:8080", "a shell\x1b[31m holds it")
NOTICE = Notice("r1", "2026-11-22T10:00:00.000Z", 1, (ITEM,))


@dataclass
class Server:
    """A webhook: what it was sent, and what it answers, one after the other; the last one for good."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(204, {})])
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The notices that came."""
        return [json.loads(body) for _, _, body in self.got]


@pytest.fixture
def server() -> Iterator[Server]:
    """A webhook on loopback."""
    it = Server("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.got.append((self.path, dict(self.headers), body))
            code, headers = it.answers.pop(0) if len(it.answers) > 1 else it.answers[0]
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        it.url = f"http://127.0.0.1:{http.server_address[1]}/hook?token=s3cret"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield it
        http.shutdown()
        thread.join()


def quick(url: str, secret: bytes | None = None) -> Webhook:
    """A webhook that does not wait."""
    return Webhook(url, secret, sleep=lambda _seconds: None, clock=lambda: 1_700_000_000.5)


def test_a_notice_is_posted_signed(server: Server) -> None:
    quick(server.url, b"shared").send(NOTICE)
    ((path, headers, body),) = server.got
    assert path == "/hook?token=s3cret"
    assert headers["X-Fleetaudit-Timestamp"] == "1700000000"
    signed = hmac.new(b"shared", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Fleetaudit-Signature"] == f"sha256={signed}"
    jsonschema.Draft202012Validator(schema.load("notice")).validate(json.loads(body))
    assert json.loads(body)["title"] == "fleetaudit: 1 new violations"


def test_without_a_secret_nothing_is_signed(server: Server) -> None:
    quick(server.url).send(NOTICE)
    assert not any(name.startswith("X-Fleetaudit") for name in server.got[0][1])


@pytest.mark.parametrize("answers", [[503, 200], [429, 500, 204]])
def test_a_server_in_trouble_is_asked_again(server: Server, answers: list[int]) -> None:
    server.answers = [(code, {"Retry-After": "2"}) for code in answers]
    quick(server.url).send(NOTICE)
    assert len(server.got) == len(answers)
    assert len({body for _, _, body in server.got}) == 1


def test_pauses_grow_and_are_bounded(server: Server) -> None:
    waited: list[float] = []
    server.answers = [(503, {}), (503, {"Retry-After": "86400"}), (503, {"Retry-After": "soon"})]
    with pytest.raises(NoticeError, match="answered with 503, 3 times"):
        Webhook(server.url, sleep=waited.append).send(NOTICE)
    assert waited == [1.0, 5.0]
    assert len(server.got) == TRIES


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 401, 404, 410])
def test_what_is_refused_is_not_sent_again_nor_elsewhere(server: Server, code: int) -> None:
    server.answers = [(code, {"Location": server.url + "&again"})]
    with pytest.raises(NoticeError, match=f"answered with {code}"):
        quick(server.url).send(NOTICE)
    assert len(server.got) == 1


def test_nobody_there() -> None:
    with pytest.raises(NoticeError, match=r"not reached: .*refused, 3 times"):
        quick("http://127.0.0.1:1/").send(NOTICE)


def test_somebody_who_never_answers_is_left() -> None:
    class Endless:
        place = "somewhere"

        def send(self, notice: Notice) -> None:
            held.wait(30)

    held = threading.Event()
    try:
        assert send(Endless(), NOTICE, seconds=0.05) == "took too long"
    finally:
        held.set()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hooks.example.org", "that is no URL"),
        ("https://", "that is no URL"),
        ("https://[::1", "that is no URL"),
        ("https://h:port/", "that is no URL"),
        ("https://a b/", "that is no URL"),
        ("http://hooks.example.org/s3cret", "--notify http://hooks.example.org: http can be read on the way"),
        ("nothing://s3cret", "--notify nothing://…: Apprise does not know that"),
    ],
)
def test_urls_that_are_none(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sender(url, None)
    assert message in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"needs Apprise.*pip install 'fleetaudit\[apprise\]'"):
        sender("slack://a/b/c", None)


def test_by_apprise(server: Server) -> None:
    made = sender(server.url.replace("http://", "json://"), None)
    assert send(made, NOTICE) == ""
    (document,) = server.documents
    assert document["title"] == "fleetaudit: 1 new violations"
    assert "violation high web1 p/shells tcp 0.0.0.0:8080: a shell\\u001b[31m holds it" in document["message"]
    server.answers = [(500, {})]
    assert send(made, NOTICE) == "Apprise says that it was not taken"


def test_a_notice_holds_the_gravest_hundred() -> None:
    low = [Item(Kind.VIOLATION, f"h{number:03}", "p", "r", "low") for number in range(150)]
    items = (Item(Kind.RESOLVED, "a", "p", "r", "critical"), *low, ITEM)
    document = json.loads(Notice("r", "t", 1, items).document())
    assert document["items"][0]["host"] == "web1"
    assert (len(document["items"]), document["more"]) == (100, 52)
    assert Notice("r", "t", 1, items).text.splitlines()[-3:] == [
        "and 52 more",
        "",
        "fleetaudit history show r",
    ]


# ---------------------------------------------------------------- what is new


def clean(name: str) -> Wire:
    return snapshot([socket(8080)], {80: process()}) | {"host": {"name": name, "boot_id": "b"}}


def leaky(name: str, *ports: int) -> Wire:
    sockets = [socket(port, (80, 81), inode=port) for port in ports or (8080,)]
    found = snapshot(sockets, {80: process(), 81: process(SHELL, ppid=80)})
    return found | {"host": {"name": name, "boot_id": "b"}}


def doubtful(name: str) -> Wire:
    found = snapshot([socket(8080)], {80: without(process(), "shell")})
    return found | {"host": {"name": name, "boot_id": "b"}}


def gone(name: str) -> Wire:
    return {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": name},
        "status": "unreachable",
        "detail": "no route",
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a policy, and a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FLEETAUDIT_NOTIFY_SECRET", "from the environment")
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def judge(hosts: list[Wire], *options: str) -> int:
    Path("s.jsonl").write_text("".join(json.dumps(it) + "\n" for it in hosts))
    return main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "--store", *options])


def told(server: Server) -> list[tuple[str, str, str | None]]:
    """(kind, host, rule) of the last notice."""
    return [(it["kind"], it["host"], it["rule"]) for it in server.documents[-1]["items"]]


def test_only_what_is_new_is_told(here: Path, server: Server) -> None:
    notify = ("--notify", server.url)
    assert judge([clean("a"), leaky("b"), clean("c")], *notify) == 1
    assert told(server) == [("violation", "b", "shells")]
    assert judge([clean("a"), leaky("b"), clean("c")], *notify) == 1
    assert len(server.got) == 1  # nothing is new: nobody is told
    assert judge([leaky("a"), leaky("b", 8080, 9090), gone("c")], *notify) == 1
    assert told(server) == [
        ("violation", "a", "shells"),
        ("violation", "b", "shells"),
        ("host_lost", "c", None),
    ]
    assert judge([doubtful("a"), clean("b"), gone("c")], *notify) == 3
    assert told(server) == [
        ("undecided", "a", "shells"),
        ("resolved", "b", "shells"),
        ("resolved", "b", "shells"),
    ]
    assert judge([leaky("a"), clean("b"), leaky("c")], *notify) == 1
    assert told(server) == [
        ("violation", "a", "shells"),
        ("violation", "c", "shells"),
        ("host_back", "c", None),
    ]


def test_what_failed_before_a_host_was_away_is_not_new_when_it_is_back(here: Path, server: Server) -> None:
    assert judge([leaky("a")]) == 1
    assert judge([gone("a")]) == 3
    assert judge([leaky("a")], "--notify", server.url) == 1
    assert told(server) == [("host_back", "a", None)]


def test_a_notice_that_fails_changes_nothing_but_is_said(
    here: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = [(404, {})]
    assert judge([clean("a")], "--notify", server.url) == 0
    assert server.got == []
    assert judge([leaky("a")], "--notify", server.url) == 1
    err = capsys.readouterr().err
    place = server.url.partition("/hook")[0]
    assert f"warning: {place} was not notified: answered with 404" in err
    assert "s3cret" not in err


def test_urls_are_in_no_report_and_no_history(here: Path, server: Server) -> None:
    assert judge([leaky("a")], "--notify", server.url, "-o", "json=r.json", "--manifest", "m.json") == 1
    assert len(server.got) == 1
    for path in here.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_the_configured_ones_are_told_when_the_run_is_kept(here: Path, server: Server) -> None:
    (here / "config" / "fleetaudit").mkdir(parents=True)
    (here / "config" / "fleetaudit" / "config.yaml").write_text(f"version: 1\nnotify: ['{server.url}']\n")
    assert judge([leaky("a")]) == 1
    assert len(server.got) == 1
    assert main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q"]) == 1
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--notify", "https://x.example"), "what is new is known by the history alone"),
        (("--store", "./h.db", "--notify", "x"), "that is no URL"),
        (
            ("--store", "./h.db", "--notify", "https://x.example", "--notify-secret-file", "none"),
            "none: No such file",
        ),
        (
            ("--store", "./h.db", "--notify", "https://x.example", "--notify-secret-file", "/dev/null"),
            "/dev/null is empty",
        ),
    ],
)
def test_mistakes_are_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    Path("s.jsonl").write_text(json.dumps(clean("a")) + "\n")
    assert main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", "-o", "json=r.json", *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("r.json").exists()


def test_the_secret_comes_from_a_file_or_the_environment(here: Path, server: Server) -> None:
    def is_signed_with(secret: bytes) -> bool:
        _, headers, body = server.got[-1]
        stamp = headers["X-Fleetaudit-Timestamp"].encode()
        signed = hmac.new(secret, stamp + b"." + body, hashlib.sha256).hexdigest()
        return headers["X-Fleetaudit-Signature"] == f"sha256={signed}"

    assert judge([leaky("a")], "--notify", server.url) == 1
    assert is_signed_with(b"from the environment")
    Path("secret").write_text("from a file\n")
    assert judge([leaky("b")], "--notify", server.url, "--notify-secret-file", "secret") == 1
    assert is_signed_with(b"from a file")
