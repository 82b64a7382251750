"""SSH by paramiko: one connection per run, no agent or X11 forwarding.

Everything paramiko or the socket raises is mapped to the error tree in `_mapped`, nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from socket import socket
from typing import cast

import paramiko
from paramiko.packet import Packetizer
from paramiko.ssh_exception import IncompatiblePeer

from fleetaudit.conversation import Conversation, Reply, Stream
from fleetaudit.errors import AuthError, ConnectError, HostError, HostKeyError
from fleetaudit.model import Host, Secret
from fleetaudit.text import visible
from fleetaudit.transport import proxy
from fleetaudit.transport.certificates import ALGORITHMS as CERTIFICATES
from fleetaudit.transport.dialogue import Dialogue
from fleetaudit.transport.directions import Directions
from fleetaudit.transport.identity import KeyRing, Offer
from fleetaudit.transport.jumps import ChannelLink, Jumps, Session
from fleetaudit.transport.key_files import KeyFiles
from fleetaudit.transport.known_hosts import HostKey, KnownHosts
from fleetaudit.transport.link import Link, connect
from fleetaudit.transport.login import Login, Question
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.route import Hop
from fleetaudit.transport.watchdog import Lease, Watchdog

_CHUNK = 32 * 1024
_JOIN_SECONDS = 5.0
# While the host's receive window is closed there is nothing to wait on; looked at this often.
_WINDOW_SECONDS = 0.02
# paramiko's own limits would end a phase with a misleading error; the watchdog is the one that counts.
_NEVER = 24 * 3600.0
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
# A host shows one key a connection; of several ECDSA keys OpenSSH shows the first too.
_KINDS = (
    ("ssh-ed25519",),
    tuple(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)),
    _SIGNATURES["ssh-rsa"],
)
_SHA1 = ("ssh-rsa", "ssh-dss")

_logger = logging.getLogger("paramiko")
_logger.addHandler(logging.NullHandler())  # else its tracebacks reach stderr by logging's last resort
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.CRITICAL)


class SshTransport:
    """Reaches hosts by SSH. Raises ConfigError when a known_hosts file cannot be read."""

    def __init__(self, options: SshOptions) -> None:
        self._options = options
        self._known_hosts = KnownHosts(options.known_hosts)
        self._directions = Directions(options.ssh_config)
        self._asking = threading.Lock()
        self._key_files = KeyFiles()
        self._rings: dict[tuple[tuple[str, ...], str | None, tuple[str, ...]], KeyRing] = {}
        self._watchdog = Watchdog()
        self._jumps = Jumps(self._enter_jump, self._watchdog)

    def prepare(self, hosts: Sequence[Host]) -> None:
        """Ask for the passphrases of key files that these hosts will need, if there is somebody to ask.

        Raises ConfigError for a wrong one, and for hosts that no way leads to: jump hosts in a circle, or
        what ssh_config says of the way and cannot be meant. So nobody is asked anything then.
        """
        self._directions.check(hosts)
        ask = self._options.ask
        if ask is None:
            return
        with self._watchdog.lease(time.monotonic() + _NEVER) as lease:
            for file in dict.fromkeys(self._locked(hosts, lease)):
                self._key_files.unlock(file, ask)

    def _locked(self, hosts: Sequence[Host], lease: Lease) -> Iterator[str]:
        seen: set[tuple[KeyRing, str | None]] = set()
        for host in hosts:
            with contextlib.suppress(HostError):  # what is wrong with a key is said of its host
                for hop in self._directions.way(host):
                    tried = self._ring(hop), hop.private_key
                    if tried in seen or (hop.private_key is None and host.password is not None):
                        continue
                    seen.add(tried)
                    yield from tried[0].locked(hop.private_key, lease)

    def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
        """See `Transport.run`."""
        with self._watchdog.lease(deadline) as lease, contextlib.ExitStack() as cleanup:
            session, link = self._enter(host, self._directions.way(host), lease, cleanup)
            with _mapped(lease, link):
                reply = _converse(session, command, Dialogue(conversation))
                lease.check()
                link.check()
            return reply

    def host_keys(self, host: Host, deadline: float) -> tuple[tuple[str, int], tuple[HostKey, ...]]:
        """Name and port by which known_hosts has a host, and the keys it shows, unchecked: one of each kind.

        Nobody logs in there, but at jump hosts on the way. Raises HostError.
        """
        way = self._directions.way(host)
        keys: list[HostKey] = []
        with self._watchdog.lease(deadline) as lease:
            for kinds in _KINDS:
                with contextlib.ExitStack() as cleanup:
                    session, link = self._open(way, lease, cleanup)
                    with _mapped(lease, link), contextlib.suppress(IncompatiblePeer):  # none of this kind
                        session.get_security_options().key_types = kinds
                        session.start_client()
                        keys.append(_shown(session.get_remote_server_key()))
                        lease.check()
        if not keys:
            raise ConnectError("no SSH algorithm in common with the host")
        return way[-1].recorded_as, tuple(keys)

    def cancel(self) -> None:
        """See `Transport.cancel`."""
        self._watchdog.cancel()
        self._jumps.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        self.cancel()
        self._jumps.close()
        self._watchdog.close()

    def _enter_jump(self, way: tuple[Hop, ...], lease: Lease, cleanup: contextlib.ExitStack) -> Session:
        return self._enter(way[-1].as_host(), way, lease, cleanup)

    def _enter(
        self, host: Host, way: tuple[Hop, ...], lease: Lease, cleanup: contextlib.ExitStack
    ) -> Session:
        """Log in at the end of the way. Whatever happens, `cleanup` ends the session's thread and socket."""
        hop = way[-1]
        offers, problems = self._offers(hop, lease)
        session, link = self._open(way, lease, cleanup)
        with _mapped(lease, link):
            algorithms = session.get_security_options()
            certified = CERTIFICATES if self._known_hosts.certified(*hop.recorded_as) else ()
            known = self._known_hosts.kinds(*hop.recorded_as)
            algorithms.key_types = (*certified, *_preferred(known, algorithms.key_types))
            session.start_client()
            verified = self._verify(host, hop, session)
            trusted = verified or self._options.send_passwords_unverified
            question = self._question(host.name, lease) if self._options.ask else None
            Login(hop.user, host.password, session, question, trusted=trusted).run(offers, problems)
            lease.check()
            link.check()
        link.trust()
        return session, link

    def _open(self, way: tuple[Hop, ...], lease: Lease, cleanup: contextlib.ExitStack) -> Session:
        link = self._reach(way, lease)
        cleanup.callback(link.close)
        session = paramiko.Transport(cast(socket, link), packetizer_class=_Packets)
        cleanup.callback(_end, session)
        session.banner_timeout = session.auth_timeout = session.channel_timeout = _NEVER
        return session, link

    def _offers(self, hop: Hop, lease: Lease) -> tuple[list[Offer], list[str]]:
        return self._ring(hop).offers(hop.private_key, lease, only_named=hop.identities_only)

    def _ring(self, hop: Hop) -> KeyRing:
        agent = os.environ.get("SSH_AUTH_SOCK") if hop.agent_socket is None else hop.agent_socket
        socket_used = (agent or None) if self._options.use_agent else None
        files = self._options.keys if hop.keys is None else hop.keys
        made_of = files, socket_used, hop.certificates
        # setdefault is atomic: two threads at once get the same ring.
        return self._rings.setdefault(made_of, KeyRing(*made_of, self._key_files))

    def _question(self, name: str, lease: Lease) -> Question:
        """Has the person answer what a host asks, one host at a time; meanwhile its deadline stands still."""

        def asked(prompt: str) -> Secret | None:
            with lease.waiting(), self._asking:
                lease.check()
                return self._options.ask(f"{visible(name)} asks: {prompt}") if self._options.ask else None

        return asked

    def _reach(self, way: tuple[Hop, ...], lease: Lease) -> Link | ChannelLink:
        *jumps, hop = way
        timeout = min(self._options.connect_timeout, hop.timeout or self._options.connect_timeout)
        if jumps:
            return self._jumps.reach(tuple(jumps), hop, lease, timeout)
        if hop.proxy_command is not None:
            return proxy.start(hop.proxy_command, lease)
        return connect(hop.address, hop.port, timeout, lease, family=hop.family, source=hop.source)

    def _verify(self, host: Host, hop: Hop, session: paramiko.Transport) -> bool:
        """Whether the host proved who it is; raises HostKeyError rather than go on in doubt."""
        key = _shown(session.get_remote_server_key())
        checking = self._options.host_key_checking
        verified = self._known_hosts.verify(*hop.recorded_as, key, checking)
        unsafe = not verified and not self._options.send_passwords_unverified
        if unsafe and host.become is not None and host.become.password is not None:
            state = "is not checked" if checking is HostKeyChecking.OFF else "was not on record before"
            raise HostKeyError(
                f"host key {key.kind} {key.fingerprint} {state}, so the become password is not sent: "
                "compare the key and run again, or --send-passwords-unverified"
            )
        return verified


def open_transport(options: SshOptions) -> SshTransport:
    """The factory that the transport table names."""
    return SshTransport(options)


class _Packets(Packetizer):
    """Without paramiko's handshake timer: a thread per host, for one phase only."""

    def start_handshake(self, timeout: float) -> None:
        """The watchdog covers this phase."""


class _Bell(threading.Event):
    """Rung by either output. Only the reader may silence it: a buffer that ran dry must not."""

    def clear(self) -> None:
        """What paramiko's buffers call when they are empty; silencing here could lose the other's ring."""

    def answer(self) -> None:
        """Silence it before looking at both outputs."""
        super().clear()


def _shown(key: paramiko.PKey) -> HostKey:
    """The key that the host has proved to hold, in its certificate if it shows one."""
    if key.public_blob is not None:
        return HostKey(key.public_blob.key_type, key.public_blob.key_blob)
    return HostKey(key.get_name(), key.asbytes())


def _preferred(known: tuple[str, ...], offered: Sequence[str]) -> tuple[str, ...]:
    """Host key algorithms with those of the keys on record first, as OpenSSH orders them.

    Otherwise a host whose ECDSA key is on record would show its Ed25519 key, and be refused. Signatures
    by SHA-1, which older paramiko offers, prove too little to be asked for.
    """
    first = {name for kind in known for name in _SIGNATURES.get(kind, (kind,))}
    strong = [name for name in offered if name not in _SHA1]
    return tuple(sorted(strong, key=lambda name: name not in first))


def _converse(session: paramiko.Transport, command: str, dialogue: Dialogue) -> Reply:
    channel = session.open_session()
    bell = _Bell()
    channel.in_buffer.set_event(bell)
    channel.in_stderr_buffer.set_event(bell)
    channel.exec_command(command)
    dialogue.start()
    ended = False
    while not ended:
        bell.answer()
        # Looked at before reading: whatever came before the end is in the buffers by then.
        ended = bool(channel.eof_received) or channel.closed
        _listen(channel, dialogue)
        _speak(channel, dialogue)
        if not ended:
            bell.wait(_WINDOW_SECONDS if dialogue.outgoing else None)
    return dialogue.reply(channel.recv_exit_status())


def _listen(channel: paramiko.Channel, dialogue: Dialogue) -> None:
    """Take both outputs by turns: draining one first lets the other fill up and stop the command."""
    while channel.recv_ready() or channel.recv_stderr_ready():
        if channel.recv_ready():
            dialogue.hear(Stream.STDOUT, channel.recv(_CHUNK))
        if channel.recv_stderr_ready():
            dialogue.hear(Stream.STDERR, channel.recv_stderr(_CHUNK))


def _speak(channel: paramiko.Channel, dialogue: Dialogue) -> None:
    """Send what the host's window takes; stdin is closed once all has been sent."""
    while dialogue.outgoing and channel.send_ready():
        if channel.closed:
            dialogue.hang_up()
            return
        sent = channel.send(bytes(dialogue.outgoing[:_CHUNK]))
        del dialogue.outgoing[:sent]
    if dialogue.finished and not channel.eof_sent:
        channel.shutdown_write()


def _end(session: paramiko.Transport) -> None:
    session.close()
    if session.is_alive():
        session.join(_JOIN_SECONDS)


@contextlib.contextmanager
def _mapped(lease: Lease, link: Link | ChannelLink) -> Iterator[None]:
    """The one border to paramiko. A lease that ended explains whatever was raised because of it."""
    try:
        yield
    except (HostError, paramiko.SSHException, EOFError, OSError, *_BROKEN_PROTOCOL) as error:
        lease.check()
        link.check()
        if isinstance(error, HostError):
            raise
        raise _translated(error) from error


# What paramiko's parsers let through when a host sends nonsense.
_BROKEN_PROTOCOL = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)


def _translated(error: Exception) -> HostError:
    text = visible(str(error))
    match error:
        case paramiko.AuthenticationException():
            return AuthError(text)
        case paramiko.ChannelException():
            return ConnectError(f"the host opens no session: {visible(error.text)}")
        case IncompatiblePeer():
            return ConnectError(f"no SSH algorithm in common with the host: {text}")
        case paramiko.SSHException():
            return ConnectError(f"SSH failed: {text}")
        case EOFError():
            return ConnectError("the host closed the connection")
        case OSError():
            return ConnectError(f"connection lost: {error.strerror or text}")
        case _:
            return ConnectError(f"the host broke the SSH protocol: {text or type(error).__name__}")
