"""Host certificates: of a real authority, shown by a real sshd; OpenSSH's ssh says what is right."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import HostKeyError
from fleetaudit.transport import certificates
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests.conftest import Sshd, make_key
from tests.transport.conversations import Send


def sign(directory: Path, key: str, *options: str, authority: str = "ca") -> Path:
    """A certificate for the key of that name; `-h` in the options makes it one of a host."""
    command = ["ssh-keygen", "-q", "-s", str(directory / authority), "-I", f"id of {key}", *options]
    subprocess.run([*command, str(directory / f"{key}.pub")], check=True, capture_output=True)
    return directory / f"{key}-cert.pub"


def reached(sshd: Sshd, checking: HostKeyChecking = HostKeyChecking.STRICT) -> bool:
    ssh = SshTransport(
        SshOptions(known_hosts=(sshd.known_hosts,), use_agent=False, host_key_checking=checking)
    )
    try:
        return ssh.run(sshd.host(), "true", Send(), time.monotonic() + 20).exit_status == 0
    finally:
        ssh.close()


def reached_by_openssh(sshd: Sshd) -> bool:
    command = ["ssh", "-F", "none", "-i", sshd.key, "-p", str(sshd.port), "-o", "IdentitiesOnly=yes"]
    for option in ("BatchMode=yes", f"UserKnownHostsFile={sshd.known_hosts}", "GlobalKnownHostsFile=none"):
        command += ["-o", option]
    done = subprocess.run([*command, sshd.address, "true"], capture_output=True, check=False, timeout=20)
    return done.returncode == 0


@pytest.fixture
def certified(start_sshd: Callable[..., Sshd], tmp_path: Path) -> Callable[..., Sshd]:
    """An sshd whose host key has a certificate made with these options; known_hosts names the authority."""

    def start(
        *options: str, ca: str = "ed25519", kind: str = "ed25519", line: str = "@cert-authority *"
    ) -> Sshd:
        authority = make_key(tmp_path / "ca", ca)
        make_key(tmp_path / "shown", kind)
        certificate = sign(tmp_path, "shown", *options)
        sshd = start_sshd(f"HostKey {tmp_path}/shown", f"HostCertificate {certificate}")
        Path(sshd.known_hosts).write_text(f"{line} {authority}")
        return sshd

    return start


@pytest.mark.parametrize("ca", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_of_the_authority_is_trusted(
    certified: Callable[..., Sshd], ca: str, kind: str
) -> None:
    assert reached(certified("-h", "-n", "127.0.0.1,web1", ca=ca, kind=kind))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-h", "-n", "127.0.0.1"), None),
        (("-h",), None),
        (("-h", "-n", "127.0.0.*"), r"it is for 127.0.0.\*"),
        (("-h", "-n", "127.0.0.2,*.org"), r"it is for 127.0.0.2, \*.org"),
        (("-n", "127.0.0.1"), "it is for a user"),
        (("-h", "-n", "127.0.0.1", "-V", "20000101:20010101"), r"it expired 2001-01-0\d"),
        (("-h", "-n", "127.0.0.1", "-V", "20900101:20910101"), r"it is valid from 20(90-01|89-12)"),
        (("-h", "-n", "127.0.0.1", "-V", "-1d:forever"), None),
    ],
)
def test_a_certificate_is_good_for_what_it_says(
    certified: Callable[..., Sshd], options: tuple[str, ...], message: str | None
) -> None:
    sshd = certified(*options)
    assert reached_by_openssh(sshd) is (message is None)
    if message is None:
        assert reached(sshd)
        return
    for checking in (HostKeyChecking.STRICT, HostKeyChecking.ACCEPT_NEW):
        with pytest.raises(HostKeyError, match=rf"known_hosts:1, but {message}.*sign a new one"):
            reached(sshd, checking)
    assert Path(sshd.known_hosts).read_text().count("\n") == 1


def test_an_authority_for_other_hosts_or_another_authority_vouches_for_nothing(
    certified: Callable[..., Sshd], tmp_path: Path
) -> None:
    sshd = certified("-h", "-n", "127.0.0.1", line="@cert-authority *.example.org")
    known_hosts = Path(sshd.known_hosts)
    with pytest.raises(HostKeyError, match=r"not on record.*ssh-keyscan"):
        reached(sshd)
    known_hosts.write_text(f"@cert-authority * {make_key(tmp_path / 'ca2')}")
    with pytest.raises(HostKeyError, match=r"no certificate of the authority of .*known_hosts:1"):
        reached(sshd)
    kind, key, *_ = (tmp_path / "shown.pub").read_text().split()
    with known_hosts.open("a") as stream:  # as with ssh, the key in the certificate may be on record itself
        stream.write(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    assert reached_by_openssh(sshd)
    assert reached(sshd)


@pytest.mark.parametrize("revoked", ["ca", "shown"])
@pytest.mark.parametrize("checking", list(HostKeyChecking))
def test_neither_authority_nor_key_may_be_revoked(
    certified: Callable[..., Sshd], tmp_path: Path, revoked: str, checking: HostKeyChecking
) -> None:
    sshd = certified("-h", "-n", "127.0.0.1")
    with Path(sshd.known_hosts).open("a") as stream:
        stream.write(f"@revoked * {(tmp_path / f'{revoked}.pub').read_text()}")
    with pytest.raises(HostKeyError, match=r"revoked by .*known_hosts:2"):
        reached(sshd, checking)


def test_a_host_without_a_certificate_is_known_by_its_key_beside_an_authority(
    sshd: Sshd, tmp_path: Path
) -> None:
    known_hosts = tmp_path / "known_hosts"
    recorded = Path(sshd.known_hosts).read_text()
    known_hosts.write_text(f"@cert-authority * {make_key(tmp_path / 'ca')}{recorded}")
    ssh = SshTransport(SshOptions(known_hosts=(str(known_hosts),), use_agent=False))
    try:
        assert ssh.run(sshd.host(), "true", Send(), time.monotonic() + 20).exit_status == 0
    finally:
        ssh.close()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("signed")
    make_key(directory / "ca")
    make_key(directory / "shown", "ecdsa")
    text = sign(directory, "shown", "-h", "-n", "web1").read_text()
    return base64.b64decode(text.split()[1])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_not_one_byte_of_a_certificate_may_be_another(signed: bytes, data: st.DataObject) -> None:
    assert certificates.parse(signed).flaw("web1") is None
    position = data.draw(st.integers(0, len(signed) - 1))
    changed = bytearray(signed)
    changed[position] ^= data.draw(st.integers(1, 255))
    authority = certificates.parse(signed).authority
    try:
        found = certificates.parse(bytes(changed))
    except ValueError:
        return
    assert found.authority != authority or found.flaw("web1") is not None


@given(garbage=st.binary(max_size=300), cut=st.integers(0, 400))
def test_garbage_is_no_certificate(signed: bytes, garbage: bytes, cut: int) -> None:
    for blob in (garbage, signed[:cut] if cut < len(signed) else b"", signed[:cut] + garbage):
        try:
            found = certificates.parse(blob)
        except ValueError:
            continue
        assert found.flaw("web1") is not None or blob.startswith(signed)


def test_a_million_names_in_a_certificate_take_no_time(signed: bytes) -> None:
    found = certificates.parse(signed)
    blob = signed.replace(b"\0\0\0\x08\0\0\0\x04web1", (1 << 18).to_bytes(4, "big") + bytes(1 << 18))
    began = time.process_time()
    assert certificates.parse(blob).authority == found.authority
    assert certificates.parse(blob).flaw("web1") == "its signature is wrong"
    assert time.process_time() - began < 2
