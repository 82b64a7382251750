"""SSH by the system's own ssh: its keys on tokens, Kerberos, multiplexing and the user's whole ssh_config.

What decides about safety is said on its command line, where nothing in a configuration file can undo it
(ssh_config(5): the first value counts, and the command line's come first).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import (
    AuthError,
    ConnectError,
    HostError,
    HostKeyError,
    OutputError,
)
from fleetaudit.model import Host, Jump
from fleetaudit.text import visible
from fleetaudit.transport import installed, masters
from fleetaudit.transport.installed import Installed
from fleetaudit.transport.known_hosts_file import read as read_known_hosts
from fleetaudit.transport.options import HostKeyChecking, SshOptions, usual_known_hosts
from fleetaudit.transport.program import Programs

# What ssh ends with when it fails itself (ssh(1), exit status); the commands we run end otherwise.
_OWN_FAILURE = 255
_MOST_LOGGED = 64 * 1024
_CHECKING = {
    HostKeyChecking.STRICT: "yes",
    HostKeyChecking.ACCEPT_NEW: "accept-new",
    HostKeyChecking.OFF: "no",
}
# Never asked for, whatever a configuration file says.
_FIXED = (
    "AddKeysToAgent=no",
    "BatchMode=yes",
    "ConnectionAttempts=1",
    "ControlMaster=no",  # one that is there is used; none is left behind
    "ControlPersist=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GSSAPIDelegateCredentials=no",
    "LogLevel=ERROR",
    "NoHostAuthenticationForLocalhost=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "Tunnel=no",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
)
# Neither, but by an ssh that knows them: an older one would end with a complaint.
_SINCE = (
    ((8, 7), "ForkAfterAuthentication=no"),
    ((8, 7), "StdinNull=no"),
)
_SESSION_TYPE = (8, 7)
_KNOWN_HOSTS_COMMAND = (8, 5)
# The one thing that it says in the midst of what the host says.
_LOST = re.compile(rb"^Connection to \S+ closed by remote host\.\r?\n\Z", re.MULTILINE)
_NAME = re.compile(r"(?!-)[\w.:%+-]+")
_USER = re.compile(r"(?!-)[^\s\x00-\x1f\x7f'\"`$;&|<>()\\]+")
_REFUSED: tuple[tuple[str, type[HostError]], ...] = (
    (
        r"host key verification failed|host identification has changed|host key for .* has changed",
        HostKeyError,
    ),
    (r"revoked", HostKeyError),
    (r"permission denied \(|too many authentication failures|no supported authentication", AuthError),
)


class OpenSshTransport:
    """Runs commands through one `ssh` process per attempt, which asks nobody anything."""

    def __init__(self, options: SshOptions, ssh: Installed) -> None:
        for name in options.known_hosts:
            read_known_hosts(str(Path(name).expanduser()))  # ssh passes over a line that it cannot read
        self._options = options
        self._ssh = ssh
        self._may_have_masters = masters.are_configured(ssh.files)
        self._programs = Programs()
        # ssh closes every descriptor it inherits, so what it has to say of itself needs a file with a name.
        self._logs = tempfile.TemporaryDirectory(prefix="fleetaudit-ssh-")
        self._number = itertools.count()
        self._users: dict[tuple[str, int | None, str], str] = {}
        self._revoked_keys = self._revoked() if options.host_key_checking is HostKeyChecking.OFF else None

    def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
        """See `Transport.run`. The password of the host is not used: ssh takes one from a terminal only."""
        with self._open_logs(len(host.jumps) + 1) as logs:
            where = self._where(host, logs, deadline)
            shared = self._may_share(where, deadline)
            arguments = self._arguments(host, logs[-1], shared=shared)
            # A jump host that only ssh_config names is reached without our BatchMode: it asks nobody either.
            environment = os.environ | {"LC_ALL": "C", "SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never"}
            also = {log.descriptor: log.take for log in logs}
            reply = self._programs.run(
                [*arguments, *where, command],
                conversation,
                deadline,
                environment,
                until_exit=True,
                also=also,
            )
            if reply.exit_status == _OWN_FAILURE:
                self._explain(host, logs, reply)
        # Ended by a signal, it cannot say whether the answer was whole. Nor does it say that the process
        # which holds a shared connection has ended.
        own = reply.exit_status == _OWN_FAILURE
        lost = reply.exit_status < 0 or (own and (shared or _LOST.search(reply.stderr)))
        return replace(reply, exit_status=-1) if lost else reply

    def cancel(self) -> None:
        """See `Transport.cancel`."""
        self._programs.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        self.cancel()
        self._logs.cleanup()

    # ------------------------------------------------------------ what ssh is told

    def _arguments(self, host: Host, log: _Log, *, shared: bool) -> list[str]:
        settings = ["ClearAllForwardings=yes", "RemoteCommand=none"]
        if self._ssh.version >= _SESSION_TYPE:
            settings.append("SessionType=default")
        if not shared:
            settings.append("ControlPath=none")
        return [*self._common(host, log), *_options(settings)]

    def _where(self, host: Host, logs: list[_Log], deadline: float) -> list[str]:
        proxy = host.proxy_command
        if host.jumps:
            jumps = [replace(jump, user=self._user_of(jump, host, deadline)) for jump in host.jumps]
            proxy = self._through(host, jumps, logs)
        way = _options([f"ProxyCommand={proxy}"] if proxy is not None else [])
        return [*way, *_login(host.user, host.port), "--", _name(host.address)]

    def _may_share(self, where: list[str], deadline: float) -> bool:
        if not self._may_have_masters:
            return False
        found = self._settings([*self._ssh.configuration, *where], deadline)
        unchecked = self._options.host_key_checking is HostKeyChecking.OFF
        return masters.may_be_shared(found, unchecked=unchecked)

    def _user_of(self, jump: Jump, host: Host, deadline: float) -> str | None:
        """Who logs in there: who the inventory or ssh_config says, else who does at the target."""
        if jump.user is not None or host.user is None:
            return jump.user
        key = jump.address, jump.port, host.user
        if key not in self._users:
            login = _login(host.user, jump.port)[2:]  # the user goes last into what is read: it counts least
            files = "".join(f'Include "{file}"\n' for file in self._ssh.roots)
            question = ["-F", "/dev/stdin", *login, "--", _name(jump.address)]
            found = self._settings(question, deadline, f"{files}Host *\nUser {host.user}\n")
            self._users[key] = found.get("user", host.user)
        return self._users[key]

    def _settings(self, arguments: Sequence[str], deadline: float, stdin: str = "") -> dict[str, str]:
        """What ssh makes of the user's configuration."""
        question = [self._ssh.program, "-G", *arguments]
        reply = self._programs.run(question, masters.Listening(stdin.encode()), deadline, until_exit=True)
        return masters.settings(reply.stdout)

    def _through(self, host: Host, jumps: list[Jump], logs: list[_Log]) -> str:
        """A proxy command through the last of the jumps, for the ssh to what is behind it.

        Not ssh's own -J, which tells the ssh on the way nothing of how host keys are to be checked.
        """
        *before, jump = jumps
        arguments = self._common(host, logs[len(before)])
        if before:
            arguments += _options([f"ProxyCommand={self._through(host, before, logs)}"])
        arguments += _login(jump.user, jump.port)
        # Only the ssh that runs it knows what ssh_config makes of the name behind: %h and %p are its own.
        fixed = shlex.join(arguments).replace("%", "%%")
        return f"{fixed} -W '[%h]:%p' -- {shlex.quote(_name(jump.address)).replace('%', '%%')}"

    def _common(self, host: Host, log: _Log) -> list[str]:
        options = self._options
        arguments = [self._ssh.program, "-E", str(log.path), *self._ssh.configuration]
        settings = [*_FIXED, f"ConnectTimeout={math.ceil(options.connect_timeout)}", *self._checking(host)]
        settings += [setting for since, setting in _SINCE if self._ssh.version >= since]
        if host.private_key:
            arguments += ["-i", host.private_key]
            settings.append("IdentitiesOnly=yes")
        return [*arguments, *_options(settings)]

    def _checking(self, host: Host) -> Iterator[str]:
        options = self._options
        checking = options.host_key_checking
        if host.become is not None and host.become.password and not options.send_passwords_unverified:
            if checking is HostKeyChecking.OFF:
                raise HostKeyError(
                    "it would be sent the become password, and its host key is not checked: record its key, "
                    "or pass --send-passwords-unverified"
                )
            checking = HostKeyChecking.STRICT
        yield f"StrictHostKeyChecking={_CHECKING[checking]}"
        files = " ".join(f'"{Path(name).expanduser()}"' for name in options.known_hosts)
        if checking is HostKeyChecking.OFF:  # what is revoked there is refused all the same
            yield "UserKnownHostsFile=/dev/null"
            yield f"GlobalKnownHostsFile={files or '/dev/null'}"
            if self._revoked_keys is not None:
                yield f"RevokedHostKeys={self._revoked_keys}"
            return
        if checking is HostKeyChecking.ACCEPT_NEW:
            _make_recordable(options.known_hosts)
        if options.known_hosts != usual_known_hosts() or checking is HostKeyChecking.ACCEPT_NEW:
            yield f"UserKnownHostsFile={files}"
            yield "GlobalKnownHostsFile=/dev/null"
            if self._ssh.version >= _KNOWN_HOSTS_COMMAND:
                yield "KnownHostsCommand=none"

    # ------------------------------------------------------------ what ssh says

    @contextlib.contextmanager
    def _open_logs(self, count: int) -> Iterator[list[_Log]]:
        number = next(self._number)
        with contextlib.ExitStack() as stack:
            names = [Path(self._logs.name, f"{number}-{place}") for place in range(count)]
            try:
                logs = [stack.enter_context(_Log(name)) for name in names]
            except OSError as error:
                raise ConnectError(f"cannot start ssh: {error.strerror}") from error
            yield logs

    def _explain(self, host: Host, logs: list[_Log], reply: Reply) -> None:
        """Raise what the first ssh on the way that failed says. None did: the status is the command's own."""
        for jump, log in zip(host.jumps, logs, strict=False):
            if said := log.said:
                raise ConnectError(f"jump host {visible(jump.address)}: {_last(said)}")
        said = logs[-1].said
        for pattern, kind in _REFUSED:
            if re.search(pattern, said, re.IGNORECASE):
                if kind is AuthError and host.password is not None:
                    raise AuthError(
                        f"{_last(said)} (the password is not used: `ansible_connection: ssh` can send one)"
                    )
                raise kind(_last(said))
        if said:
            beside = reply.stderr.decode("utf-8", "replace").strip()  # of a proxy command, mostly
            raise ConnectError(f"{_last(said)} ({_last(beside)})" if beside else _last(said))

    def _revoked(self) -> Path | None:
        """The keys that known_hosts files revoke, as RevokedHostKeys wants them, if there are any.

        With StrictHostKeyChecking=no ssh only warns of them otherwise.
        """
        keys = []
        for name in self._options.known_hosts:
            with contextlib.suppress(OSError):
                for line in Path(name).expanduser().read_bytes().splitlines():
                    words = line.split()
                    if len(words) >= 4 and words[0] == b"@revoked":
                        keys.append(b" ".join(words[2:4]) + b"\n")
        if not keys:
            return None
        file = Path(self._logs.name, "revoked")
        file.write_bytes(b"".join(keys))
        return file


class _Log:
    """What one ssh says of itself: a named pipe, so that a host that makes it talk fills no disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = bytearray()
        os.mkfifo(path, 0o600)
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def take(self, data: bytes) -> None:
        """More of it. Raises OutputError for more than any failure needs."""
        self._data += data
        if len(self._data) > _MOST_LOGGED:
            raise OutputError(f"ssh complains without end: {_last(self.said)}")

    @property
    def said(self) -> str:
        """All of it, as lines."""
        return self._data.decode("utf-8", "replace").strip()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        self.path.unlink(missing_ok=True)


def open_transport(options: SshOptions) -> OpenSshTransport:
    """The factory that the transport table names. Raises ConfigError as `installed.find` does."""
    return OpenSshTransport(options, installed.find(options.ssh_config))


def _make_recordable(known_hosts: tuple[str, ...]) -> None:
    """Make the file that new keys go to: ssh goes on where it cannot, and so would take any key next time."""
    if not known_hosts:
        raise HostKeyError("accept-new has no file to record keys in; give --known-hosts FILE")
    file = Path(known_hosts[0]).expanduser()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HostKeyError(f"cannot record keys in {visible(str(file))}: {error.strerror}") from error


def _options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("-o", setting)]


def _login(user: str | None, port: int | None) -> list[str]:
    if user is not None and not _USER.fullmatch(user):
        raise ConnectError(f"ssh may not be given the user name '{visible(user)}'")
    return [*(["-l", user] if user else []), *(["-p", str(port)] if port is not None else [])]


def _name(address: str) -> str:
    """The address, if ssh takes it for one: no option, user or URI."""
    if not _NAME.fullmatch(address):
        raise ConnectError(f"ssh may not be given the address '{visible(address)}'")
    return address


def _last(said: str) -> str:
    """The line that says most: the last, without what ssh puts before it."""
    lines = said.splitlines() or [""]
    return visible(re.sub(r"^(?:ssh: |fatal: )", "", lines[-1].strip()))[:300]
