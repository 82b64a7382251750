"""Encrypted keys, certificates and ssh-agent: of OpenSSH's own making, at a real sshd."""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.errors import AuthError, ConfigError, Place
from fleetaudit.model import Host, Secret
from fleetaudit.transport.options import SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests import running
from tests.conftest import Sshd, make_key
from tests.transport.conversations import Send

ME = getpass.getuser()


class Person:
    """Answers passphrases in turn, and remembers what was asked."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def ask(self, text: str) -> Secret | None:
        self.asked.append(text)
        answer = self.answers.pop(0)
        return None if answer is None else Secret(answer)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test did: no thread, and no socket or other descriptor, is left behind."""
    threads, descriptors = running.threads(), set(Path("/proc/self/fd").iterdir())
    yield
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


def run(sshd: Sshd, *hosts: Host, **options: Any) -> None:
    options = {"use_agent": False, "known_hosts": (sshd.known_hosts,), **options}
    ssh = SshTransport(SshOptions(**options))
    try:
        ssh.prepare(hosts)
        for host in hosts:
            assert ssh.run(host, "true", Send(), time.monotonic() + 20).exit_status == 0
    finally:
        ssh.close()


def keyed(sshd: Sshd, key: Path | None) -> Host:
    return replace(sshd.host(), private_key=None if key is None else str(key))


# ---------------------------------------------------------------- passphrases


@pytest.fixture
def locked(start_sshd: Callable[..., Sshd], tmp_path: Path) -> Callable[..., tuple[Sshd, Path]]:
    """An sshd, and the file of an encrypted key that it takes."""

    def start(kind: str = "ed25519", *options: str) -> tuple[Sshd, Path]:
        sshd = start_sshd()
        key = tmp_path / "locked"
        make = ["ssh-keygen", "-q", "-t", kind, "-N", "geheim", *options, "-f", str(key)]
        subprocess.run(make, check=True, capture_output=True)
        (tmp_path / "authorized").write_text(key.with_suffix(".pub").read_text())
        return sshd, key

    return start


@pytest.mark.parametrize(
    ("kind", "options"),
    [("ed25519", ()), ("rsa", ()), ("ecdsa", ()), ("rsa", ("-m", "PEM")), ("ecdsa", ("-m", "PKCS8"))],
)
def test_a_passphrase_is_asked_for_once(
    locked: Callable[..., tuple[Sshd, Path]], kind: str, options: tuple[str, ...]
) -> None:
    sshd, key = locked(kind, *options)
    person = Person("geheim")
    run(sshd, keyed(sshd, key), replace(keyed(sshd, key), name="web2"), ask=person.ask)
    assert person.asked == [f"Passphrase of {key}"]


def test_a_wrong_passphrase_may_be_corrected(locked: Callable[..., tuple[Sshd, Path]]) -> None:
    sshd, key = locked()
    person = Person("falsch", "geheim")
    run(sshd, keyed(sshd, key), ask=person.ask)
    assert person.asked[1] == f"That was wrong. Passphrase of {key}"


@pytest.mark.parametrize("options", [(), ("-m", "PEM")])
def test_a_passphrase_that_stays_wrong_names_the_file(
    locked: Callable[..., tuple[Sshd, Path]], options: tuple[str, ...]
) -> None:
    sshd, key = locked("rsa", *options)
    with pytest.raises(ConfigError, match=r"the passphrase is wrong \(ssh-keygen -y") as caught:
        run(sshd, keyed(sshd, key), ask=Person("a", "b", "c").ask)
    assert caught.value.problems[0].place == Place(str(key))
    assert "'a'" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, ""])
def test_no_answer_leaves_the_key_out(locked: Callable[..., tuple[Sshd, Path]], answer: str | None) -> None:
    sshd, key = locked()
    person = Person(answer)
    with pytest.raises(AuthError, match=f"private key {key} is encrypted: load it into ssh-agent"):
        run(sshd, keyed(sshd, key), replace(keyed(sshd, key), name="web2"), ask=person.ask)
    assert len(person.asked) == 1


def test_usual_keys_are_asked_for_only_where_they_are_needed(
    locked: Callable[..., tuple[Sshd, Path]],
) -> None:
    sshd, key = locked()
    person = Person("geheim")
    run(sshd, keyed(sshd, None), keys=(str(key),), ask=person.ask)
    assert len(person.asked) == 1
    with_password = replace(keyed(sshd, None), password=Secret("x"))
    with pytest.raises(AuthError, match="is encrypted"):
        run(sshd, with_password, keys=(str(key),), ask=Person().ask)


# ---------------------------------------------------------------- certificates


@pytest.fixture
def certified(start_sshd: Callable[..., Sshd], tmp_path: Path) -> Callable[..., tuple[Sshd, Path]]:
    """An sshd that trusts an authority and no key, and a key with a certificate of that authority."""

    def start(*options: str, kind: str = "ed25519", settings: tuple[str, ...] = ()) -> tuple[Sshd, Path]:
        make_key(tmp_path / "ca")
        sshd = start_sshd(f"TrustedUserCAKeys {tmp_path}/ca.pub", *settings)
        (tmp_path / "authorized").write_text("")
        key = tmp_path / "mine"
        make_key(key, kind)
        command = ["ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "me", *(options or ("-n", ME))]
        subprocess.run([*command, f"{key}.pub"], check=True, capture_output=True)
        return sshd, key

    return start


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_certificate_beside_a_key_is_shown(
    certified: Callable[..., tuple[Sshd, Path]], kind: str
) -> None:
    sshd, key = certified(kind=kind)
    run(sshd, keyed(sshd, key))
    key.with_name("mine-cert.pub").unlink()
    with pytest.raises(AuthError, match=rf"was refused, tried: {key}$"):
        run(sshd, keyed(sshd, key))


def test_a_key_is_tried_without_its_certificate_too(
    certified: Callable[..., tuple[Sshd, Path]], tmp_path: Path
) -> None:
    sshd, key = certified("-n", "nobody-else")
    with pytest.raises(AuthError, match=rf"tried: {key} with {key}-cert.pub, {key}$"):
        run(sshd, keyed(sshd, key))
    (tmp_path / "authorized").write_text(key.with_suffix(".pub").read_text())
    run(sshd, keyed(sshd, key))


def test_an_expired_certificate_is_said(certified: Callable[..., tuple[Sshd, Path]]) -> None:
    sshd, key = certified("-n", ME, "-V", "20000101:20010102")
    with pytest.raises(AuthError, match=rf"{key}-cert.pub \(it expired 2001-01-0[12] "):
        run(sshd, keyed(sshd, key))


def test_a_certificate_that_cannot_be_read_is_named(certified: Callable[..., tuple[Sshd, Path]]) -> None:
    sshd, key = certified()
    key.with_name("mine-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    with pytest.raises(AuthError, match=rf"{key}-cert.pub is not a certificate"):
        run(sshd, keyed(sshd, key))


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_key_as_pkcs8(start_sshd: Callable[..., Sshd], tmp_path: Path, kind: str) -> None:
    sshd = start_sshd()
    key = tmp_path / "mine"
    make = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-m", "PKCS8", "-f", str(key)]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "authorized").write_text(key.with_suffix(".pub").read_text())
    run(sshd, keyed(sshd, key))


def test_an_encrypted_key_with_a_certificate(certified: Callable[..., tuple[Sshd, Path]]) -> None:
    sshd, key = certified()
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "geheim", "-f", str(key)], check=True, capture_output=True
    )
    run(sshd, keyed(sshd, key), ask=Person("geheim").ask)


def config(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "ssh_config"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_certificatefile_of_ssh_config(certified: Callable[..., tuple[Sshd, Path]], tmp_path: Path) -> None:
    sshd, key = certified()
    key.with_name("mine-cert.pub").rename(tmp_path / "signed.pub")
    lines = [f"IdentityFile {key}", f"CertificateFile {tmp_path}/missing", "CertificateFile %d/signed.pub"]
    lines[2] = lines[2].replace("%d", str(tmp_path))
    run(sshd, keyed(sshd, None), ssh_config=config(tmp_path, *lines))
    with pytest.raises(AuthError, match=f"certificate {tmp_path}/missing does not exist"):
        run(sshd, keyed(sshd, None), ssh_config=config(tmp_path, *lines[:2]))


# ---------------------------------------------------------------- ssh-agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """A real ssh-agent; called with key files, it holds them and gives its socket."""
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.01)

    def hold(*keys: Path) -> str:
        add = ["ssh-add", "-q", *map(str, keys)]
        subprocess.run(add, check=True, capture_output=True, env=os.environ | {"SSH_AUTH_SOCK": path})
        return path

    yield hold
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_agent_shows_the_certificate_that_it_holds(
    certified: Callable[..., tuple[Sshd, Path]],
    agent: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    sshd, key = certified(kind=kind)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent(key))
    for file in (key, key.with_name("mine-cert.pub")):
        file.unlink()
    run(sshd, keyed(sshd, None), use_agent=True)


def test_certificatefile_for_a_key_that_only_the_agent_holds(
    certified: Callable[..., tuple[Sshd, Path]], agent: Callable[..., str], tmp_path: Path
) -> None:
    sshd, key = certified()
    key.with_name("mine-cert.pub").rename(tmp_path / "signed.pub")
    socket = agent(key)
    key.unlink()
    lines = [f"IdentityAgent {socket}", f"CertificateFile {tmp_path}/signed.pub"]
    run(sshd, keyed(sshd, None), use_agent=True, ssh_config=config(tmp_path, *lines))


def test_identitiesonly_keeps_the_other_keys_of_an_agent_back(
    start_sshd: Callable[..., Sshd], agent: Callable[..., str], tmp_path: Path
) -> None:
    sshd = start_sshd("MaxAuthTries 2")
    others = [tmp_path / f"other{number}" for number in range(4)]
    mine = tmp_path / "mine"
    for key in (*others, mine):
        make_key(key)
    (tmp_path / "authorized").write_text(mine.with_suffix(".pub").read_text())
    lines = [f"IdentityAgent {agent(*others, mine)}", f"IdentityFile {mine}"]
    mine.unlink()  # its public half stays, and says which key of the agent is meant
    with pytest.raises(AuthError, match="the host ended the connection"):
        run(sshd, keyed(sshd, None), use_agent=True, ssh_config=config(tmp_path, *lines))
    only = config(tmp_path, *lines, "IdentitiesOnly yes")
    run(sshd, keyed(sshd, None), use_agent=True, ssh_config=only)


def test_no_passphrase_is_asked_for_what_the_agent_holds(
    locked: Callable[..., tuple[Sshd, Path]], agent: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd, key = locked()
    plain = key.with_name("plain")
    plain.write_bytes(key.read_bytes())
    plain.chmod(0o600)
    change = ["ssh-keygen", "-q", "-p", "-P", "geheim", "-N", "", "-f", str(plain)]
    subprocess.run(change, check=True, capture_output=True)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent(plain))
    key.with_suffix(".pub").unlink()  # an encrypted file says itself whose it is
    run(sshd, keyed(sshd, key), use_agent=True, ask=Person().ask)
