"""ssh_config: the same answers as OpenSSH's own reader, and hosts reached by them."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleetaudit.errors import ConfigError, ConnectError, HostKeyError
from fleetaudit.model import Host, Jump
from fleetaudit.transport.directions import Directions
from fleetaudit.transport.options import SshOptions
from fleetaudit.transport.ssh import SshTransport
from fleetaudit.transport.ssh_config import KEYWORDS, SshConfig
from fleetaudit.transport.ssh_keywords import SSH_KEYWORDS
from tests.conftest import Sshd, make_key
from tests.transport.conversations import Send

CORPUS = {
    "first wins": "Host web*\n User one\n Port 2200\nHost *\n User two\n Port=22\n HostName %h.example.com\n",
    "before any host": "User one\nHost other\nUser two\nHost web1\nPort 7\n",
    "equals and quotes": 'Host "web1"  db\n HostName = "real name"\n User="u v"\n  PORT\t=\t99 # comment\n',
    "negated": "Host * !web1\n User a\nHost !db* *\n User b\n",
    "several patterns": "Host db web? zzz\n User a\n",
    "identity files": "Host web1\n IdentityFile ~/.ssh/%h\n IdentityFile '/a b/c'\nIdentityFile ~/.ssh/%h\n",
    "certificates": "Host *\n CertificateFile ~/%h\n CertificateFile '/a b'\nCertificateFile ~/%h\n",
    "identities": "Host *\n IdentitiesOnly yes\n IdentityAgent /run/agent\n HostKeyAlias alias\n",
    "jump": "Host *\n ProxyJump a,u@b:33\n ProxyCommand nc %h %p\n",
    "command": "Host *\n ProxyCommand nc '%h' %p # all of it\n ProxyJump a\n",
    "no jump": "Host web1\n ProxyJump none\nHost *\n ProxyJump a\n",
    "family": "Host *\n AddressFamily inet6\n BindAddress 127.0.0.1\n ConnectTimeout 7\n",
    "match host": "HostName real\nMatch host real\n User a\nMatch originalhost web1,web2\n Port 77\n",
    "match host before": (
        "Match host web1\n HostName real\nMatch host web1\n User wrong\nMatch host real\n User a\n"
    ),
    "match user": "User me\nMatch user you,me host w*\n Port 7\nMatch user !me\n Port 8\n",
    "match negated": "Match !host web1\n User a\nMatch !originalhost db !user nobody\n User b\n",
    "match local user": f"Match localuser {getpass.getuser()}\n User a\nMatch localuser nobody\n User b\n",
    "match all": "Match host nothing\n User a\nMatch all\n User b\n",
    "match case": "Match host WEB1\n User a\nHost WEB1\n Port 7\n",
    "final": "Match final host real\n User late\nHost real\n Port 8\nHost web1\n HostName real\n",
    "canonical with final": "Match canonical\n User late\nMatch final\n Port 8\n",
    "canonical alone": "Match canonical\n User late\n",
    "not final": "Match !final\n User early\n",
    "comments": "# Host web1\n\n   # x\nHost web1 # db\n User a#b\n",
    "unused keywords": "Host *\n ForwardAgent yes\n ServerAliveInterval 30\n LocalForward 1 a:2\n",
    "upper case name": "Host web1\n HostName REAL.Example\n",
    "doubled": "HostName %%h.%h\n",
}
ASKED = ("web1", "db", "web2")


def asked_openssh(file: Path, name: str) -> dict[str, list[str]]:
    command = ["ssh", "-G", "-F", str(file), name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        if keyword in KEYWORDS:
            found.setdefault(keyword, []).append(value)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "ssh_config"
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_openssh_reads_the_same(config: Callable[[str], Path], text: str) -> None:
    file = config(text)
    empty = asked_openssh(Path("/dev/null"), "web1")
    for name in ASKED:
        theirs = asked_openssh(file, name)
        ours = SshConfig(str(file)).lookup(name)
        # What OpenSSH says without any file is its default, which we do not state.
        for keyword in KEYWORDS:
            default = [name] if keyword == "hostname" else empty.get(keyword)
            said = ours.get(keyword, default)
            if keyword == "proxyjump" and said == ["none"]:
                said = None  # which ssh -G leaves out
            assert said == theirs.get(keyword), (name, keyword)


def test_include(tmp_path: Path, config: Callable[[str], Path]) -> None:
    (tmp_path / "10.conf").write_text("Port 10\nHost web1\n User from-10\nHost nobody\n")
    (tmp_path / "20.conf").write_text("Port 20\nUser from-20\n")
    (tmp_path / "hidden").write_text("User hidden\nHost *\nUser hidden\n")
    for part in ("10.conf", "20.conf", "hidden"):
        (tmp_path / part).chmod(0o600)
    outer = (
        f"Host other\n Include {tmp_path}/hidden\nHost *\n Include {tmp_path}/*.conf {tmp_path}/no*thing\n"
    )
    text = f"{outer} AddressFamily inet\n"
    file = config(text)
    for name in ASKED:
        theirs = asked_openssh(file, name)
        ours = SshConfig(str(file)).lookup(name)
        for keyword in ("user", "port", "addressfamily"):
            assert ours[keyword] == theirs[keyword]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Host a\nMatch tagged x\n",
            r"ssh_config:2: Match tagged is not known \(known: host, .*--ssh-config",
        ),
        ("Match exec true\n", "ssh_config:1: Match exec is not run here"),
        ("Match host\n", "ssh_config:1: Match host needs a pattern"),
        ("Match\n", "ssh_config:1: Match needs criteria"),
        ("Match all host x\n", "ssh_config:1: .*stands alone"),
        ("Host\n", "ssh_config:1: Host without a pattern"),
        ("\n\nPort ssh\n", "ssh_config:3: port cannot be 'ssh'"),
        ("Port 70000\n", "70000 is not a port"),
        ("AddressFamily ipx\n", "addressfamily cannot be 'ipx'"),
        ("User\n", "user cannot be ''"),
        ('User "x\n', "a quote is not closed"),
        ("HostName %x\n", "hostname has no token %x"),
        ("CanonicalizeHostname yes\n", "canonicalizehostname yes is not supported"),
        ("Host a\n  User x\nHots b\n  User nobody\n", r"ssh_config:3: no keyword is called 'hots' .*host\?"),
        ("Host a\n  ProxyJmp bastion\n", r"ssh_config:2: .*'proxyjmp' .did you mean proxyjump\?"),
        ("\ufeffHost a\n", "no keyword is called"),
        ("UseKeychain yes\nIgnoreUnknown UseKeychain\n", r"ssh_config:1: .*IgnoreUnknown passes over"),
    ],
)
def test_what_cannot_be_understood_is_one_located_message(
    config: Callable[[str], Path], text: str, message: str
) -> None:
    file = config(text)
    with pytest.raises(ConfigError, match=message) as caught:
        SshTransport(SshOptions(ssh_config=str(file)))
    assert len(caught.value.problems) == 1


def test_a_circle_of_includes_and_a_missing_file(config: Callable[[str], Path], tmp_path: Path) -> None:
    file = config(f"Include {tmp_path}/ssh_config\n")
    with pytest.raises(ConfigError, match="more than 16 files deep"):
        SshConfig(str(file))
    with pytest.raises(ConfigError, match=r"cannot read .*missing"):
        SshConfig(str(tmp_path / "missing"))


def test_a_file_that_others_can_write_is_not_used(config: Callable[[str], Path]) -> None:
    file = config("User a\n")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="others can write this file"):
        SshConfig(str(file))


# ---------------------------------------------------------------- the way to a host


def test_the_inventory_wins(config: Callable[[str], Path]) -> None:
    text = (
        "Host web1\nUser c\nPort 7\nIdentityFile /c\nHostName real\nProxyJump u@j:9\nHost j\nHostName jump\n"
    )
    directions = Directions(str(config(text)))
    (jump, said) = directions.way(Host("n", "web1", 8, user="i", private_key="/i"))
    assert (said.address, said.port, said.user, said.private_key, jump.address) == (
        "real",
        8,
        "i",
        "/i",
        "jump",
    )
    (_, said) = directions.way(Host("n", "web1"))
    assert (said.address, said.port, said.user, said.keys) == ("real", 7, "c", ("/c",))
    assert len(directions.way(Host("n", "web1", proxy_command="nc"))) == 1
    (jump, _) = directions.way(Host("n", "web1", user="i", jumps=(Jump("other"),)))
    assert (jump.address, jump.user) == ("other", "i")


def test_a_port_of_22_that_is_stated_is_no_default(config: Callable[[str], Path]) -> None:
    directions = Directions(str(config("Port 2200\n")))
    ports = {stated: directions.way(Host("n", "web1", stated))[-1].port for stated in (None, 22, 23)}
    assert ports == {None: 2200, 22: 22, 23: 23}
    jumps = Jump("one"), Jump("two", 22)
    way = directions.way(Host("n", "web1", 22, jumps=jumps))
    assert [hop.port for hop in way] == [2200, 22, 22]
    assert Directions(None).way(Host("n", "web1"))[0].port == 22


def test_jumps_as_ssh_config_says_of_each(config: Callable[[str], Path]) -> None:
    text = (
        "Host web1\nProxyJump a,u@b:9\nHost a\nHostName a.real\n"
        "User ua\nProxyJump c\nHost b\nProxyJump no-such\n"
    )
    way = Directions(str(config(text))).way(Host("n", "web1", user="i"))
    me = getpass.getuser()
    assert [(hop.address, hop.port, hop.user) for hop in way] == [
        ("c", 22, me),
        ("a.real", 22, "ua"),
        ("b", 9, "u"),
        ("web1", 22, "i"),
    ]


def test_a_jump_host_behind_itself(config: Callable[[str], Path]) -> None:
    with pytest.raises(ConnectError, match="go in a circle: bastion is behind itself"):
        Directions(str(config("ProxyJump bastion\n"))).way(Host("n", "web1"))


def test_tokens_of_paths(config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    text = (
        "Host web1\nHostName real\nPort 7\nUser r\nIdentityFile ${KEYS}/%h-%n-%p-%r-%u-%i-%%d\n"
        "IdentityFile ~/k\n"
    )
    (hop,) = Directions(str(config(text))).way(Host("n", "web1"))
    assert hop.keys == (
        f"/keys/real-web1-7-r-{getpass.getuser()}-{os.getuid()}-%d",
        str(Path("~/k").expanduser()),
    )
    with pytest.raises(ConnectError, match=r"names \$\{NOT_SET_AT_ALL\}, which is not set"):
        Directions(str(config("IdentityFile ${NOT_SET_AT_ALL}\n"))).way(Host("n", "web1"))


def run(sshd: Sshd, file: Path, host: Host, known_hosts: str | None = None) -> bytes:
    options = SshOptions(
        known_hosts=(known_hosts or sshd.known_hosts,), use_agent=False, ssh_config=str(file)
    )
    ssh = SshTransport(options)
    try:
        return ssh.run(host, "echo $SSH_CONNECTION", Send(), time.monotonic() + 20).stdout
    finally:
        ssh.close()


def test_a_host_that_only_ssh_config_knows_how_to_reach(
    sshd: Sshd, config: Callable[[str], Path], tmp_path: Path
) -> None:
    make_key(tmp_path / "wrong")
    basics = f"HostName 127.0.0.1\nPort {sshd.port}\nIdentityFile {tmp_path}/wrong\nIdentityFile {sshd.key}\n"
    for more in (
        "BindAddress 127.0.0.5\n",
        "ProxyCommand busybox nc %h %p\n",
        "AddressFamily inet\nConnectTimeout 5\n",
    ):
        seen = run(sshd, config(f"Host web1\n{basics}{more}"), Host("web1", "web1")).split()
        assert seen[3] == str(sshd.port).encode()
        assert (seen[0] == b"127.0.0.5") == ("Bind" in more)
    with pytest.raises(ConnectError, match=r"no IPv6 address for 127.0.0.1"):
        run(sshd, config(f"{basics}AddressFamily inet6\n"), Host("web1", "web1"))


def test_a_host_key_alias(sshd: Sshd, config: Callable[[str], Path], tmp_path: Path) -> None:
    known_hosts = tmp_path / "known"
    known_hosts.write_text("the-alias " + Path(sshd.known_hosts).read_text().split(" ", 1)[1])
    host = replace(sshd.host(), address="web1")
    text = f"HostName 127.0.0.1\nHostKeyAlias the-alias\nPort {sshd.port}\nStrictHostKeyChecking no\n"
    assert run(sshd, config(text), host, str(known_hosts))
    with pytest.raises(HostKeyError, match="not on record"):
        run(sshd, config(text.replace("the-alias", "another")), host, str(known_hosts))


def test_what_another_ssh_knows_may_be_named_as_such(config: Callable[[str], Path]) -> None:
    file = config("IgnoreUnknown UseKeychain,Foo*\nHost a\n UseKeychain yes\n FooBar 1\n User ann\n")
    assert SshConfig(str(file)).lookup("a")["user"] == ["ann"]
    for known in ("Compression yes", "GSSAPIKeyExchange no", "ObscureKeystrokeTiming no", "Protocol 2"):
        assert SshConfig(str(config(f"{known}\nUser bob\n"))).lookup("a")["user"] == ["bob"]


def test_every_keyword_that_ssh_knows_here_is_known(config: Callable[[str], Path]) -> None:
    """Asked of the installed ssh: whatever it calls unknown, so do we, of the words that we know."""
    text = "".join(f"{word} yes\n" for word in sorted(SSH_KEYWORDS))
    said = subprocess.run(
        ["ssh", "-F", str(config(text)), "-G", "host"], capture_output=True, text=True, check=False
    ).stderr
    unknown = set(re.findall(r"Bad configuration option: (\S+)", said))
    # Of versions later than some that this suite runs with.
    later = {"obscurekeystroketiming", "channeltimeout", "tag", "warnweakcrypto", "refuseconnection"}
    assert unknown <= later | {"versionaddendum"}
    listed = subprocess.run(["ssh", "-G", "host"], capture_output=True, text=True, check=False).stdout
    words = {line.split()[0].lower() for line in listed.splitlines()} - {"host"}
    assert len(words) > 50
    assert words <= SSH_KEYWORDS


def test_a_way_that_cannot_be_gone_ends_the_run_before_anybody_is_asked(
    config: Callable[[str], Path],
) -> None:
    file = config("Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost d\n ProxyJump ssh://x:99999\n")
    file.chmod(0o600)
    transport = SshTransport(SshOptions(ssh_config=str(file), known_hosts=()))
    round_ = Host("round", "127.0.0.1", 1, "u", jumps=(Jump("127.0.0.1", 1, "u"),))
    try:
        transport.prepare([Host("fine", "127.0.0.1", 1)])
        with pytest.raises(ConfigError) as caught:
            transport.prepare(
                [Host("fine", "127.0.0.1", 1), Host("h1", "a"), Host("h2", "a"), Host("d", "d"), round_]
            )
    finally:
        transport.close()
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 3
    assert "go in a circle" in said[0]
    assert "(hosts h1, h2)" in said[0]
    assert "'ssh://x:99999' is not [user@]host[:port] (host d)" in said[1]
    assert "(host round)" in said[2]
