from __future__ import annotations

import base64
import stat
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import ConfigError, HostKeyError, Place
from fleetaudit.transport.known_hosts import HostKey, KnownHosts
from fleetaudit.transport.options import HostKeyChecking

STRICT, ACCEPT_NEW, OFF = HostKeyChecking.STRICT, HostKeyChecking.ACCEPT_NEW, HostKeyChecking.OFF


def key(name: str, kind: str = "ssh-ed25519") -> HostKey:
    """A key of the right outer shape; nothing here looks inside."""
    content = name.encode().ljust(32, b"\0")
    return HostKey(kind, struct.pack(">I", len(kind)) + kind.encode() + struct.pack(">I", 32) + content)


def line(names: str, host_key: HostKey, marker: str = "") -> str:
    encoded = base64.b64encode(host_key.blob).decode()
    return f"{marker} {names} {host_key.kind} {encoded} a comment\n".lstrip()


GOOD, OTHER = key("good"), key("other")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize(
    ("names", "address", "port"),
    [
        ("web1", "web1", 22),
        ("web1,10.0.0.1", "10.0.0.1", 22),
        ("WEB1", "web1", 22),
        ("web1", "WEB1", 22),
        ("[web1]:2222", "web1", 2222),
        ("web1", "web1", 2222),  # OpenSSH takes a key of the bare name on any port
        ("*.example.org", "a.b.example.org", 22),
        ("web?", "web1", 22),
        ("[*]:2222", "web1", 2222),
        ("*,!web2", "web1", 22),
        ("::1", "::1", 22),
        ("[::1]:2222", "::1", 2222),
    ],
)
def test_a_recorded_key_is_trusted(file: Path, names: str, address: str, port: int) -> None:
    file.write_text(line(names, GOOD))
    assert KnownHosts([str(file)]).verify(address, port, GOOD, STRICT) is True


@pytest.mark.parametrize(
    ("names", "address", "port"),
    [
        ("web1", "web2", 22),
        ("web1", "web1.example.org", 22),
        ("[web1]:2222", "web1", 22),
        ("[web1]:2222", "web1", 2223),
        ("*,!web2", "web2", 22),
        ("!web2", "web1", 22),
        ("web?", "web10", 22),
        ("w.b1", "web1", 22),
        ("[w]eb1", "web1", 22),
    ],
)
def test_a_key_of_another_host_is_unknown(file: Path, names: str, address: str, port: int) -> None:
    file.write_text(line(names, GOOD))
    with pytest.raises(HostKeyError, match="not on record"):
        KnownHosts([str(file)]).verify(address, port, GOOD, STRICT)


def test_hashed_names_as_openssh_writes_them(file: Path) -> None:
    file.write_text(line("web1", GOOD) + line("[web2]:2222", OTHER))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "web" not in file.read_text().replace("a comment", "")
    known = KnownHosts([str(file)])
    assert known.verify("web1", 22, GOOD, STRICT)
    assert known.verify("web2", 2222, OTHER, STRICT)
    with pytest.raises(HostKeyError, match="has changed"):
        known.verify("web2", 2222, GOOD, STRICT)


def test_an_unknown_key_names_its_fingerprint_and_the_remedy(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(real)], check=True)
    public = real.with_suffix(".pub")
    kind, encoded, *_ = public.read_text().split()
    shown = subprocess.run(["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True)
    with pytest.raises(HostKeyError) as caught:
        KnownHosts([str(file)]).verify("web1", 2222, HostKey(kind, base64.b64decode(encoded)), STRICT)
    text = str(caught.value)
    assert shown.stdout.split()[1] in text
    assert f"ssh-keyscan -p 2222 web1 >> {file}" in text
    assert "accept-new" in text
    assert len(text) < 500


@pytest.mark.parametrize("checking", [STRICT, ACCEPT_NEW])
def test_a_changed_key_is_refused_with_its_place(file: Path, checking: HostKeyChecking) -> None:
    file.write_text("# ours\n" + line("[web1]:2222", GOOD))
    with pytest.raises(HostKeyError) as caught:
        KnownHosts([str(file)]).verify("web1", 2222, OTHER, checking)
    text = str(caught.value)
    assert "has changed" in text
    assert f"{file}:2" in text
    assert GOOD.fingerprint in text
    assert OTHER.fingerprint in text
    assert f"ssh-keygen -R '[web1]:2222' -f {file}" in text
    assert file.read_text().count("\n") == 2


def test_accept_new_takes_no_key_of_another_type_for_a_host_on_record(file: Path) -> None:
    file.write_text(line("web1", key("good", "ecdsa-sha2-nistp256")))
    with pytest.raises(HostKeyError, match="another type"):
        KnownHosts([str(file)]).verify("web1", 22, GOOD, ACCEPT_NEW)


@pytest.mark.parametrize("checking", list(HostKeyChecking))
@pytest.mark.parametrize("names", ["web1", "*", "hashed"])
def test_a_revoked_key_is_refused_in_every_mode(file: Path, checking: HostKeyChecking, names: str) -> None:
    revoked = line("web1" if names == "hashed" else names, GOOD)
    file.write_text(revoked)
    if names == "hashed":
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
        revoked = file.read_text()
    file.write_text(line("web1", GOOD) + f"@revoked {revoked}")
    with pytest.raises(HostKeyError, match=rf"revoked by {file}:2"):
        KnownHosts([str(file)]).verify("web1", 22, GOOD, checking)


def test_a_revoked_key_leaves_others_alone(file: Path) -> None:
    file.write_text(line("*", OTHER, "@revoked") + line("web1", GOOD))
    assert KnownHosts([str(file)]).verify("web1", 22, GOOD, STRICT)


def test_a_certificate_authority_is_no_host_key_and_is_named(file: Path) -> None:
    file.write_text(line("*.example.org", GOOD, "@cert-authority"))
    known = KnownHosts([str(file)])
    with pytest.raises(HostKeyError, match=rf"no certificate of the authority of {file}:1"):
        known.verify("web1.example.org", 22, GOOD, STRICT)
    with pytest.raises(HostKeyError, match="ssh-keyscan"):
        known.verify("elsewhere", 22, GOOD, STRICT)
    assert known.kinds("web1.example.org", 22) == ()
    assert known.certified("web1.example.org", 2222)
    assert not known.certified("elsewhere", 22)


def test_accept_new_hashes_names_where_the_file_does(file: Path) -> None:
    file.write_text(line("web1", GOOD))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert KnownHosts([str(file)]).verify("web2", 2222, OTHER, ACCEPT_NEW) is False
    assert "web2" not in file.read_text()
    assert KnownHosts([str(file)]).verify("web2", 2222, OTHER, STRICT) is True
    asked = ["ssh-keygen", "-F", "[web2]:2222", "-f", str(file)]
    found = subprocess.run(asked, check=True, capture_output=True, text=True)
    assert base64.b64encode(OTHER.blob).decode() in found.stdout


def test_accept_new_records_once_privately_and_keeps_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    known = KnownHosts([str(file)])
    assert known.verify("web1", 22, GOOD, ACCEPT_NEW) is False
    assert known.verify("web1", 22, GOOD, ACCEPT_NEW) is True
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with file.open("a") as stream:
        stream.write("# no newline at the end")
    again = KnownHosts([str(file)])
    assert again.verify("web2", 2222, OTHER, ACCEPT_NEW) is False
    assert file.read_text().splitlines() == [
        line("web1", GOOD).removesuffix(" a comment\n"),
        "# no newline at the end",
        line("[web2]:2222", OTHER).removesuffix(" a comment\n"),
    ]
    assert KnownHosts([str(file)]).verify("web2", 2222, OTHER, STRICT)


def test_accept_new_believes_one_of_two_that_come_at_once(file: Path) -> None:
    known = KnownHosts([str(file)])
    answers: list[bool | str] = []

    def ask(host_key: HostKey) -> None:
        try:
            answers.append(known.verify("web1", 22, host_key, ACCEPT_NEW))
        except HostKeyError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=ask, args=(key(str(number)),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(False) == 1
    assert sum("has changed" in str(answer) for answer in answers) == 7
    assert len(file.read_text().splitlines()) == 1


def test_accept_new_that_cannot_record_does_not_accept() -> None:
    with pytest.raises(HostKeyError, match="cannot record the new key in /proc/known_hosts"):
        KnownHosts(["/proc/known_hosts"]).verify("web1", 22, GOOD, ACCEPT_NEW)
    with pytest.raises(HostKeyError, match="--known-hosts"):
        KnownHosts([]).verify("web1", 22, GOOD, ACCEPT_NEW)


def test_off_proves_nothing(file: Path) -> None:
    file.write_text(line("web1", GOOD))
    assert KnownHosts([str(file)]).verify("web1", 22, OTHER, OFF) is False
    assert KnownHosts([str(file)]).verify("web1", 22, GOOD, OFF) is False


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("@revoked * ssh-ed25519 AAAA", "not of the type"),
        ("@trusted * ssh-ed25519 AAAA", "no marker @trusted"),
        ("web1 ssh-ed25519", "something is missing"),
        ("web1 1024 35 1234567", "SSH version 1"),
        ("web1 ssh-ed25519 ?", "not base64"),
        (f"web1 ssh-rsa {base64.b64encode(GOOD.blob).decode()}", "not of the type"),
        (f"|1|x|y {GOOD.kind} {base64.b64encode(GOOD.blob).decode()}", "not hashed"),
        (f"|2|AAAA|AAAA {GOOD.kind} {base64.b64encode(GOOD.blob).decode()}", "not hashed"),
    ],
)
def test_a_line_that_cannot_be_read_is_located(file: Path, bad: str, message: str) -> None:
    file.write_text(f"# ours\n{line('web1', GOOD)}\n{bad}\n{bad}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        KnownHosts([str(file.with_name("missing")), str(file)])
    assert [problem.place for problem in caught.value.problems] == [Place(str(file), 4), Place(str(file), 5)]


def test_a_file_of_something_else_is_not_complained_about_without_end(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot read known hosts: Is a directory"):
        KnownHosts([str(tmp_path)])
    file.write_text("nonsense\n" * 10_000)
    with pytest.raises(ConfigError, match="9980 more lines") as caught:
        KnownHosts([str(file)])
    assert len(caught.value.problems) == 21


def test_a_comment_may_hold_anything(file: Path) -> None:
    file.write_bytes(line("web1", GOOD).encode().rstrip() + "\u2028\x0b\x85".encode() + b"\xff\x0c x\r\n")
    assert KnownHosts([str(file)]).verify("web1", 22, GOOD, STRICT) is True


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200) | st.text(alphabet="@|1*?!,[]:=/+ssh-ed25519AB \n", max_size=200).map(str.encode)
)
def test_no_garbage_makes_a_key_known(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "garbage"
    file.write_bytes(garbage + b"\n" + line("web1", GOOD).encode())
    try:
        known = KnownHosts([str(file)])
    except ConfigError:
        return
    assert known.verify("web1", 22, GOOD, STRICT) is True
    with pytest.raises(HostKeyError):
        known.verify("web2", 22, OTHER, STRICT)


def test_the_bare_name_does_not_stand_in_for_a_host_that_is_on_record_by_its_port(file: Path) -> None:
    """Another machine behind the same address: as ssh does, its own key alone counts."""
    file.write_text(line("web1", GOOD) + line("[web1]:2222", OTHER))
    hosts = KnownHosts([str(file)])
    assert hosts.verify("web1", 22, GOOD, STRICT) is True
    assert hosts.verify("web1", 2222, OTHER, STRICT) is True
    for checking in (STRICT, HostKeyChecking.ACCEPT_NEW):
        with pytest.raises(HostKeyError, match="has changed"):
            hosts.verify("web1", 2222, GOOD, checking)
    assert hosts.verify("web1", 2022, GOOD, STRICT) is True
