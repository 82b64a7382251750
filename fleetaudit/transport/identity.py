"""Keys to offer: from files, with their certificates, and from ssh-agent, which is asked once per run."""

from __future__ import annotations

import contextlib
import copy
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import paramiko

from fleetaudit.errors import AuthError
from fleetaudit.text import visible
from fleetaudit.transport import certificates
from fleetaudit.transport.key_files import Certified, KeyFiles, Problem, public_half
from fleetaudit.transport.watchdog import Lease
from fleetaudit.transport.wire import string, strings

# draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6.
_LIST, _KEYS, _SIGN, _SIGNATURE = 11, 12, 13, 14
_RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
# Listing asks nobody; signing may wait for a person to confirm or to touch a token.
_LIST_SECONDS, _SIGN_SECONDS = 5.0, 30.0
_LARGEST_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """A key to try, and what to call it in a message."""

    label: str
    key: paramiko.PKey


class KeyRing:
    """Keys that are tried alike. One object serves every thread; `key_files` are those of the whole run."""

    def __init__(
        self,
        files: tuple[str, ...],
        agent_socket: str | None,
        certificates: tuple[str, ...],
        key_files: KeyFiles,
    ) -> None:
        self._files = files
        self._agent_socket = agent_socket
        self._certificates = certificates
        self._key_files = key_files
        self._lock = threading.Lock()
        self._agent_keys: tuple[tuple[bytes, str], ...] | None = None
        self._agent_problem = ""

    def offers(
        self, private_key: str | None, lease: Lease, *, only_named: bool = False
    ) -> tuple[list[Offer], list[str]]:
        """Keys to try in order, each after its certificates, and what kept others from it.

        With `only_named` the agent gives no key but those of the files. Raises AuthError when the key file
        a host names cannot be used and the agent cannot stand in.
        """
        files = (private_key,) if private_key else self._files
        offers: list[Offer] = []
        problems: list[str] = []
        for file in files:
            loaded = self._key_files.load(file)
            if isinstance(loaded, paramiko.PKey):
                offers += self._with_certificates(Offer(file, loaded), f"{file}-cert.pub")
            elif private_key or not loaded.missing:
                problems.append(loaded.text)
        held = self._from_agent(lease, public_half(private_key) if private_key else None)
        if self._agent_problem:
            problems.append(self._agent_problem)
        if private_key and not offers and not (held and self._is_encrypted(private_key)):
            raise AuthError("; ".join(problems))
        if only_named:
            named = {public_half(file) for file in files}
            held = [offer for offer in held if _plain(offer.key.asbytes()) in named]
        tried = {_proof(offer.key) for offer in offers}
        offers += [offer for offer in held if _proof(offer.key) not in tried]
        return offers, problems + self._unused(files)

    def locked(self, private_key: str | None, lease: Lease) -> list[str]:
        """Encrypted key files among those that `offers` tries, whose keys the agent does not hold."""
        files = (private_key,) if private_key else self._files
        encrypted = [file for file in files if self._is_encrypted(file)]
        held = {offer.key.asbytes() for offer in self._from_agent(lease, None)} if encrypted else set()
        return [file for file in encrypted if public_half(file) not in held]

    def _is_encrypted(self, file: str) -> bool:
        loaded = self._key_files.load(file)
        return isinstance(loaded, Problem) and loaded.encrypted

    def _with_certificates(self, offer: Offer, *beside: str) -> list[Offer]:
        certified = []
        for file in (*self._certificates, *beside):
            found = self._key_files.certificate(file)
            if isinstance(found, Certified) and found.key == offer.key.asbytes():
                key = copy.copy(offer.key)
                key.public_blob = found.blob
                note = f" ({found.note})" if found.note else ""
                certified.append(Offer(f"{offer.label} with {file}{note}", key))
        return [*certified, offer]

    def _unused(self, files: Sequence[str]) -> list[str]:
        """What is wrong with certificates; those beside a key file need not be there."""
        stated = [self._key_files.certificate(file) for file in self._certificates]
        beside = [self._key_files.certificate(f"{file}-cert.pub") for file in files]
        bad = [item for item in stated if isinstance(item, Problem)]
        bad += [item for item in beside if isinstance(item, Problem) and not item.missing]
        return [item.text for item in bad]

    def _from_agent(self, lease: Lease, first: bytes | None) -> list[Offer]:
        if self._agent_socket is None:
            return []
        with self._lock:
            if self._agent_keys is None:
                try:
                    self._agent_keys = _list(self._agent_socket, lease)
                except (OSError, ValueError, struct.error) as error:
                    lease.check()
                    self._agent_keys = ()
                    reason = getattr(error, "strerror", None) or str(error)
                    self._agent_problem = f"ssh-agent at {self._agent_socket} does not answer: {reason}"
            keys = sorted(self._agent_keys, key=lambda item: _plain(item[0]) != first)
        offers: list[Offer] = []
        for blob, comment in keys:
            offer = Offer(f"agent key {visible(comment)}", AgentKey(blob, self._agent_socket, lease))
            offers += self._with_certificates(offer)
        return offers


def _proof(key: paramiko.PKey) -> bytes:
    """What the host is shown: the certificate, or the public key."""
    return key.asbytes() if key.public_blob is None else key.public_blob.key_blob


def _plain(blob: bytes) -> bytes:
    """The public key, of a certificate the one in it."""
    with contextlib.suppress(ValueError):
        return certificates.parse(blob).key.blob
    return blob


class AgentKey(paramiko.PKey):
    """A private key that stays inside ssh-agent. Each signature is a connection of its own."""

    def __init__(self, blob: bytes, agent_socket: str, lease: Lease) -> None:
        self.public_blob = None
        self._blob = blob
        self._agent_socket = agent_socket
        self._lease = lease

    def asbytes(self) -> bytes:
        """The public key in SSH's encoding."""
        return self._blob

    def get_name(self) -> str:
        """The key type, as the public key says."""
        return strings(self._blob, 1)[0].decode("ascii", "replace")

    def can_sign(self) -> bool:
        """The agent does."""
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        """Have the agent sign. Raises SSHException when it will not."""
        flags = _RSA_FLAGS.get((algorithm or "").removesuffix("-cert-v01@openssh.com"), 0)
        request = bytes([_SIGN]) + string(self._blob) + string(bytes(data)) + struct.pack(">I", flags)
        try:
            answer = _ask(self._agent_socket, request, _SIGNATURE, self._lease, _SIGN_SECONDS)
            return paramiko.Message(strings(answer, 1)[0])
        except (OSError, ValueError, struct.error) as error:
            raise paramiko.SSHException("ssh-agent did not sign") from error


# ---------------------------------------------------------------- the agent protocol


def _list(agent_socket: str, lease: Lease) -> tuple[tuple[bytes, str], ...]:
    answer = _ask(agent_socket, bytes([_LIST]), _KEYS, lease, _LIST_SECONDS)
    (count,) = struct.unpack_from(">I", answer)
    parts = strings(answer[4:], 2 * count)
    return tuple(
        (blob, comment.decode("utf-8", "replace"))
        for blob, comment in zip(parts[::2], parts[1::2], strict=True)
    )


def _ask(agent_socket: str, request: bytes, expected: int, lease: Lease, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        lease.attach(lambda: _hang_up(connection))
        connection.settimeout(min(seconds, lease.remaining()))
        connection.connect(agent_socket)
        connection.sendall(string(request))
        with connection.makefile("rb") as stream:
            (length,) = struct.unpack(">I", stream.read(4))
            if not 1 <= length <= _LARGEST_ANSWER:
                raise ValueError("an answer of impossible size")
            answer = stream.read(length)
    if len(answer) != length or answer[0] != expected:
        raise ValueError("it refused")
    return answer[1:]


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
